// Blocks and the bytes of their code, counted by the translated code itself: one number holds how many blocks may still run,
// in its upper bits, and how many bytes those had that ran. It lies where translated code reaches it from the register that
// it keeps anyway, and stands in for the request to leave that libunicorn has every block look for: below zero is one, too.
#pragma once
#include <algorithm>
#include <cstdint>

#include "tcg.h"

namespace shimbed {

class BlockCount {
 public:
  static constexpr int BYTES = 24;  // bits; a change fits an instruction's operand
  static constexpr int64_t BLOCK = int64_t(1) << BYTES;

  // `number` is where translated code has it.
  void begin(int64_t* number, double budget) {
    number_ = number;
    *number = 0;
    reserve_ = uint64_t(budget);
    bytes_ = 0;
    parked_ = false;
    refill();
  }
  // More blocks after those of the number are used up; false when there are none.
  bool refill() {
    uint64_t now = std::min<uint64_t>(reserve_, MOST);
    reserve_ -= now;
    bytes_ += uint64_t(*number_ & (BLOCK - 1));
    *number_ = (*number_ & ~(BLOCK - 1)) + int64_t(now) * BLOCK;
    return now != 0;
  }
  void allowOne() { (parked_ ? held_ : *number_) += BLOCK; }
  // Has the next block leave before it runs.
  void park() {
    if (parked_) return;
    parked_ = true;
    held_ = *number_;
    *number_ = -BLOCK;
  }
  // A block of `size` bytes has left before it ran. True when there are blocks left or the run has to end anyway.
  bool left(uint32_t size) {
    if (parked_) {
      *number_ = -BLOCK;
      return true;
    }
    *number_ += BLOCK - int64_t(size);
    return refill();
  }
  void end() {
    if (parked_) *number_ = held_;
    parked_ = false;
    bytes_ += uint64_t(*number_ & (BLOCK - 1));
    blocksLeft_ = double(*number_ >> BYTES) + double(reserve_);
    *number_ = 0;
  }
  double blocksLeft() const { return blocksLeft_; }
  double bytes() const { return double(bytes_); }

 private:
  // A block has less than 4096 bytes, so that those of so many do not reach the bits above.
  static constexpr uint64_t MOST = 2048;
  int64_t* number_ = nullptr;
  int64_t held_ = 0;
  bool parked_ = false;
  uint64_t reserve_ = 0, bytes_ = 0;
  double blocksLeft_ = 0;
};

// Emits the counting of a block, while it is translated: first comes what it is counted as, then what libunicorn begins
// every block with, a load and a jump, in whose places this has its own.
class BlockCounter {
 public:
  // The 32-bit temporary will have the size of the block.
  void count(Emitter emitter, Temporary size);
  // True when there is a count instead of the load.
  bool load(Emitter emitter, uintptr_t state);
  // True when the jump on the number is there instead of that on the request.
  bool jump(Emitter emitter, void* label);

 private:
  enum class State { none, sized, counted } state_ = State::none;
  Temporary change_ = 0, number_ = 0;
};

}  // namespace shimbed
