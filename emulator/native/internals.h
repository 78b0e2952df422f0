// The few functions of libunicorn's inside that we call or take over.
#pragma once
#include <unicorn/unicorn.h>

#include <cstdint>
#include <string>

struct CPUState;

namespace shimbed::internals {

// Finds what interpose.cc needs of a shared libunicorn; true at once for the static one.
bool takeOver(std::string& error);
void* firstRegion(uc_engine* uc);
void flushTlb(CPUState* cpu);
void flushTlbPage(CPUState* cpu, uint64_t page);
void setPage(CPUState* cpu, uint64_t page, uint64_t physical, int prot, int mmuIdx);
void setDirty(CPUState* cpu, uint64_t page);
// The next block has one instruction, apart from those translated otherwise.
void nextBlockAlone(CPUState* cpu);
void forgetAlone(CPUState* cpu);
// Drops all code translated from the physical page.
void dropTranslations(uc_engine* uc, uint64_t physicalPage);
// Has accesses that are not aligned as they should come to Engine::onUnaligned, and blocks that leave before they run to
// Engine::onBlockLeft; false where the places for it are not found.
bool takeOverClass(CPUState* cpu);
// Brings EIP to the instruction that was executing.
void restoreState(CPUState* cpu, uintptr_t retaddr);
// Ends the block; the run goes on where EIP is.
[[noreturn]] void exitBlock(CPUState* cpu);
// Ends the run at the instruction that was executing; registers and flags are those before it.
[[noreturn]] void leave(CPUState* cpu, uc_engine* uc, uintptr_t retaddr);

}  // namespace shimbed::internals
