// What ends a guest's run from outside it: SIGINT, SIGTERM and a time limit; and waiting for host descriptors in a way
// that those end too.
#pragma once
#include <node_api.h>

namespace shimbed {

/** A signal that nobody has taken yet, or the time limit: runs end at once. */
bool interruptionPending();

napi_value catchSignals(napi_env env, napi_callback_info info);
napi_value takeSignal(napi_env env, napi_callback_info info);
napi_value setAlarm(napi_env env, napi_callback_info info);
napi_value alarmed(napi_env env, napi_callback_info info);
napi_value pollHost(napi_env env, napi_callback_info info);

}  // namespace shimbed
