// Tables of what Linux 6.18 answered to the same arguments, uid 1000.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { i386 } from "../../../shims/linux/abi.ts";
import { CallGuest, guests } from "./call-guest.ts";

const PAGE = 4096;
const MIB = 2 ** 20;

describe.each(guests)("memory calls on %s", (_, abi) => {
  let guest: CallGuest;
  let mmap: string;
  beforeEach(() => {
    guest = new CallGuest({ abi });
    mmap = abi === i386 ? "mmap2" : "mmap";
  });
  afterEach(() => guest.close());

  const map = (pages: number, prot = 3): number => guest.call(mmap, 0, pages * PAGE, prot, 0x22, -1, 0);

  it.each([
    [[0, 0, 3, 0x22, -1, 0], "EINVAL"],
    [[0, PAGE, 3, 0x20, -1, 0], "EINVAL"],
    [[0, PAGE, 3, 0x23, -1, 0], "EINVAL"],
    [[0, PAGE, 3, 2, -1, 0], "EBADF"],
    [[0, PAGE, 3, 2, 99, 0], "EBADF"],
    [[0x10_1001, PAGE, 3, 0x32, -1, 0], "EINVAL"],
    [[0x1000, PAGE, 3, 0x32, -1, 0], "EPERM"],
    [[0, PAGE, 3, 0x40022, -1, 0], "ENOMEM"],
    [[0, PAGE, 3, 0x121, -1, 0], "EINVAL"],
    [[0x10_0000, PAGE, 3, 0x100022, -1, 0], "EEXIST"],
    [[0x10_0000, PAGE, 3, 0x100032, -1, 0], "EEXIST"],
  ])("mmap%j answers %s", (args, answer) => {
    expect(guest.outcome(mmap, ...args)).toBe(answer);
  });

  it("mmap refuses what does not fit into user space", () => {
    expect(guest.outcome(mmap, -PAGE, PAGE, 3, 0x32, -1, 0)).toBe("ENOMEM");
    expect(guest.outcome(mmap, 0, -1, 3, 0x22, -1, 0)).toBe("ENOMEM");
    expect(guest.outcome(mmap, 0, -PAGE, 3, 0x22, -1, 0)).toBe("ENOMEM");
  });

  it("mmap goes from the base downwards, and takes a hint that is free", () => {
    const first = map(2);
    const second = map(1);
    expect(first + 2 * PAGE).toBe(guest.process.mm.mmapBase);
    expect(second + PAGE).toBe(first);
    expect(guest.call(mmap, 0x900_0123, PAGE, 3, 0x22, -1, 0)).toBe(0x900_0000);
    expect(guest.call(mmap, 0x900_0000, PAGE, 3, 0x22, -1, 0)).toBe(second - PAGE);
  });

  it("munmap", () => {
    const at = map(2);
    expect(guest.outcome("munmap", at + 1, PAGE)).toBe("EINVAL");
    expect(guest.outcome("munmap", at, 0)).toBe("EINVAL");
    expect(guest.outcome("munmap", -PAGE, PAGE)).toBe("EINVAL");
    expect(guest.outcome("munmap", 0, PAGE)).toBe(0);
    expect(guest.outcome("munmap", at + PAGE, 1)).toBe(0);
    expect(guest.process.space.isMapped(at, PAGE)).toBe(true);
    expect(guest.process.space.isMapped(at + PAGE, PAGE)).toBe(false);
  });

  it("mprotect", () => {
    const at = map(4);
    guest.call("munmap", at + 3 * PAGE, PAGE);
    expect(guest.outcome("mprotect", at + 1, PAGE, 1)).toBe("EINVAL");
    expect(guest.outcome("mprotect", at + 1, 0, 1)).toBe("EINVAL");
    expect(guest.outcome("mprotect", at, 0, 0x100)).toBe(0);
    expect(guest.outcome("mprotect", at + 3 * PAGE, PAGE, 1)).toBe("ENOMEM");
    expect(guest.outcome("mprotect", at, PAGE, 0x100_0003)).toBe("EINVAL");
    expect(guest.outcome("mprotect", at, PAGE, 0x300_0003)).toBe("EINVAL");
    expect(guest.outcome("mprotect", at, PAGE, 8)).toBe(0);
    expect(guest.outcome("mprotect", at, PAGE, 16)).toBe("EINVAL");
    expect(guest.outcome("mprotect", at, -1, 1)).toBe("ENOMEM");
    expect(guest.outcome("mprotect", -PAGE, 2 * PAGE, 1)).toBe("ENOMEM");
    expect(guest.outcome("mprotect", at + PAGE, 3 * PAGE, 1)).toBe("ENOMEM");
    // The part before the hole has changed.
    expect(guest.process.space.regionAt(at + 2 * PAGE)?.prot).toBe(1);
  });

  it("mprotect PROT_GROWSDOWN reaches to the start of a growing mapping", () => {
    const at = guest.call(mmap, 0, 4 * PAGE, 3, 0x122, -1, 0);
    expect(guest.outcome("mprotect", at + 3 * PAGE, PAGE, 0x100_0001)).toBe(0);
    expect(guest.process.space.regionAt(at)?.prot).toBe(1);
  });

  it("brk moves the heap's end and says where it is when it cannot", () => {
    const start = guest.process.mm.startBrk;
    expect(guest.call("brk", 0)).toBe(start);
    expect(guest.call("brk", start + 5000)).toBe(start + 5000);
    guest.memory.setU8(start + 2 * PAGE - 1, 1);
    expect(guest.call("brk", start + 100)).toBe(start + 100);
    expect(guest.process.space.isMapped(start + PAGE, PAGE)).toBe(false);
    expect(guest.call("brk", start - 1)).toBe(start + 100);
    expect(guest.call("brk", abi.userEnd + PAGE)).toBe(start + 100);
    guest.call(mmap, start + 4 * PAGE, PAGE, 3, 0x32, -1, 0);
    expect(guest.call("brk", start + 4 * PAGE)).toBe(start + 100);
  });

  it("mremap", () => {
    map(1);
    const at = map(8);
    const other = map(1);
    expect(guest.outcome("mremap", at + 1, PAGE, 2 * PAGE, 1, 0)).toBe("EINVAL");
    expect(guest.outcome("mremap", at, PAGE, 0, 1, 0)).toBe("EINVAL");
    expect(guest.outcome("mremap", at, PAGE, PAGE, 8, 0)).toBe("EINVAL");
    expect(guest.outcome("mremap", at, PAGE, PAGE, 2, other)).toBe("EINVAL");
    expect(guest.outcome("mremap", at, PAGE, PAGE, 3, other + 1)).toBe("EINVAL");
    expect(guest.outcome("mremap", at, 2 * PAGE, PAGE, 3, at + PAGE)).toBe("EINVAL");
    expect(guest.outcome("mremap", at, 0, PAGE, 1, 0)).toBe("EINVAL");
    expect(guest.outcome("mremap", at, PAGE, 2 * PAGE, 5, 0)).toBe("EINVAL");
    expect(guest.outcome("mremap", at, PAGE, PAGE, 4, 0)).toBe("EINVAL");
    expect(guest.outcome("mremap", at, PAGE, -1, 1, 0)).toBe("EINVAL");
    expect(guest.outcome("mremap", at, PAGE, 2 * PAGE, 0, 0)).toBe("ENOMEM");
    expect(guest.outcome("mremap", 0x5000_0000, PAGE, 2 * PAGE, 1, 0)).toBe("EFAULT");
    guest.memory.setU32(at + 4 * PAGE, 0x1234);
    expect(guest.call("mremap", at, 8 * PAGE, 6 * PAGE, 0, 0)).toBe(at);
    expect(guest.call("mremap", at, 6 * PAGE, 7 * PAGE, 0, 0)).toBe(at);
    const moved = guest.call("mremap", at, 7 * PAGE, 32 * PAGE, 1, 0);
    expect(moved).not.toBe(at);
    expect(guest.memory.u32(moved + 4 * PAGE)).toBe(0x1234);
    expect(guest.process.space.isMapped(at, PAGE)).toBe(false);
    expect(guest.call("mremap", moved + 4 * PAGE, PAGE, PAGE, 3, 0x2000_0000)).toBe(0x2000_0000);
    expect(guest.memory.u32(0x2000_0000)).toBe(0x1234);
    const kept = guest.call("mremap", 0x2000_0000, PAGE, PAGE, 5, 0);
    expect([guest.memory.u32(kept), guest.memory.u32(0x2000_0000)]).toEqual([0x1234, 0]);
  });

  it("madvise", () => {
    const at = map(4);
    guest.memory.setU32(at, 1);
    expect(guest.outcome("madvise", at + 1, PAGE, 4)).toBe("EINVAL");
    expect(guest.outcome("madvise", at, PAGE, 99)).toBe("EINVAL");
    expect(guest.outcome("madvise", at, 0, 4)).toBe(0);
    expect(guest.outcome("madvise", at, 0, 99)).toBe("EINVAL");
    expect(guest.outcome("madvise", at, PAGE, 9)).toBe("EINVAL");
    expect(guest.outcome("madvise", at, PAGE, 100)).toBe("EINVAL");
    expect(guest.outcome("madvise", at, PAGE, 22)).toBe(0);
    expect(guest.outcome("madvise", at, PAGE, 4)).toBe(0);
    expect(guest.memory.u32(at)).toBe(0);
    guest.call("munmap", at + 2 * PAGE, PAGE);
    guest.memory.setU32(at + 3 * PAGE, 1);
    // Behind the hole it has its effect too.
    expect(guest.outcome("madvise", at, 4 * PAGE, 4)).toBe("ENOMEM");
    expect(guest.memory.u32(at + 3 * PAGE)).toBe(0);
  });

  it("msync and mincore", () => {
    const at = map(2);
    expect(guest.outcome("msync", at + 1, PAGE, 4)).toBe("EINVAL");
    expect(guest.outcome("msync", at, PAGE, 5)).toBe("EINVAL");
    expect(guest.outcome("msync", at, PAGE, 8)).toBe("EINVAL");
    expect(guest.outcome("msync", at, 0, 4)).toBe(0);
    expect(guest.outcome("msync", at, -1, 4)).toBe(0);
    expect(guest.outcome("msync", 0x5000_0000, PAGE, 1)).toBe("ENOMEM");
    const vector = guest.buffer(8);
    guest.memory.setU8(at, 1);
    expect(guest.outcome("mincore", at + 1, PAGE, vector)).toBe("EINVAL");
    expect(guest.outcome("mincore", at, PAGE, 8)).toBe("EFAULT");
    expect(guest.outcome("mincore", at, 0, 8)).toBe(0);
    expect(guest.outcome("mincore", -PAGE, PAGE, vector)).toBe("ENOMEM");
    expect(guest.outcome("mincore", 0x5000_0000, PAGE, vector)).toBe("ENOMEM");
    expect(guest.outcome("mincore", at, 2 * PAGE, vector)).toBe(0);
    expect([guest.memory.u8(vector), guest.memory.u8(vector + 1)]).toEqual([1, 0]);
  });

  it("mlock and its kin", () => {
    const at = map(2);
    const none = map(1, 0);
    expect(guest.outcome("mlock", none, PAGE)).toBe("ENOMEM");
    expect(guest.outcome("mlock", at + 5, 100)).toBe(0);
    expect(guest.outcome("mlock", 0x5000_0000, PAGE)).toBe("ENOMEM");
    expect(guest.outcome("mlock", at, 9 * MIB)).toBe("ENOMEM");
    expect(guest.outcome("munlock", at, PAGE)).toBe(0);
    expect(guest.outcome("mlock2", at, PAGE, 2)).toBe("EINVAL");
    expect(guest.outcome("mlockall", 0)).toBe("EINVAL");
    expect(guest.outcome("mlockall", 8)).toBe("EINVAL");
    expect(guest.outcome("mlockall", 4)).toBe("EINVAL");
    expect(guest.outcome("mlockall", 2)).toBe(0);
    expect(guest.outcome("munlockall")).toBe(0);
  });

  it("mapped memory stays under RLIMIT_AS", () => {
    guest.close();
    guest = new CallGuest({ abi, maxMemory: 8 * MIB });
    expect(guest.outcome(mmap, 0, 16 * MIB, 3, 0x22, -1, 0)).toBe("ENOMEM");
    expect(guest.call(mmap, 0, MIB, 3, 0x22, -1, 0)).toBeGreaterThan(0);
    expect(guest.call("brk", guest.process.mm.startBrk + 16 * MIB)).toBe(guest.process.mm.startBrk);
  });

  it("protection keys are not there", () => {
    const at = map(1);
    expect(guest.outcome("pkey_alloc", 0, 0)).toBe("EINVAL");
    expect(guest.outcome("pkey_free", 1)).toBe("EINVAL");
    expect(guest.outcome("pkey_mprotect", at, PAGE, 3, -1)).toBe(0);
    expect(guest.outcome("pkey_mprotect", at, PAGE, 3, 1)).toBe("EINVAL");
  });
});

