// Names in directories of the host that Node has no call for: FIFOs and sockets.
#include <sys/stat.h>
#include <uv.h>

#include <cerrno>
#include <string>

#include "host-node.h"

namespace shimbed {

/** makeNode(path, mode): the path's bytes. Throws an error whose `code` is the errno's name, as Node's own calls do. */
napi_value makeNode(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value args[2];
  napi_get_cb_info(env, info, &count, args, nullptr, nullptr);
  void* bytes = nullptr;
  size_t length = 0;
  uint32_t mode = 0;
  bool buffer = false;
  if (count < 2 || napi_is_buffer(env, args[0], &buffer) != napi_ok || !buffer ||
      napi_get_buffer_info(env, args[0], &bytes, &length) != napi_ok || napi_get_value_uint32(env, args[1], &mode) != napi_ok ||
      ((mode & S_IFMT) != S_IFIFO && (mode & S_IFMT) != S_IFSOCK)) {
    napi_throw_error(env, nullptr, "a buffer and the mode of a FIFO or a socket were expected");
    return nullptr;
  }
  std::string path(static_cast<const char*>(bytes), length);
  mode_t permissions = mode & 07777;
  int failed = (mode & S_IFMT) == S_IFIFO ? mkfifo(path.c_str(), permissions) : mknod(path.c_str(), S_IFSOCK | permissions, 0);
  if (failed != 0) {
    int error = uv_translate_sys_error(errno);
    napi_throw_error(env, uv_err_name(error), uv_strerror(error));
  }
  return nullptr;
}

}  // namespace shimbed
