#include "memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace shimbed {

namespace {
constexpr uint64_t RWX = 7;

void* reserve(uint64_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p == MAP_FAILED ? nullptr : p;
}

// x86 has no write-only and no execute-only page without protection keys.
bool permits(uint64_t prot, Access access) {
  switch (access) {
    case WRITE:
      return prot & PROT_W;
    case FETCH:
      return prot & PROT_X;
    default:
      return prot & (PROT_R | PROT_W | PROT_X);
  }
}
}  // namespace

Physical::Physical(uint64_t windowBytes) : size_(windowBytes) {
  base_ = static_cast<uint8_t*>(reserve(windowBytes));
  info_ = static_cast<Info*>(reserve(windowBytes / PAGE * sizeof(Info)));
}

Physical::~Physical() {
  if (base_) munmap(base_, size_);
  if (info_) munmap(info_, size_ / PAGE * sizeof(Info));
}

uint32_t Physical::allocate() {
  if (used_ >= limit) return 0;
  uint32_t frame;
  if (!free_.empty()) {
    frame = free_.back();
    free_.pop_back();
    std::memset(page(frame), 0, PAGE);
  } else {
    if (uint64_t(next_) * PAGE >= size_) return 0;
    frame = next_++;
  }
  info_[frame].refs = 1;
  if (++used_ > peak_) peak_ = used_;
  return frame;
}

void Physical::release(uint32_t frame) {
  if (--info_[frame].refs != 0) return;
  used_--;
  if (info_[frame].code) staleCode.push_back(frame);
  free_.push_back(frame);
}

Space::Space(Physical& physical, uint64_t limit)
    : physical_(physical), limit_(limit), root_(static_cast<Table*>(std::calloc(1, sizeof(Table)))) {}

Space::~Space() {
  freeTable(root_, 3);
  for (uint32_t f : ldtFrames) physical_.release(f);
}

void Space::freeTable(Table* t, int level) {
  if (!t) return;
  for (uint64_t s : t->slot) {
    if (!s) continue;
    if (level > 0) freeTable(reinterpret_cast<Table*>(s), level - 1);
    else if (s & PRESENT) physical_.release(uint32_t(s >> FRAME_SHIFT));
  }
  std::free(t);
}

Space::Entry* Space::walk(uint64_t address, bool create) {
  uint64_t leafPage = address >> 21;
  Leaf& leaf = leaves_[leafPage % LEAVES];
  if (leaf.page != leafPage) {
    Table* t = root_;
    for (int shift = 39; shift > 12; shift -= 9) {
      uint64_t& s = t->slot[(address >> shift) & 511];
      if (!s) {
        if (!create) return nullptr;
        s = reinterpret_cast<uint64_t>(std::calloc(1, sizeof(Table)));
        if (!s) return nullptr;
      }
      t = reinterpret_cast<Table*>(s);
    }
    leaf = {leafPage, t->slot};
  }
  return leaf.entries + ((address >> 12) & 511);
}

// Calls f(entry, address) for every entry in [start, end) whose table exists, skipping the empty parts of the tree.
template <typename F>
void Space::forEach(uint64_t start, uint64_t end, F f) {
  for (uint64_t a = start; a < end;) {
    Table* t = root_;
    int shift = 39;
    for (; shift > 12; shift -= 9) {
      uint64_t s = t->slot[(a >> shift) & 511];
      if (!s) break;
      t = reinterpret_cast<Table*>(s);
    }
    if (shift > 12) {
      uint64_t span = uint64_t(1) << shift;
      a = (a & ~(span - 1)) + span;
      continue;
    }
    uint64_t tableEnd = (a & ~((uint64_t(1) << 21) - 1)) + (uint64_t(1) << 21);
    for (; a < end && a < tableEnd; a += PAGE) {
      Entry& e = t->slot[(a >> 12) & 511];
      if (e) f(e, a);
    }
  }
}

void Space::drop(Entry& e) {
  if (e & PRESENT) {
    physical_.release(uint32_t(e >> FRAME_SHIFT));
    resident_--;
  }
  e = 0;
}

std::map<uint64_t, Region>::const_iterator Space::regionAt(uint64_t address) const {
  auto it = regions_.upper_bound(address);
  if (it == regions_.begin()) return regions_.end();
  --it;
  return address < it->second.end ? it : regions_.end();
}

void Space::split(uint64_t at) {
  auto it = regions_.upper_bound(at);
  if (it == regions_.begin()) return;
  --it;
  if (it->first == at || it->second.end <= at) return;
  Region upper = it->second;
  it->second.end = at;
  regions_.emplace_hint(std::next(it), at, upper);
}

