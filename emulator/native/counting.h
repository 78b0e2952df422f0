// Blocks and the bytes of their code, counted by the translated code itself: one number holds how many blocks may still run,
// in its upper bits, and how many bytes those had that ran.
#pragma once
#include <algorithm>
#include <cstdint>

namespace shimbed {

// What the helper of vector instructions is called with instead of a plan's number.
constexpr uint32_t BLOCKS_SPENT = 0xfffffffe;

class BlockCount {
 public:
  static constexpr int BYTES = 40;  // bits
  static constexpr int64_t BLOCK = int64_t(1) << BYTES;
  static constexpr int BEFORE_AT = sizeof(int64_t);

  void begin(double budget) {
    numbers_[0] = 0;
    reserve_ = uint64_t(budget);
    refill();
  }
  // More blocks after those of the number are used up; false when there are none.
  bool refill() {
    uint64_t now = std::min<uint64_t>(reserve_, MOST);
    reserve_ -= now;
    numbers_[0] += int64_t(now) * BLOCK;
    return now != 0;
  }
  void allowOne() { numbers_[0] += BLOCK; }
  // Takes one without knowing its size.
  void takeOne() { numbers_[0] -= BLOCK; }
  double blocksLeft() const { return double(numbers_[0] >> BYTES) + double(reserve_); }
  double bytes() const { return double(numbers_[0] & (BLOCK - 1)); }
  // To where it was before the block that was begun last.
  void takeBack() { numbers_[0] = numbers_[1]; }
  int64_t* address() { return numbers_; }

 private:
  static constexpr uint64_t MOST = 1u << 22;
  int64_t numbers_[2] = {};
  uint64_t reserve_ = 0;
};

// Emits the counting of a block whose size the 32-bit temporary `size` holds.
void emitCount(char* context, void* size, BlockCount& count, void (*spent)(char* context));

}  // namespace shimbed
