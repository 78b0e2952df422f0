// The N-API face of the engine. emulator/native.ts declares its types and is the only file that imports it.
// Addresses and sizes are doubles (user space ends below 2^47); CPU secrets are BigInts.
#define NAPI_VERSION 8
#include <cstring>

#include "addon-memory.h"
#include "call.h"
#include "host-node.h"
#include "interrupts.h"

using namespace shimbed;

namespace {

CALL(run) {
  Call c(env, info, 0);
  CHECK
  c.engine().run();
  return nullptr;
}

CALL(interrupt) {
  BEGIN
  c.engine().interrupt();
  return nullptr;
}

CALL(registers) {
  BEGIN
  // Up to the segment registers; emulator/cpu.ts knows their places.
  return c.external(c.engine().env.p, offsetof(EnvHead, cr));
}

CALL(stopBlock) {
  BEGIN
  return c.external(&c.engine().stop, sizeof(StopBlock));
}

CALL(physicalChunk) {
  BEGIN
  uint64_t offset = c.address(0), length = c.address(1);
  CHECK
  Physical& p = *c.engine().physical;
  if (offset >= p.size() || length > p.size() - offset) {
    c.fail("beyond physical memory");
    return nullptr;
  }
  return c.external(p.base() + offset, length);
}

CALL(setFlags) {
  BEGIN
  uint64_t v = c.address(0);
  CHECK
  c.engine().setFlags(v);
  return nullptr;
}

CALL(setBreakpoints) {
  BEGIN
  double* addresses = c.doubles(0, Breakpoints::COUNT);
  uint32_t control = c.u32(1);
  CHECK
  c.engine().setBreakpoints(addresses, control);
  return nullptr;
}

CALL(kernelGsBase) {
  BEGIN
  return c.toBigInt(c.engine().env.kernelGsBase());
}

CALL(setKernelGsBase) {
  BEGIN
  uint64_t v = c.big(0);
  CHECK
  c.engine().env.kernelGsBase() = v;
  return nullptr;
}

CALL(loadSelector) {
  BEGIN
  uint32_t segment = c.u32(0), selector = c.u32(1);
  CHECK
  if (segment >= 6) c.fail("no such segment register");
  CHECK
  return c.toBoolean(c.engine().loadSelector(int(segment), uint16_t(selector)));
}

CALL(enterUser) {
  BEGIN
  bool wide = c.boolean(0);
  uint32_t cs = c.u32(1), ss = c.u32(2);
  CHECK
  if ((cs >> 3) >= 16 || (ss >> 3) >= 16) c.fail("no such descriptor");
  CHECK
  c.engine().enterUser(wide, uint16_t(cs), uint16_t(ss));
  return nullptr;
}

CALL(setFsGsBase) {
  BEGIN
  bool on = c.boolean(0);
  CHECK
  c.engine().setFsGsBase(on);
  return nullptr;
}

CALL(setStrictSegments) {
  BEGIN
  bool on = c.boolean(0);
  CHECK
  c.engine().setStrictSegments(on);
  return nullptr;
}

CALL(gdtFrame) {
  BEGIN
  return c.toNumber(c.engine().gdtFrame());
}

CALL(ldtSize) {
  BEGIN
  Space* s = c.engine().space(c.engine().activeId());
  return c.toNumber(s ? s->ldtEntries : 0);
}

CALL(resizeLdt) {
  BEGIN
  uint32_t entries = c.u32(0);
  CHECK
  return c.toBoolean(c.engine().resizeLdt(entries));
}

CALL(ldtEntry) {
  BEGIN
  uint32_t index = c.u32(0);
  CHECK
  uint64_t* e = c.engine().ldtEntry(index);
  return c.toBigInt(e ? *e : 0);
}

CALL(setLdtEntry) {
  BEGIN
  uint32_t index = c.u32(0);
  uint64_t v = c.big(1);
  CHECK
  uint64_t* e = c.engine().ldtEntry(index);
  if (!e) c.fail("beyond the LDT");
  CHECK
  *e = v;
  return nullptr;
}

constexpr size_t FXSAVE_SIZE = 512;

// The first argument: where the state of the processor's registers is, in so many bytes.
uint8_t* image(Call& c, size_t need) {
  size_t size;
  uint8_t* data = c.bytes(0, size);
  if (size < need) c.fail("the image is too small");
  return data;
}

CALL(saveContext) {
  BEGIN
  uint8_t* data = image(c, sizeof(Context));
  CHECK
  c.engine().save(*reinterpret_cast<Context*>(data));
  return nullptr;
}

CALL(restoreContext) {
  BEGIN
  uint8_t* data = image(c, sizeof(Context));
  CHECK
  c.engine().restore(*reinterpret_cast<const Context*>(data));
  return nullptr;
}

CALL(fxsave) {
  BEGIN
  uint8_t* data = image(c, FXSAVE_SIZE);
  CHECK
  c.engine().fxsave(data);
  return nullptr;
}

CALL(fxrstor) {
  BEGIN
  uint8_t* data = image(c, FXSAVE_SIZE);
  CHECK
  return c.toBoolean(c.engine().fxrstor(data));
}

CALL(xsave) {
  BEGIN
  uint8_t* data = image(c, XSAVE_SIZE);
  CHECK
  c.engine().xsave(data);
  return nullptr;
}

CALL(xrstor) {
  BEGIN
  uint8_t* data = image(c, XSAVE_SIZE);
  CHECK
  return c.toBoolean(c.engine().xrstor(data));
}

// What the host lacks to show guests x86-64-v3, as an array of names.
napi_value lacksForV3(napi_env env, napi_callback_info) {
  napi_value list;
  napi_create_array(env, &list);
  uint32_t count = 0;
  for (const std::string& name : hostLacksForV3()) {
    napi_value text;
    napi_create_string_utf8(env, name.c_str(), name.size(), &text);
    napi_set_element(env, list, count++, text);
  }
  return list;
}

constexpr napi_type_tag ENGINE_TAG = {0x8d1f3c5b7a904e26, 0xb2c4d6e8f0a11357};

void destroy(napi_env env, void* data, void*) {
  Handle* h = static_cast<Handle*>(data);
  // JavaScript may still hold views of memory that is about to go: they become empty.
  for (const View& view : h->buffers) {
    napi_value buffer = nullptr;
    if (napi_get_reference_value(env, view.reference, &buffer) == napi_ok && buffer) napi_detach_arraybuffer(env, buffer);
    napi_delete_reference(env, view.reference);
    int64_t adjusted;
    napi_adjust_external_memory(env, int64_t(view.length), &adjusted);
  }
  h->among->remove(h);
  delete h;
}

// Takes what `open` gave. At once: what a finalizer frees waits for the event loop, which may not turn for long.
napi_value close(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value object;
  bool tagged = false;
  void* data = nullptr;
  napi_get_cb_info(env, info, &count, &object, nullptr, nullptr);
  if (count < 1 || napi_check_object_type_tag(env, object, &ENGINE_TAG, &tagged) != napi_ok || !tagged) {
    napi_throw_type_error(env, nullptr, "what open() gave was expected");
  } else if (napi_unwrap(env, object, &data) != napi_ok) {
    napi_throw_error(env, nullptr, "the engine is closed");
  } else if (static_cast<Handle*>(data)->engine->running()) {
    napi_throw_error(env, nullptr, "the engine is running");
  } else {
    napi_remove_wrap(env, object, nullptr);
    destroy(env, data, nullptr);
  }
  return nullptr;
}

std::shared_ptr<Engines>& enginesOf(napi_env env) {
  void* data = nullptr;
  napi_get_instance_data(env, &data);
  return *static_cast<std::shared_ptr<Engines>*>(data);
}

napi_value open(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value args[2];
  napi_get_cb_info(env, info, &count, args, nullptr, nullptr);
  double window = 0;
  bool v3 = false;
  if (count > 1 && napi_get_value_bool(env, args[1], &v3) != napi_ok) {
    napi_throw_error(env, nullptr, "a boolean was expected");
    return nullptr;
  }
  if (v3 && !hostLacksForV3().empty()) {
    napi_throw_error(env, nullptr, "this host cannot show its guests x86-64-v3");
    return nullptr;
  }
  if (count < 1 || napi_get_value_double(env, args[0], &window) != napi_ok || !(window >= double(PAGE) && window <= 17592186044416.0)) {
    napi_throw_error(env, nullptr, "the size of physical memory was expected");
    return nullptr;
  }
  std::string error;
  auto engine = Engine::open(uint64_t(window) / PAGE * PAGE, v3 ? Processor::v3 : Processor::v2, error);
  if (!engine) {
    napi_throw_error(env, nullptr, error.c_str());
    return nullptr;
  }
  Handle* h = new Handle{std::move(engine), {}, enginesOf(env), 0};
  h->among->add(h);
  napi_value object, number;
  if (napi_create_object(env, &object) != napi_ok || napi_type_tag_object(env, object, &ENGINE_TAG) != napi_ok ||
      napi_create_uint32(env, h->number, &number) != napi_ok || napi_set_named_property(env, object, "number", number) != napi_ok ||
      napi_wrap(env, object, h, destroy, nullptr, nullptr) != napi_ok) {
    destroy(env, h, nullptr);
    napi_throw_error(env, nullptr, "cannot make the engine's object");
    return nullptr;
  }
  return object;
}

napi_value makeEngines(napi_env env) {
  auto* engines = new std::shared_ptr<Engines>(std::make_shared<Engines>());
  napi_set_instance_data(env, engines, [](napi_env, void* data, void*) { delete static_cast<std::shared_ptr<Engines>*>(data); }, nullptr);
#define METHOD(name) {#name, nullptr, name, nullptr, nullptr, nullptr, napi_default, engines->get()}
  const napi_property_descriptor methods[] = {
      METHOD(open), METHOD(close), METHOD(run), METHOD(interrupt), METHOD(registers), METHOD(stopBlock), METHOD(physicalChunk),
      METHOD(addSpace), METHOD(forkSpace), METHOD(removeSpace), METHOD(activate), METHOD(map), METHOD(unmap), METHOD(protect),
      METHOD(move), METHOD(discard), METHOD(retag), METHOD(find), METHOD(firstHole), METHOD(isFree), METHOD(region), METHOD(regionCount), METHOD(mappedBytes),
      METHOD(install), METHOD(resident), METHOD(residentPages), METHOD(translate), METHOD(copyOut), METHOD(copyIn),
      METHOD(allocateFrame), METHOD(retainFrame), METHOD(releaseFrame), METHOD(beforeWrite), METHOD(limitFrames),
      METHOD(usedFrames), METHOD(peakFrames), METHOD(setFlags), METHOD(kernelGsBase), METHOD(setKernelGsBase),
      METHOD(loadSelector), METHOD(enterUser), METHOD(setFsGsBase), METHOD(setStrictSegments), METHOD(gdtFrame),
      METHOD(ldtSize), METHOD(resizeLdt), METHOD(ldtEntry), METHOD(setLdtEntry), METHOD(saveContext), METHOD(restoreContext),
      METHOD(setBreakpoints), METHOD(fxsave), METHOD(fxrstor), METHOD(xsave), METHOD(xrstor)};
#undef METHOD
  napi_value object;
  napi_create_object(env, &object);
  napi_define_properties(env, object, sizeof methods / sizeof *methods, methods);
  return object;
}

napi_value init(napi_env env, napi_value exports) {
  napi_value version, contextSize, linked;
  unsigned major, minor;
  uc_version(&major, &minor);
  std::string text = std::to_string(major) + "." + std::to_string(minor);
  napi_create_string_utf8(env, text.c_str(), NAPI_AUTO_LENGTH, &version);
  napi_create_double(env, sizeof(Context), &contextSize);
  napi_get_boolean(env, SHIMBED_STATIC_UNICORN, &linked);
  const napi_property_descriptor properties[] = {
      {"catchSignals", nullptr, catchSignals, nullptr, nullptr, nullptr, napi_default, nullptr},
      {"takeSignal", nullptr, takeSignal, nullptr, nullptr, nullptr, napi_default, nullptr},
      {"alarm", nullptr, setAlarm, nullptr, nullptr, nullptr, napi_default, nullptr},
      {"alarmed", nullptr, alarmed, nullptr, nullptr, nullptr, napi_default, nullptr},
      {"poll", nullptr, pollHost, nullptr, nullptr, nullptr, napi_default, nullptr},
      {"makeNode", nullptr, makeNode, nullptr, nullptr, nullptr, napi_default, nullptr},
      {"lacksForV3", nullptr, lacksForV3, nullptr, nullptr, nullptr, napi_default, nullptr},
      {"engines", nullptr, nullptr, nullptr, nullptr, makeEngines(env), napi_default, nullptr},
      {"unicornVersion", nullptr, nullptr, nullptr, nullptr, version, napi_default, nullptr},
      {"contextSize", nullptr, nullptr, nullptr, nullptr, contextSize, napi_default, nullptr},
      {"staticUnicorn", nullptr, nullptr, nullptr, nullptr, linked, napi_default, nullptr}};
  napi_define_properties(env, exports, sizeof properties / sizeof *properties, properties);
  return exports;
}

}  // namespace

NAPI_MODULE(NODE_GYP_MODULE_NAME, init)
