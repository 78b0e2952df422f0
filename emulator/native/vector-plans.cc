// Plans and stubs of VEX-encoded instructions.
#include <sys/mman.h>

#include <cstring>

#include "memory.h"
#include "vector.h"

namespace shimbed {

namespace {

enum HostRegister : uint8_t { RAX = 0, RCX = 1, RDX = 2, RSI = 6, RDI = 7 };
enum : uint8_t { R_VECTOR = 0, V_VECTOR = 1, M_VECTOR = 2, FOURTH_VECTOR = 3, ZERO_VECTOR = 4 };
constexpr uint8_t IN_RDX = 2;  // ModRM for [rdx]

class Code {
 public:
  std::string text;
  void bytes(std::initializer_list<unsigned> list) {
    for (unsigned b : list) text.push_back(char(b));
  }
  void load(uint8_t vector, HostRegister from, bool wide) {
    bytes({0xc5, 0xf8, 0x10, unsigned(vector << 3 | from)});
    if (!wide) return;
    bytes({0xc4, 0xe3, unsigned((~vector & 15) << 3 | 5), 0x18, unsigned(0x80 | vector << 3 | from)});
    word(offset::ymmHigh);
    bytes({1});
  }
  void store(uint8_t vector, HostRegister to, bool wide) {
    bytes({0xc5, 0xf8, 0x11, unsigned(vector << 3 | to)});
    if (wide) {
      bytes({0xc4, 0xe3, 0x7d, 0x19, unsigned(0x80 | vector << 3 | to)});
      word(offset::ymmHigh);
      bytes({1});
    } else {
      bytes({0xc5, 0xd9, 0xef, 0xe4});  // vpxor xmm4, xmm4, xmm4
      bytes({0xc5, 0xf8, 0x11, unsigned(0x80 | ZERO_VECTOR << 3 | to)});
      word(offset::ymmHigh);
    }
  }
  void loadRax(HostRegister from) { bytes({0x48, 0x8b, from}); }
  void storeRax(HostRegister to) { bytes({0x48, 0x89, to}); }
  void storeFlags() { bytes({0x9c, 0x58, 0x25, 0xd5, 0x08, 0, 0, 0x48, 0x89, RCX}); }
  void end(bool wide) {
    if (wide) bytes({0xc5, 0xf8, 0x77});
    bytes({0xc3});
  }

