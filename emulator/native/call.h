// One call from JavaScript to the addon: the engine it is for and its arguments, checked as they are taken.
#pragma once
#ifndef NAPI_VERSION
#define NAPI_VERSION 8
#endif
#include <node_api.h>

#include <memory>
#include <unordered_map>
#include <vector>

#include "engine.h"

namespace shimbed {

struct View {
  napi_ref reference;
  size_t length;
};

class Engines;

struct Handle {
  std::unique_ptr<Engine> engine;
  std::vector<View> buffers;
  std::shared_ptr<Engines> among;
  uint32_t number;
};

// Those of one environment of Node, by numbers that are not used again. Their methods are functions made once, which
// take the number first: functions made for each engine would stay until the event loop turns, and looking the engine up
// through the object that a method is called on costs as much as a short run.
class Engines {
 public:
  Handle* find(uint32_t number) {
    if (last_ && last_->number == number) return last_;
    auto it = open_.find(number);
    return it == open_.end() ? nullptr : last_ = it->second;
  }
  void add(Handle* h) {
    h->number = next_++;
    open_[h->number] = h;
  }
  void remove(Handle* h) {
    open_.erase(h->number);
    last_ = nullptr;
  }

 private:
  std::unordered_map<uint32_t, Handle*> open_;
  Handle* last_ = nullptr;
  uint32_t next_ = 1;
};

class Call {
 public:
  // `most`: how many arguments are looked at.
  Call(napi_env env, napi_callback_info info, size_t most = MOST_ARGUMENTS - 1) : env_(env), count_(1 + most) {
    void* engines = nullptr;
    napi_get_cb_info(env, info, &count_, args_, nullptr, &engines);
    uint32_t number;
    if (count_ && napi_get_value_uint32(env, args_[0], &number) == napi_ok)
      handle_ = static_cast<Engines*>(engines)->find(number);
    if (!handle_) fail("the engine is closed");
  }
  explicit operator bool() const { return ok_; }
  Engine& engine() const { return *handle_->engine; }
  Handle& handle() const { return *handle_; }
  napi_env env() const { return env_; }

  double number(size_t i) {
    double v = 0;
    if (++i >= count_ || napi_get_value_double(env_, args_[i], &v) != napi_ok) fail("a number was expected");
    return v;
  }
  uint64_t address(size_t i) {
    double v = number(i);
    if (!(v >= 0 && v <= 9007199254740992.0)) {
      fail("an address or size was expected");
      return 0;
    }
    return uint64_t(v);
  }
  uint32_t u32(size_t i) {
    uint64_t v = address(i);
    if (v > 0xffffffffu) {
      fail("a 32-bit number was expected");
      return 0;
    }
    return uint32_t(v);
  }
  bool boolean(size_t i) {
    bool v = false;
    if (++i >= count_ || napi_get_value_bool(env_, args_[i], &v) != napi_ok) fail("a boolean was expected");
    return v;
  }
  uint64_t big(size_t i) {
    uint64_t v = 0;
    bool lossless;
    if (++i >= count_ || napi_get_value_bigint_uint64(env_, args_[i], &v, &lossless) != napi_ok) fail("a bigint was expected");
    return v;
  }
  uint8_t* bytes(size_t i, size_t& length) {
    napi_typedarray_type type;
    void* data = nullptr;
    length = 0;
    if (++i >= count_ || napi_get_typedarray_info(env_, args_[i], &type, &length, &data, nullptr, nullptr) != napi_ok ||
        type != napi_uint8_array) {
      fail("a Uint8Array was expected");
      return nullptr;
    }
    return static_cast<uint8_t*>(data);
  }
  double* doubles(size_t i, size_t need) {
    napi_typedarray_type type;
    void* data = nullptr;
    size_t length = 0;
    if (++i >= count_ || napi_get_typedarray_info(env_, args_[i], &type, &length, &data, nullptr, nullptr) != napi_ok ||
        type != napi_float64_array || length < need) {
      fail("a Float64Array was expected");
      return nullptr;
    }
    return static_cast<double*>(data);
  }
  uint32_t spaceId(size_t i) {
    uint32_t id = u32(i);
    if (ok_ && !engine().space(id)) fail("no such address space");
    return id;
  }
  void fail(const char* message) {
    if (ok_) napi_throw_error(env_, nullptr, message);
    ok_ = false;
  }
  napi_value toNumber(double v) {
    napi_value r;
    napi_create_double(env_, v, &r);
    return r;
  }
  napi_value toBoolean(bool v) {
    napi_value r;
    napi_get_boolean(env_, v, &r);
    return r;
  }
  napi_value toBigInt(uint64_t v) {
    napi_value r;
    napi_create_bigint_uint64(env_, v, &r);
    return r;
  }
  napi_value external(void* data, size_t length) {
    napi_value r = nullptr;
    // The collector would take the whole window for garbage pressure, though it costs nothing until it is touched.
    int64_t adjusted;
    napi_adjust_external_memory(env_, -int64_t(length), &adjusted);
    if (napi_create_external_arraybuffer(env_, data, length, nullptr, nullptr, &r) != napi_ok) {
      napi_adjust_external_memory(env_, int64_t(length), &adjusted);
      fail("cannot show the engine's memory to JavaScript");
      return nullptr;
    }
    napi_ref ref;
    if (napi_create_reference(env_, r, 0, &ref) == napi_ok) handle_->buffers.push_back({ref, length});
    return r;
  }

 private:
  static constexpr size_t MOST_ARGUMENTS = 9;
  napi_env env_;
  napi_value args_[MOST_ARGUMENTS];  // the engine's number, then those that the functions above count from 0
  size_t count_;
  Handle* handle_ = nullptr;
  bool ok_ = true;
};

#define CALL(name) napi_value name(napi_env env, napi_callback_info info)
#define BEGIN       \
  Call c(env, info); \
  if (!c) return nullptr;
#define CHECK \
  if (!c) return nullptr;

}  // namespace shimbed