// Joins neighbours of one kind in and at the edges of [start, end), as the kernel merges VMAs.
void Space::mergeAround(uint64_t start, uint64_t end) {
  auto it = regions_.lower_bound(start);
  if (it != regions_.begin()) --it;
  while (it != regions_.end() && it->first <= end) {
    auto next = std::next(it);
    if (next != regions_.end() && next->first == it->second.end && next->second == it->second) {
      it->second.end = next->second.end;
      regions_.erase(next);
    } else {
      it = next;
    }
  }
}

void Space::map(uint64_t start, uint64_t end, const Region& region) {
  unmap(start, end);
  Region r = region;
  r.end = end;
  regions_[start] = r;
  mapped_ += end - start;
  mergeAround(start, end);
}

void Space::unmap(uint64_t start, uint64_t end) {
  auto it = regions_.upper_bound(start);
  if (it != regions_.begin()) --it;
  bool any = false;
  for (; it != regions_.end() && it->first < end; ++it) any = any || it->second.end > start;
  if (!any) return;
  split(start);
  split(end);
  auto first = regions_.lower_bound(start), last = regions_.lower_bound(end);
  for (it = first; it != last; ++it) mapped_ -= it->second.end - it->first;
  regions_.erase(first, last);
  freed(end);
  dropAll(start, end);
}

void Space::dropAll(uint64_t start, uint64_t end) {
  uint64_t before = resident_;
  forEach(start, end, [this](Entry& e, uint64_t) { drop(e); });
  if (resident_ != before) changes++;
}

// Keeps what find() remembers true after the range below `end` was freed.
void Space::freed(uint64_t end) {
  if (end <= searchTop_) return;
  auto next = regions_.lower_bound(end);
  searchTop_ = next == regions_.end() ? searchHigh_ : std::min(searchHigh_, std::max(searchTop_, next->first));
}

uint64_t Space::firstHole(uint64_t start, uint64_t end) const {
  uint64_t a = start;
  for (auto it = regionAt(a); a < end; a = it->second.end, it = regionAt(a)) {
    if (it == regions_.end()) return a;
  }
  return end;
}

bool Space::isFree(uint64_t start, uint64_t end) const {
  auto it = regions_.lower_bound(start);
  if (it != regions_.end() && it->first < end) return false;
  return it == regions_.begin() || std::prev(it)->second.end <= start;
}

void Space::protect(uint64_t start, uint64_t end, uint8_t prot) {
  split(start);
  split(end);
  for (auto it = regions_.lower_bound(start); it != regions_.end() && it->first < end; ++it) it->second.prot = prot;
  mergeAround(start, end);
  bool any = false;
  forEach(start, end, [&](Entry& e, uint64_t) {
    any = any || (e & RWX) != prot;
    e = (e & ~RWX) | prot;
  });
  if (any) changes++;
}

// Moves regions and page entries; [to, to + length) must be free or is replaced. Tags stay, so the owner of the space
// has to give the target a tag whose offsets fit.
void Space::move(uint64_t from, uint64_t length, uint64_t to) {
  unmap(to, to + length);
  split(from);
  split(from + length);
  std::vector<std::pair<uint64_t, Region>> moved;
  auto first = regions_.lower_bound(from), last = regions_.lower_bound(from + length);
  for (auto it = first; it != last; ++it) moved.emplace_back(*it);
  regions_.erase(first, last);
  freed(from + length);
  for (auto& [start, region] : moved) {
    Region r = region;
    r.end = r.end - from + to;
    regions_[start - from + to] = r;
  }
  std::vector<std::pair<uint64_t, Entry>> entries;
  forEach(from, from + length, [&](Entry& e, uint64_t a) {
    entries.emplace_back(a - from + to, e);
    e = 0;
  });
  for (auto& [a, e] : entries) {
    Entry* target = walk(a, true);
    if (target) *target = e;
  }
  mergeAround(to, to + length);
  changes++;
}

void Space::retag(uint64_t start, uint64_t end, uint32_t tag) {
  split(start);
  split(end);
  for (auto it = regions_.lower_bound(start); it != regions_.end() && it->first < end; ++it) it->second.tag = tag;
  mergeAround(start, end);
}

void Space::discard(uint64_t start, uint64_t end) { dropAll(start, end); }

