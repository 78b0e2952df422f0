#define NAPI_VERSION 8
#include "interrupts.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <time.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "engine.h"

namespace shimbed {

namespace {

// A signal may arrive between two instructions of libunicorn's own start-up, where a stop would be forgotten; so a
// pending reason stays set, and the alarm thread knocks again until it is taken.
std::atomic<int> pendingSignal{0};
std::atomic<bool> alarmGone{false};
struct sigaction oldInt, oldTerm;
bool catching = false;

void onSignal(int number) {
  if (number != SIGURG) {
    if (pendingSignal.exchange(number) != 0) {
      // The second Ctrl-C: whoever waits does not hear the first, so end as without us.
      signal(number, SIG_DFL);
      raise(number);
      return;
    }
  }
  if (Engine* e = currentEngine()) e->interrupt();
}

class Alarm {
 public:
  ~Alarm() { cancel(); }
  void set(double milliseconds) {
    cancel();
    alarmGone = false;
    stop_ = false;
    target_ = pthread_self();
    struct sigaction action {};
    action.sa_handler = onSignal;
    sigaction(SIGURG, &action, nullptr);
    thread_ = std::thread([this, milliseconds] {
      sigset_t all;
      sigfillset(&all);
      pthread_sigmask(SIG_BLOCK, &all, nullptr);
      auto until = std::chrono::steady_clock::now() + std::chrono::duration<double, std::milli>(milliseconds);
      while (!stop_) {
        auto now = std::chrono::steady_clock::now();
        if (now >= until) {
          alarmGone = true;
          pthread_kill(target_, SIGURG);
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(now >= until ? 20 : 5));
      }
    });
  }
  void cancel() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
    alarmGone = false;
  }

 private:
  std::thread thread_;
  std::atomic<bool> stop_{false};
  pthread_t target_{};
};

Alarm& theAlarm() {
  static Alarm alarm;
  return alarm;
}

napi_value undefined(napi_env env) {
  napi_value v;
  napi_get_undefined(env, &v);
  return v;
}

napi_value failed(napi_env env, const char* message) {
  napi_throw_type_error(env, nullptr, message);
  return nullptr;
}

}  // namespace

bool interruptionPending() { return pendingSignal != 0 || alarmGone; }

napi_value catchSignals(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value arg;
  bool on = false;
  napi_get_cb_info(env, info, &count, &arg, nullptr, nullptr);
  if (count < 1 || napi_get_value_bool(env, arg, &on) != napi_ok) return failed(env, "a boolean was expected");
  if (on && !catching) {
    struct sigaction action {};
    action.sa_handler = onSignal;
    pendingSignal = 0;
    sigaction(SIGINT, &action, &oldInt);
    sigaction(SIGTERM, &action, &oldTerm);
  } else if (!on && catching) {
    sigaction(SIGINT, &oldInt, nullptr);
    sigaction(SIGTERM, &oldTerm, nullptr);
  }
  catching = on;
  return undefined(env);
}

napi_value takeSignal(napi_env env, napi_callback_info) {
  napi_value v;
  napi_create_int32(env, pendingSignal.exchange(0), &v);
  return v;
}

napi_value setAlarm(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value arg;
  double ms = 0;
  napi_get_cb_info(env, info, &count, &arg, nullptr, nullptr);
  if (count < 1 || napi_get_value_double(env, arg, &ms) != napi_ok || !(ms >= 0)) return failed(env, "milliseconds were expected");
  if (ms > 0) theAlarm().set(ms);
  else theAlarm().cancel();
  return undefined(env);
}

napi_value alarmed(napi_env env, napi_callback_info) {
  napi_value v;
  napi_get_boolean(env, alarmGone, &v);
  return v;
}

napi_value pollHost(napi_env env, napi_callback_info info) {
  size_t count = 3;
  napi_value args[3];
  napi_get_cb_info(env, info, &count, args, nullptr, nullptr);
  napi_typedarray_type type;
  size_t length = 0, length2 = 0;
  void *fds = nullptr, *events = nullptr;
  double timeout = 0;
  if (count < 3 || napi_get_typedarray_info(env, args[0], &type, &length, &fds, nullptr, nullptr) != napi_ok ||
      type != napi_int32_array || napi_get_typedarray_info(env, args[1], &type, &length2, &events, nullptr, nullptr) != napi_ok ||
      type != napi_int32_array || length != length2 || napi_get_value_double(env, args[2], &timeout) != napi_ok) {
    return failed(env, "two Int32Arrays of one length and milliseconds were expected");
  }
  std::vector<pollfd> list(length);
  for (size_t i = 0; i < length; i++) {
    list[i] = pollfd{static_cast<int32_t*>(fds)[i], short(static_cast<int32_t*>(events)[i]), 0};
  }
  napi_value result;
  // ppoll changes nothing about signals here; a signal that is already pending is seen before the wait begins.
  int ready = -1;
  if (!interruptionPending()) {
    timespec t{};
    t.tv_sec = time_t(timeout / 1000);
    t.tv_nsec = long((timeout - double(t.tv_sec) * 1000) * 1e6);
    ready = ppoll(list.data(), list.size(), timeout < 0 ? nullptr : &t, nullptr);
  }
  if (ready < 0) {
    napi_get_null(env, &result);
    return result;
  }
  napi_value buffer;
  void* data = nullptr;
  if (napi_create_arraybuffer(env, length * 4, &data, &buffer) != napi_ok) return failed(env, "out of memory");
  for (size_t i = 0; i < length; i++) static_cast<int32_t*>(data)[i] = list[i].revents;
  napi_create_typedarray(env, napi_int32_array, length, buffer, 0, &result);
  return result;
}

}  // namespace shimbed