describe("memory calls of one ABI only", () => {
  it("mmap's offset is in bytes on x86-64 and must be page aligned; MAP_32BIT stays low", () => {
    const guest = new CallGuest();
    expect(guest.outcome("mmap", 0, PAGE, 3, 0x22, -1, 1)).toBe("EINVAL");
    const low = guest.call("mmap", 0, PAGE, 3, 0x62, -1, 0);
    expect(low).toBeGreaterThanOrEqual(0x4000_0000);
    expect(low).toBeLessThan(0x8000_0000);
    guest.close();
  });

  it("i386's first mmap takes a block of arguments", () => {
    const guest = new CallGuest({ abi: i386 });
    expect(guest.outcome("mmap", guest.words(0x900_0000, PAGE, 3, 0x32, -1, 0))).toBe(0x900_0000);
    expect(guest.outcome("mmap", guest.words(0, PAGE, 3, 0x22, -1, 5))).toBe("EINVAL");
    expect(guest.outcome("mmap", 8)).toBe("EFAULT");
    expect(guest.lines[0]).toMatch(
      /^mmap\(\{0x9000000, 4096, PROT_READ\|PROT_WRITE, MAP_PRIVATE\|MAP_FIXED\|MAP_ANONYMOUS, -1, 0\}\)/,
    );
    guest.close();
  });
});
