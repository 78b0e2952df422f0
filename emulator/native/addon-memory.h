#pragma once
#include <node_api.h>

namespace shimbed {

// The methods of engines that deal with memory; addon.cc hangs them on an object.
napi_value addSpace(napi_env env, napi_callback_info info);
napi_value forkSpace(napi_env env, napi_callback_info info);
napi_value removeSpace(napi_env env, napi_callback_info info);
napi_value activate(napi_env env, napi_callback_info info);
napi_value map(napi_env env, napi_callback_info info);
napi_value unmap(napi_env env, napi_callback_info info);
napi_value protect(napi_env env, napi_callback_info info);
napi_value move(napi_env env, napi_callback_info info);
napi_value discard(napi_env env, napi_callback_info info);
napi_value retag(napi_env env, napi_callback_info info);
napi_value find(napi_env env, napi_callback_info info);
napi_value firstHole(napi_env env, napi_callback_info info);
napi_value isFree(napi_env env, napi_callback_info info);
napi_value region(napi_env env, napi_callback_info info);
napi_value regionCount(napi_env env, napi_callback_info info);
napi_value mappedBytes(napi_env env, napi_callback_info info);
napi_value install(napi_env env, napi_callback_info info);
napi_value resident(napi_env env, napi_callback_info info);
napi_value residentPages(napi_env env, napi_callback_info info);
napi_value translate(napi_env env, napi_callback_info info);
napi_value copyOut(napi_env env, napi_callback_info info);
napi_value copyIn(napi_env env, napi_callback_info info);
napi_value allocateFrame(napi_env env, napi_callback_info info);
napi_value retainFrame(napi_env env, napi_callback_info info);
napi_value releaseFrame(napi_env env, napi_callback_info info);
napi_value beforeWrite(napi_env env, napi_callback_info info);
napi_value limitFrames(napi_env env, napi_callback_info info);
napi_value usedFrames(napi_env env, napi_callback_info info);
napi_value peakFrames(napi_env env, napi_callback_info info);

}  // namespace shimbed
