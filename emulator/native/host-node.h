#pragma once
#include <node_api.h>

namespace shimbed {

napi_value makeNode(napi_env env, napi_callback_info info);

}  // namespace shimbed
