// Physical frames and guest address spaces.
//
// One anonymous host window is the machine's physical memory; libunicorn knows it as a single region. Each address
// space is a radix table of page entries over it and an ordered map of regions, so that the number of mappings costs
// nothing in the engine, fork copies lazily, and one translation of a shared page serves every process.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

namespace shimbed {

constexpr uint64_t PAGE = 4096;
constexpr int PROT_R = 1, PROT_W = 2, PROT_X = 4;
constexpr uint64_t STACK_GUARD = 256 * PAGE;

enum Access : int { READ = 0, WRITE = 1, FETCH = 2 };
// What a translation answers when it has no frame to give.
enum Miss : int64_t { UNMAPPED = -1, FORBIDDEN = -2, PAGER = -3, OUT_OF_MEMORY = -4 };

class Physical {
 public:
  Physical(uint64_t windowBytes);
  ~Physical();
  Physical(const Physical&) = delete;
  Physical& operator=(const Physical&) = delete;

  uint8_t* base() const { return base_; }
  uint64_t size() const { return size_; }
  bool ok() const { return base_ != nullptr && info_ != nullptr; }
  uint8_t* page(uint32_t frame) const { return base_ + uint64_t(frame) * PAGE; }
  // A zeroed frame with one reference; 0 when the limit is reached (frame 0 is never given out).
  uint32_t allocate();
  void retain(uint32_t frame) { info_[frame].refs++; }
  void release(uint32_t frame);
  uint32_t refs(uint32_t frame) const { return info_[frame].refs; }
  bool valid(uint32_t frame) const { return frame != 0 && frame < next_ && info_[frame].refs != 0; }
  bool hasCode(uint32_t frame) const { return info_[frame].code; }
  void setCode(uint32_t frame, bool code) { info_[frame].code = code; }
  uint64_t used() const { return used_; }
  uint64_t peak() const { return peak_; }
  uint64_t limit = ~uint64_t(0);
  // Frames that lost their last reference while code was translated from them; the engine drops the translations.
  std::vector<uint32_t> staleCode;

 private:
  struct Info {
    uint32_t refs : 30;
    uint32_t code : 1;
    uint32_t dirty : 1;
  };
  uint8_t* base_ = nullptr;
  uint64_t size_;
  Info* info_ = nullptr;
  uint32_t next_ = 1;
  uint64_t used_ = 0, peak_ = 0;
  std::vector<uint32_t> free_;
};

struct Region {
  uint64_t end;
  uint32_t tag;  // what the owner of the space knows it by; 0 is anonymous private memory
  uint8_t prot;
  bool shared;
  bool paged;  // pages come from a pager (file or shared memory), not from zero fill
  bool grows;  // downwards: keeps a gap of STACK_GUARD below it
  bool operator==(const Region& o) const {
    return tag == o.tag && prot == o.prot && shared == o.shared && paged == o.paged && grows == o.grows;
  }
};

class Space {
 public:
  Space(Physical& physical, uint64_t limit);
  ~Space();
  Space(const Space&) = delete;
  Space& operator=(const Space&) = delete;

  void map(uint64_t start, uint64_t end, const Region& region);
  void unmap(uint64_t start, uint64_t end);
  // The first address in [start, end) that is not mapped, or end.
  uint64_t firstHole(uint64_t start, uint64_t end) const;
  bool isFree(uint64_t start, uint64_t end) const;
  void protect(uint64_t start, uint64_t end, uint8_t prot);
  void move(uint64_t from, uint64_t length, uint64_t to);
  void retag(uint64_t start, uint64_t end, uint32_t tag);
  void discard(uint64_t start, uint64_t end);
  int64_t find(uint64_t length, uint64_t low, uint64_t high);
  std::unique_ptr<Space> fork();
  // Puts a pager's frame in place; false when the page is no longer one that a pager serves.
  bool install(uint64_t address, uint32_t frame);
  const std::map<uint64_t, Region>& regions() const { return regions_; }
  std::map<uint64_t, Region>::const_iterator regionAt(uint64_t address) const;

  // Physical address of the byte, faulting memory in as the CPU would; a Miss when it can't.
  int64_t translate(uint64_t address, Access access) {
    int64_t at = translateQuickly(address, access);
    return at >= 0 ? at : translateSlowly(address, access);
  }
  // As translate, where nothing has to change for it; else a negative number.
  int64_t translateQuickly(uint64_t address, Access access) const {
    const Leaf& leaf = leaves_[(address >> 21) % LEAVES];
    if (leaf.page != address >> 21) return -1;
    Entry e = leaf.entries[(address >> 12) & 511];
    Entry needed = PRESENT | (access == WRITE ? PROT_W : access == FETCH ? PROT_X : PROT_R);
    if ((e & (needed | (access == WRITE ? COW : 0))) != needed) return -1;
    return int64_t(e >> FRAME_SHIFT << 12 | (address & (PAGE - 1)));
  }
  // The page entry as it stands, for residency questions.
  bool resident(uint64_t address) const;
  // Rights of a page after a successful translate, for the TLB: PROT bits, without W while a write must come here first.
  int rights(uint64_t address) const;

  uint64_t limit() const { return limit_; }
  uint64_t residentPages() const { return resident_; }
  // Bytes of all regions.
  uint64_t mapped() const { return mapped_; }
  uint32_t changes = 0;  // counts every change that may make a cached translation wrong
  uint32_t movedFrom = 0;  // the frame of the page that was copied last, for a write
  uint32_t ldtEntries = 0;
  std::vector<uint32_t> ldtFrames;

 private:
  using Entry = uint64_t;  // frame << FRAME_SHIFT | flags | PROT bits
  static constexpr Entry PRESENT = 8, COW = 16, SHARED = 32;
  static constexpr int FRAME_SHIFT = 8;
  struct Table {
    uint64_t slot[512];  // addresses of tables above the last level, entries in it
  };
  int64_t translateSlowly(uint64_t address, Access access);
  Entry* walk(uint64_t address, bool create);
  template <typename F>
  void forEach(uint64_t start, uint64_t end, F f);
  void split(uint64_t at);
  void mergeAround(uint64_t start, uint64_t end);
  void drop(Entry& e);
  void dropAll(uint64_t start, uint64_t end);
  void freed(uint64_t end);
  uint64_t lowestBelow(std::map<uint64_t, Region>::const_iterator it) const;
  void freeTable(Table* t, int level);

  Physical& physical_;
  uint64_t limit_;
  Table* root_;
  std::map<uint64_t, Region> regions_;
  uint64_t resident_ = 0, mapped_ = 0;
  // What the last search has shown: no gap of searchLength_ bytes lies in [searchTop_, searchHigh_).
  uint64_t searchHigh_ = 0, searchTop_ = 0, searchLength_ = 0;
  // Tables of the last level as last walked to, by the low bits of what they cover; a table stays until its space ends.
  struct Leaf {
    uint64_t page = ~uint64_t(0);
    Entry* entries = nullptr;
  };
  static constexpr unsigned LEAVES = 16;
  Leaf leaves_[LEAVES];
};

}  // namespace shimbed
