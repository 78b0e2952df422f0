// Address spaces and frames, as JavaScript asks for them.
#include <cstring>

#include "addon-memory.h"
#include "call.h"

namespace shimbed {

namespace {
bool range(Call& c, uint64_t start, uint64_t end, const Space& s) {
  if (start > end || end > s.limit() || (start | end) % PAGE) c.fail("not a page range of this address space");
  return bool(c);
}

// Memory in from the side of the shim: the physical address, or a negative Miss.
int64_t reach(Engine& e, Space& s, uint64_t address, Access access) {
  uint32_t before = s.changes;
  int64_t at = s.translate(address, access);
  if (s.changes != before) e.changed(s, address, address + 1);
  if (at >= 0 && access == WRITE) e.beforeWrite(uint32_t(uint64_t(at) / PAGE));
  return at;
}
}  // namespace

CALL(addSpace) {
  BEGIN
  uint64_t limit = c.address(0);
  CHECK
  return c.toNumber(c.engine().addSpace(limit));
}

CALL(forkSpace) {
  BEGIN
  uint32_t id = c.spaceId(0);
  CHECK
  return c.toNumber(c.engine().forkSpace(id));
}

CALL(removeSpace) {
  BEGIN
  uint32_t id = c.spaceId(0);
  CHECK
  c.engine().removeSpace(id);
  return nullptr;
}

CALL(activate) {
  BEGIN
  uint32_t id = c.spaceId(0);
  CHECK
  c.engine().activate(id);
  return nullptr;
}

CALL(map) {
  BEGIN
  uint32_t id = c.spaceId(0);
  uint64_t start = c.address(1), end = c.address(2);
  uint32_t prot = c.u32(3), tag = c.u32(4);
  bool shared = c.boolean(5), paged = c.boolean(6), grows = c.boolean(7);
  CHECK
  Space& s = *c.engine().space(id);
  if (!range(c, start, end, s)) return nullptr;
  if (start == end) return nullptr;
  uint32_t before = s.changes;
  s.map(start, end, Region{end, tag, uint8_t(prot & 7), shared, paged, grows});
  if (s.changes != before) c.engine().changed(s, start, end);
  return nullptr;
}

CALL(unmap) {
  BEGIN
  uint32_t id = c.spaceId(0);
  uint64_t start = c.address(1), end = c.address(2);
  CHECK
  Space& s = *c.engine().space(id);
  if (!range(c, start, end, s)) return nullptr;
  uint32_t before = s.changes;
  s.unmap(start, end);
  if (s.changes != before) c.engine().changed(s, start, end);
  return nullptr;
}

CALL(protect) {
  BEGIN
  uint32_t id = c.spaceId(0);
  uint64_t start = c.address(1), end = c.address(2);
  uint32_t prot = c.u32(3);
  CHECK
  Space& s = *c.engine().space(id);
  if (!range(c, start, end, s)) return nullptr;
  uint32_t before = s.changes;
  s.protect(start, end, uint8_t(prot & 7));
  if (s.changes != before) c.engine().changed(s, start, end);
  return nullptr;
}

CALL(move) {
  BEGIN
  uint32_t id = c.spaceId(0);
  uint64_t from = c.address(1), length = c.address(2), to = c.address(3);
  CHECK
  Space& s = *c.engine().space(id);
  if (from < to + length && to < from + length) c.fail("the two ranges overlap");
  CHECK
  if (!range(c, from, from + length, s) || !range(c, to, to + length, s)) return nullptr;
  s.move(from, length, to);
  c.engine().changed(s);
  return nullptr;
}

CALL(discard) {
  BEGIN
  uint32_t id = c.spaceId(0);
  uint64_t start = c.address(1), end = c.address(2);
  CHECK
  Space& s = *c.engine().space(id);
  if (!range(c, start, end, s)) return nullptr;
  uint32_t before = s.changes;
  s.discard(start, end);
  if (s.changes != before) c.engine().changed(s, start, end);
  return nullptr;
}

CALL(retag) {
  BEGIN
  uint32_t id = c.spaceId(0);
  uint64_t start = c.address(1), end = c.address(2);
  uint32_t tag = c.u32(3);
  CHECK
  Space& s = *c.engine().space(id);
  if (range(c, start, end, s)) s.retag(start, end, tag);
  return nullptr;
}

CALL(find) {
  BEGIN
  uint32_t id = c.spaceId(0);
  uint64_t length = c.address(1), low = c.address(2), high = c.address(3);
  CHECK
  return c.toNumber(double(c.engine().space(id)->find(length, low, high)));
}

CALL(firstHole) {
  BEGIN
  uint32_t id = c.spaceId(0);
  uint64_t start = c.address(1), end = c.address(2);
  CHECK
  return c.toNumber(double(c.engine().space(id)->firstHole(start, end)));
}

CALL(isFree) {
  BEGIN
  uint32_t id = c.spaceId(0);
  uint64_t start = c.address(1), end = c.address(2);
  CHECK
  return c.toBoolean(c.engine().space(id)->isFree(start, end));
}

// The region that holds the address or the next one above it, as six numbers; false when there is none.
CALL(region) {
  BEGIN
  uint32_t id = c.spaceId(0);
  uint64_t address = c.address(1);
  double* out = c.doubles(2, 7);
  CHECK
  const Space& s = *c.engine().space(id);
  auto it = s.regionAt(address);
  if (it == s.regions().end()) it = s.regions().lower_bound(address);
  if (it == s.regions().end()) return c.toBoolean(false);
  out[0] = double(it->first);
  out[1] = double(it->second.end);
  out[2] = it->second.prot;
  out[3] = it->second.tag;
  out[4] = it->second.shared;
  out[5] = it->second.paged;
  out[6] = it->second.grows;
  return c.toBoolean(true);
}

CALL(regionCount) {
  BEGIN
  uint32_t id = c.spaceId(0);
  CHECK
  return c.toNumber(double(c.engine().space(id)->regions().size()));
}

CALL(mappedBytes) {
  BEGIN
  uint32_t id = c.spaceId(0);
  CHECK
  return c.toNumber(double(c.engine().space(id)->mapped()));
}

CALL(install) {
  BEGIN
  uint32_t id = c.spaceId(0);
  uint64_t address = c.address(1);
  uint32_t frame = c.u32(2);
  CHECK
  return c.toBoolean(c.engine().space(id)->install(address, frame));
}

CALL(resident) {
  BEGIN
  uint32_t id = c.spaceId(0);
  uint64_t address = c.address(1);
  CHECK
  return c.toBoolean(c.engine().space(id)->resident(address));
}

CALL(residentPages) {
  BEGIN
  uint32_t id = c.spaceId(0);
  CHECK
  return c.toNumber(double(c.engine().space(id)->residentPages()));
}

CALL(translate) {
  BEGIN
  uint32_t id = c.spaceId(0);
  uint64_t address = c.address(1);
  uint32_t access = c.u32(2);
  if (access > FETCH) c.fail("no such access");
  CHECK
  return c.toNumber(double(reach(c.engine(), *c.engine().space(id), address, Access(access))));
}

static napi_value copy(napi_env env, napi_callback_info info, Access access) {
  BEGIN
  uint32_t id = c.spaceId(0);
  uint64_t address = c.address(1);
  size_t size;
  uint8_t* data = c.bytes(2, size);
  uint64_t offset = c.address(3), length = c.address(4);
  CHECK
  if (offset > size || length > size - offset) {
    c.fail("the buffer is too small");
    return nullptr;
  }
  Engine& e = c.engine();
  Space& s = *e.space(id);
  uint64_t done = 0;
  while (done < length) {
    int64_t at = reach(e, s, address + done, access);
    if (at < 0) break;
    uint64_t n = PAGE - ((address + done) & (PAGE - 1));
    if (n > length - done) n = length - done;
    uint8_t* guest = e.physical->base() + at;
    if (access == WRITE) std::memcpy(guest, data + offset + done, n);
    else std::memcpy(data + offset + done, guest, n);
    done += n;
  }
  return c.toNumber(double(done));
}

CALL(copyOut) { return copy(env, info, READ); }
CALL(copyIn) { return copy(env, info, WRITE); }

CALL(allocateFrame) {
  BEGIN
  return c.toNumber(c.engine().physical->allocate());
}

CALL(retainFrame) {
  BEGIN
  uint32_t frame = c.u32(0);
  CHECK
  if (!c.engine().physical->valid(frame)) c.fail("no such frame");
  CHECK
  c.engine().physical->retain(frame);
  return nullptr;
}

CALL(releaseFrame) {
  BEGIN
  uint32_t frame = c.u32(0);
  CHECK
  if (!c.engine().physical->valid(frame)) c.fail("no such frame");
  CHECK
  c.engine().physical->release(frame);
  c.engine().sweepStaleCode();
  return nullptr;
}

CALL(beforeWrite) {
  BEGIN
  uint32_t frame = c.u32(0);
  CHECK
  if (!c.engine().physical->valid(frame)) c.fail("no such frame");
  CHECK
  c.engine().beforeWrite(frame);
  return nullptr;
}

CALL(limitFrames) {
  BEGIN
  uint64_t pages = c.address(0);
  CHECK
  c.engine().physical->limit = pages;
  return nullptr;
}

CALL(usedFrames) {
  BEGIN
  return c.toNumber(double(c.engine().physical->used()));
}

CALL(peakFrames) {
  BEGIN
  return c.toNumber(double(c.engine().physical->peak()));
}

}  // namespace shimbed
