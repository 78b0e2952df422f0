// The code that counts a block, in place of the call that libunicorn makes for a hook on blocks.
#include "counting.h"

#include "engine.h"

namespace shimbed {

void BlockCounter::count(Emitter emitter, Temporary size) {
  change_ = emitter.fresh();
  emitter.widen(change_, size);
  emitter.add(change_, change_, -BlockCount::BLOCK);
  state_ = State::sized;
}

bool BlockCounter::load(Emitter emitter, uintptr_t state) {
  if (state_ != State::sized) return false;
  number_ = emitter.fresh();
  // Each block waits for the one before to have stored the number: between load and store is one addition of a constant.
  emitter.load(number_, state, offset::blockCount);
  emitter.add(number_, number_, change_);
  emitter.store(number_, state, offset::blockCount);
  emitter.free(change_);
  state_ = State::counted;
  return true;
}

bool BlockCounter::jump(Emitter emitter, void* label) {
  if (state_ != State::counted) return false;
  emitter.leaveBelowZero(number_, label);
  emitter.free(number_);
  state_ = State::none;
  return true;
}

// A block has left instead of running.
void Engine::onBlockLeft(const char* tb) {
  if (!counting_) return;
  uint32_t size = *reinterpret_cast<const uint16_t*>(tb + offset::tbSize);
  if (!count_.left(size)) stopWith(BUDGET);
}

}  // namespace shimbed