// The highest gap of `length` bytes inside [low, high), as Linux's top-down search finds it.
int64_t Space::find(uint64_t length, uint64_t low, uint64_t high) {
  if (high < low || high - low < length) return -1;
  // No gap of `known` bytes lies in [top, high).
  uint64_t top = high, known = 1;
  // Without this, mapping n pages one by one would walk n regions for each.
  if (high == searchHigh_ && length >= searchLength_) {
    top = searchTop_;
    known = searchLength_;
  }
  auto it = regions_.lower_bound(top);
  if (it != regions_.end()) top = std::min(top, lowestBelow(it));
  while (true) {
    uint64_t floor = it == regions_.begin() ? 0 : std::prev(it)->second.end;
    if (floor < low) floor = low;
    bool fits = floor <= top && top - floor >= length;
    if (fits || it == regions_.begin() || std::prev(it)->first < low + length) {
      searchHigh_ = high;
      searchTop_ = top;
      searchLength_ = known;
      return fits ? int64_t(top - length) : -1;
    }
    if (floor < top) known = std::max(known, top - floor + 1);
    --it;
    top = std::min(top, lowestBelow(it));
  }
}

// Where free space below a region ends.
uint64_t Space::lowestBelow(std::map<uint64_t, Region>::const_iterator it) const {
  if (!it->second.grows) return it->first;
  return it->first > STACK_GUARD ? it->first - STACK_GUARD : 0;
}

std::unique_ptr<Space> Space::fork() {
  auto child = std::make_unique<Space>(physical_, limit_);
  child->regions_ = regions_;
  child->mapped_ = mapped_;
  for (auto& [start, region] : regions_) {
    forEach(start, region.end, [&](Entry& e, uint64_t a) {
      if (!(e & PRESENT)) return;
      if (!(e & SHARED)) e |= COW;
      Entry* c = child->walk(a, true);
      if (!c) return;
      *c = e;
      physical_.retain(uint32_t(e >> FRAME_SHIFT));
      child->resident_++;
    });
  }
  for (uint32_t f : ldtFrames) {
    uint32_t copy = physical_.allocate();
    if (!copy) break;
    std::memcpy(physical_.page(copy), physical_.page(f), PAGE);
    child->ldtFrames.push_back(copy);
  }
  child->ldtEntries = ldtEntries;
  changes++;
  return child;
}

bool Space::install(uint64_t address, uint32_t frame) {
  auto it = regionAt(address);
  if (it == regions_.end() || !it->second.paged || !physical_.valid(frame)) return false;
  Entry* e = walk(address, true);
  if (!e) return false;
  if (*e & PRESENT) return true;
  physical_.retain(frame);
  resident_++;
  *e = uint64_t(frame) << FRAME_SHIFT | it->second.prot | PRESENT | (it->second.shared ? SHARED : COW);
  return true;
}

int64_t Space::translateSlowly(uint64_t address, Access access) {
  if (address >= limit_) return UNMAPPED;
  Entry* e = walk(address, false);
  if (!e || !(*e & PRESENT)) {
    auto it = regionAt(address);
    if (it == regions_.end()) return UNMAPPED;
    if (!permits(it->second.prot, access)) return FORBIDDEN;
    if (it->second.paged) return PAGER;
    uint32_t frame = physical_.allocate();
    if (!frame) return OUT_OF_MEMORY;
    e = walk(address, true);
    if (!e) return OUT_OF_MEMORY;
    *e = uint64_t(frame) << FRAME_SHIFT | it->second.prot | PRESENT;
    resident_++;
  } else if (!permits(*e & RWX, access)) {
    return FORBIDDEN;
  }
  if (access == WRITE && (*e & COW)) {
    uint32_t frame = uint32_t(*e >> FRAME_SHIFT);
    if (physical_.refs(frame) > 1) {
      uint32_t copy = physical_.allocate();
      if (!copy) return OUT_OF_MEMORY;
      std::memcpy(physical_.page(copy), physical_.page(frame), PAGE);
      physical_.release(frame);
      movedFrom = frame;
      *e = (*e & 0xff) | uint64_t(copy) << FRAME_SHIFT;
      changes++;
    }
    *e &= ~COW;
  }
  return int64_t(*e >> FRAME_SHIFT) * int64_t(PAGE) + int64_t(address & (PAGE - 1));
}

bool Space::resident(uint64_t address) const {
  Entry* e = const_cast<Space*>(this)->walk(address, false);
  return e && (*e & PRESENT);
}

int Space::rights(uint64_t address) const {
  Entry* e = const_cast<Space*>(this)->walk(address, false);
  if (!e || !(*e & PRESENT)) return 0;
  int r = int(*e & RWX);
  if (r) r |= PROT_R;
  if (*e & COW) r &= ~PROT_W;
  return r;
}

}  // namespace shimbed
