// One call from JavaScript to the addon: the engine it is for and its arguments, checked as they are taken.
#pragma once
#ifndef NAPI_VERSION
#define NAPI_VERSION 8
#endif
#include <node_api.h>

#include <memory>
#include <vector>

#include "engine.h"

namespace shimbed {

struct View {
  napi_ref reference;
  size_t length;
};

struct Handle {
  std::unique_ptr<Engine> engine;
  std::vector<View> buffers;
};

class Call {
 public:
  Call(napi_env env, napi_callback_info info) : env_(env) {
    void* data = nullptr;
    count_ = 8;
    napi_get_cb_info(env, info, &count_, args_, nullptr, &data);
    handle_ = static_cast<Handle*>(data);
    if (!handle_->engine) fail("the engine is closed");
  }
  explicit operator bool() const { return ok_; }
  Engine& engine() const { return *handle_->engine; }
  Handle& handle() const { return *handle_; }
  napi_env env() const { return env_; }

  double number(size_t i) {
    double v = 0;
    if (i >= count_ || napi_get_value_double(env_, args_[i], &v) != napi_ok) fail("a number was expected");
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
    if (i >= count_ || napi_get_value_bool(env_, args_[i], &v) != napi_ok) fail("a boolean was expected");
    return v;
  }
  uint64_t big(size_t i) {
    uint64_t v = 0;
    bool lossless;
    if (i >= count_ || napi_get_value_bigint_uint64(env_, args_[i], &v, &lossless) != napi_ok) fail("a bigint was expected");
    return v;
  }
  uint8_t* bytes(size_t i, size_t& length) {
    napi_typedarray_type type;
    void* data = nullptr;
    length = 0;
    if (i >= count_ || napi_get_typedarray_info(env_, args_[i], &type, &length, &data, nullptr, nullptr) != napi_ok ||
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
    if (i >= count_ || napi_get_typedarray_info(env_, args_[i], &type, &length, &data, nullptr, nullptr) != napi_ok ||
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
  napi_env env_;
  napi_value args_[8];
  size_t count_;
  Handle* handle_;
  bool ok_ = true;
};

#define CALL(name) napi_value name(napi_env env, napi_callback_info info)
#define BEGIN       \
  Call c(env, info); \
  if (!c) return nullptr;
#define CHECK \
  if (!c) return nullptr;

}  // namespace shimbed