 private:
  void word(uint32_t v) { bytes({v & 0xff, v >> 8 & 0xff, v >> 16 & 0xff, v >> 24}); }
};

// The guest's instruction with registers of the stub's: `extended` has the bits that R and B of the prefix are to have.
void instruction(Code& code, const Decoded& d, bool wide, bool w, uint8_t v, uint8_t modrm, uint8_t extended = 0) {
  code.bytes({0xc4, unsigned((0xe0 & ~unsigned(extended)) | unsigned(d.map - 1)),
              unsigned((w ? 0x80 : 0) | (~v & 15) << 3 | (wide ? 4 : 0) | d.pp), d.opcode, modrm});
}

uint8_t memorySize(const VexRow& row, const Decoded& d, bool wide, bool w) {
  uint8_t vector = wide ? 32 : 16;
  switch (row.size) {
    case Size::full: return vector;
    case Size::half: return vector / 2;
    case Size::quarter: return vector / 4;
    case Size::eighth: return vector / 8;
    case Size::duplicated: return wide ? 32 : 8;
    case Size::scalar: return d.pp == 3 ? 8 : 4;
    case Size::ordered: return d.pp == 1 ? 8 : 4;
    case Size::byW: return w ? 8 : 4;
    default: return uint8_t(row.size);
  }
}

// VAES and VPCLMULQDQ on 32 bytes.
std::string halvesStub(const Decoded& d, const VexRow& row) {
  Code code;
  code.load(V_VECTOR, RSI, true);
  if (d.memory()) code.bytes({0xc5, 0xfe, 0x6f, M_VECTOR << 3 | IN_RDX});  // vmovdqu ymm2, [rdx]
  else code.load(M_VECTOR, RDX, true);
  code.bytes({0xc4, 0xe3, 0x7d, 0x39, 0xc0 | V_VECTOR << 3 | 5, 1});  // vextracti128 xmm5, ymm1, 1
  code.bytes({0xc4, 0xe3, 0x7d, 0x39, 0xc0 | M_VECTOR << 3 | 6, 1});  // vextracti128 xmm6, ymm2, 1
  instruction(code, d, false, false, V_VECTOR, 0xc0 | R_VECTOR << 3 | M_VECTOR);
  if (row.flags & IMMEDIATE) code.bytes({d.immediate});
  instruction(code, d, false, false, 5, 0xc0 | 5 << 3 | 6);
  if (row.flags & IMMEDIATE) code.bytes({d.immediate});
  code.bytes({0xc4, 0xe3, 0x7d, 0x38, 0xc0 | R_VECTOR << 3 | 5, 1});  // vinserti128 ymm0, ymm0, xmm5, 1
  code.store(R_VECTOR, RDI, true);
  code.end(true);
  return code.text;
}

std::string vectorStub(const Decoded& d, const VexRow& row, bool wide, bool w) {
  if (wide && (row.flags & HALVES)) return halvesStub(d, row);
  Form form = row.form;
  bool memory = d.memory(), immediate = row.flags & IMMEDIATE;
  bool usesV = form == Form::RVM || form == Form::RVMR || form == Form::MVR || form == Form::RVG;
  bool readsR = form == Form::MR || form == Form::MVR || form == Form::MG || form == Form::compares || (row.flags & READS_R);
  bool mVector = !memory && form != Form::RG && form != Form::RVG && form != Form::MG;
  bool mWritten = form == Form::MR || form == Form::MVR || form == Form::MG;
  Code code;
  if (readsR) code.load(R_VECTOR, RDI, wide);
  if (usesV) code.load(V_VECTOR, RSI, wide);
  if (mVector && !mWritten) code.load(M_VECTOR, RDX, wide);
  if (form == Form::RVMR) code.load(FOURTH_VECTOR, RCX, wide);
  if (!memory && (form == Form::RG || form == Form::RVG)) code.loadRax(RDX);
  uint8_t reg = form == Form::VM ? uint8_t(d.reg()) : uint8_t(R_VECTOR);
  uint8_t m = memory ? IN_RDX : uint8_t(0xc0 | (mVector ? uint8_t(M_VECTOR) : uint8_t(RAX)));
  instruction(code, d, wide, w, usesV || form == Form::VM ? uint8_t(V_VECTOR) : 0, uint8_t(reg << 3 | m));
  if (form == Form::RVMR) code.bytes({unsigned(FOURTH_VECTOR << 4 | (d.immediate & 15))});
  else if (immediate) code.bytes({d.immediate});
  switch (form) {
    case Form::RM: case Form::RVM: case Form::RVMR: case Form::RG: case Form::RVG: code.store(R_VECTOR, RDI, wide); break;
    case Form::VM: code.store(V_VECTOR, RSI, wide); break;
    case Form::MR: case Form::MVR:
      if (!memory) code.store(M_VECTOR, RDX, wide);
      break;
    case Form::GM: code.storeRax(RDI); break;
    case Form::MG:
      if (!memory) code.storeRax(RDX);
      break;
    case Form::compares: code.storeFlags(); break;
    default: break;
  }
  code.end(wide);
  return code.text;
}

// R is r11, V is r10, M is rax or memory; BLSR and its like write V.
std::string bitsStub(const Decoded& d, bool w, bool flags) {
  Code code;
  bool group = d.opcode == 0xf3;
  if (!d.memory()) code.loadRax(RDX);
  code.bytes({0x4c, 0x8b, 0x10 | RSI});  // mov r10, [rsi]
  uint8_t reg = group ? uint8_t(d.reg()) : 3, m = d.memory() ? IN_RDX : uint8_t(0xc0 | RAX);
  bool rotates = d.map == 4;  // RORX
  instruction(code, d, false, w, rotates ? 0 : 10, uint8_t(reg << 3 | m), group ? 0 : 0x80);
  if (rotates) code.bytes({d.immediate});
  if (group) code.bytes({0x4c, 0x89, 0x10 | RSI});
  else code.bytes({0x4c, 0x89, 0x18 | RDI});  // mov [rdi], r11
  if (flags) code.storeFlags();
  code.end(false);
  return code.text;
}

// PCMPxSTRx with its operands in xmm1 and xmm2, or at r8, and StringsState at r9; vvvv's place is that of XMM0.
std::string stringsStub(const Decoded& d, bool w) {
  Code code;
  bool givesMask = !(d.opcode & 1);
  code.load(V_VECTOR, RDI, false);
  if (!d.memory()) code.load(M_VECTOR, RDX, false);
  code.bytes({0x49, 0x89, 0xd0, 0x49, 0x89, 0xc9, 0x49, 0x8b, 0x01, 0x49, 0x8b, 0x51, 8});  // r8 = rdx, r9 = rcx, rax = [r9], rdx = [r9 + 8]
  instruction(code, d, false, w, 0, d.memory() ? uint8_t(V_VECTOR << 3) : uint8_t(0xc0 | V_VECTOR << 3 | M_VECTOR), d.memory() ? 0x20 : 0);
  code.bytes({d.immediate});
  code.bytes({0x49, 0x89, 0x49, 16, 0x9c, 0x58, 0x25, 0xd5, 0x08, 0, 0, 0x49, 0x89, 0x41, 24});  // [r9 + 16] = rcx, [r9 + 24] = flags
  if (givesMask) code.store(R_VECTOR, RSI, false);
  code.end(false);
  return code.text;
}

uint32_t vectorAt(unsigned number) { return uint32_t(offset::xmmRegs + 64 * number); }
uint32_t generalAt(unsigned number) { return uint32_t(offsetof(EnvHead, regs) + 8 * number); }

void planAddress(VectorPlan& plan, const Decoded& d, Width width) {
  bool code64 = width == Width::code64, address16 = !code64 && d.adsize != (width == Width::code16);
  constexpr uint64_t ALL = ~uint64_t(0);
  plan.displacement = d.displacement;
  plan.offsetMask = address16 ? 0xffff : code64 && !d.adsize ? ALL : 0xffffffffu;
  plan.linearMask = code64 ? ALL : 0xffffffffu;
  plan.segment = uint8_t(d.memorySegment(width));
  plan.segmented = !code64 || plan.segment >= FS;
  int rm = d.rm(), mod = d.mod();
  if (address16) {
    static const int8_t first[8] = {3, 3, 5, 5, 6, 7, 5, 3}, second[8] = {6, 7, 6, 7, -1, -1, -1, -1};
    if (mod == 0 && rm == 6) return;
    plan.base = uint8_t(first[rm]);
    plan.baseMask = ALL;
    if (second[rm] >= 0) plan.index = uint8_t(second[rm]), plan.indexMask = ALL;
    return;
  }
  int base = rm | (d.rex & 1) << 3;
  bool hasBase = true;
  if (rm == 4) {
    int index = ((d.sib >> 3) & 7) | (d.rex & 2) << 2;
    base = (d.sib & 7) | (d.rex & 1) << 3;
    plan.index = uint8_t(index);
    plan.scale = d.sib >> 6;
    if (index != 4 && plan.form != Form::gather) plan.indexMask = ALL;
    hasBase = (d.sib & 7) != 5 || mod != 0;
  } else if (rm == 5 && mod == 0) {
    hasBase = code64;
    base = 16;
    if (code64) plan.displacement += d.length;
  }
  plan.base = uint8_t(base);
  if (hasBase) plan.baseMask = ALL;
}

}  // namespace

StubMemory::~StubMemory() {
  for (char* chunk : chunks_) munmap(chunk, CHUNK);
}

Stub StubMemory::add(const std::string& code) {
  auto it = known_.find(code);
  if (it != known_.end()) return it->second;
  size_t size = (code.size() + 15) & ~size_t(15);
  if (used_ + size > CHUNK) {
    void* chunk = mmap(nullptr, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (chunk == MAP_FAILED) return nullptr;
    chunks_.push_back(static_cast<char*>(chunk));
    used_ = 0;
  }
  char* at = chunks_.back() + used_;
  char* page = chunks_.back() + (used_ & ~(PAGE - 1));
  size_t length = ((used_ + size + PAGE - 1) & ~(PAGE - 1)) - (used_ & ~(PAGE - 1));
  if (mprotect(page, length, PROT_READ | PROT_WRITE)) return nullptr;
  std::memcpy(at, code.data(), code.size());
  if (mprotect(page, length, PROT_READ | PROT_EXEC)) return nullptr;
  used_ += size;
  Stub stub = reinterpret_cast<Stub>(at);
  known_.emplace(code, stub);
  return stub;
}

VectorPlan VectorPlans::make(const Decoded& d, Width width) {
  const VexRow& row = vexRow(d.map, d.pp, d.opcode, d.memory());
  bool code64 = width == Width::code64;
  VectorPlan plan;
  plan.form = row.form;
  if (row.form == Form::loadMxcsr && d.reg() == 3) plan.form = Form::storeMxcsr;
  plan.length = d.length;
  plan.memory = d.memory();
  plan.wide = d.vexL && !(row.flags & (LIG | L0));
  bool bits = row.form == Form::bits || row.form == Form::quietBits;
  bool general = bits || row.form == Form::RG || row.form == Form::RVG || row.form == Form::GM || row.form == Form::MG || row.form == Form::strings;
  plan.w = (d.rex & 8) && (code64 || !general);
  plan.size = memorySize(row, d, plan.wide, plan.w);
  plan.stores = plan.memory && (plan.form == Form::MR || plan.form == Form::MG || plan.form == Form::maskedStore || plan.form == Form::storeMxcsr);
  plan.floats = row.flags & FLOATS;
  plan.aligned = row.flags & ALIGNED;
  plan.givesFlags = plan.form == Form::compares || plan.form == Form::bits || plan.form == Form::strings;
  plan.opcode = d.opcode;
  plan.map = d.map;
  plan.r = uint8_t(d.reg() | (d.rex & 4) << 1);
  plan.v = d.vvvv;
  plan.m = uint8_t(d.rm() | (d.rex & 1) << 3);
  bool rGeneral = plan.form == Form::GM || bits;
  bool mGeneral = plan.form == Form::RG || plan.form == Form::RVG || plan.form == Form::MG || bits;
  plan.rAt = rGeneral ? generalAt(plan.r) : vectorAt(plan.r);
  plan.vAt = bits ? generalAt(plan.v) : plan.form == Form::strings ? vectorAt(0) : vectorAt(plan.v);
  plan.mAt = mGeneral ? generalAt(plan.m) : vectorAt(plan.m);
  plan.fourthAt = plan.form == Form::RVMR ? vectorAt(code64 ? d.immediate >> 4 : d.immediate >> 4 & 7) : uint32_t(offsetof(EnvHead, ccSrc));
  if (plan.memory) planAddress(plan, d, width);
  if (plan.form == Form::maskedBytes) {
    bool address16 = !code64 && d.adsize != (width == Width::code16);
    plan.offsetMask = address16 ? 0xffff : code64 && !d.adsize ? ~uint64_t(0) : 0xffffffffu;
    plan.linearMask = code64 ? ~uint64_t(0) : 0xffffffffu;
    plan.segment = uint8_t(d.memorySegment(width));
    plan.segmented = !code64 || plan.segment >= FS;
  }
  if (bits) plan.stub = stubs_.add(bitsStub(d, plan.w, plan.givesFlags));
  else if (plan.form == Form::strings) plan.stub = stubs_.add(stringsStub(d, plan.w));
  else if (plan.form < Form::bits) plan.stub = stubs_.add(vectorStub(d, row, plan.wide, plan.w));
  return plan;
}

uint32_t VectorPlans::numberOf(const Decoded& d, Width width) {
  std::string key(reinterpret_cast<const char*>(d.patch), d.length);
  key.push_back(char(width));
  auto it = numbers_.find(key);
  if (it != numbers_.end()) return it->second;
  if (plans_.size() >= MOST) return NONE;
  VectorPlan plan = make(d, width);
  uint32_t number = uint32_t(plans_.size());
  plans_.push_back(plan);
  numbers_.emplace(std::move(key), number);
  return number;
}

}  // namespace shimbed
