// What Linux 6.18 answered to the same calls, on both ABIs.
import { afterEach, describe, expect, it } from "vitest";
import { i386, x86_64 } from "../../../shims/linux/abi.ts";
import { CallGuest, type CallGuestOptions } from "./call-guest.ts";

describe("TLS calls", () => {
  let guest: CallGuest;
  const start = (options: CallGuestOptions = {}): CallGuest => {
    guest = new CallGuest(options);
    return guest;
  };
  afterEach(() => guest.close());

  it("arch_prctl sets and gets both bases", () => {
    start();
    const to = guest.buffer(8);
    expect(guest.outcome("arch_prctl", 0x1002, 0x7ffff7d8a740)).toBe(0);
    expect(guest.outcome("arch_prctl", 0x1001, 0x1234)).toBe(0);
    expect(guest.outcome("arch_prctl", 0x1003, to)).toBe(0);
    expect(guest.memory.num64(to)).toBe(0x7ffff7d8a740);
    expect(guest.outcome("arch_prctl", 0x1004, to)).toBe(0);
    expect(guest.memory.num64(to)).toBe(0x1234);
    expect(guest.lines).toContain("arch_prctl(ARCH_SET_FS, 0x7ffff7d8a740) = 0");
    expect(guest.lines).toContain("arch_prctl(ARCH_GET_FS, [0x7ffff7d8a740]) = 0");
  });

  it("arch_prctl refuses kernel addresses with EPERM and never asks for a token", () => {
    start();
    for (const base of [0x7fff_ffff_f000n, 0x8000_0000_0000n, 0xffff_ffff_8000_0000n, -1n]) {
      expect(guest.outcome("arch_prctl", 0x1002, base)).toBe("EPERM");
      expect(guest.outcome("arch_prctl", 0x1001, base)).toBe("EPERM");
    }
    expect(guest.outcome("arch_prctl", 0x1001, 0x7fff_ffff_efffn)).toBe(0);
    expect(guest.gate.ledger.records()).toHaveLength(1);
    expect(guest.lines[0]).toBe("arch_prctl(ARCH_SET_FS, 0x7ffffffff000) = -1 EPERM (FS base lies outside user space)");
    expect(guest.lines.at(-3)).toBe(
      "arch_prctl(ARCH_SET_GS, 0xffffffffffffffff) = -1 EPERM (GS base lies outside user space)",
    );
  });

  it("arch_prctl answers EFAULT for a place it cannot write", () => {
    start();
    guest.process.space.map(0x40_0000, 4096, 1);
    expect(guest.outcome("arch_prctl", 0x1003, 0x40_0000)).toBe("EFAULT");
    expect(guest.outcome("arch_prctl", 0x1004, 8)).toBe("EFAULT");
    expect(guest.outcome("arch_prctl", 0x1003, -1n)).toBe("EFAULT");
    expect(guest.lines[0]).toBe("arch_prctl(ARCH_GET_FS, 0x400000)       = -1 EFAULT (cannot write at 0x400000)");
  });

  it.each([
    [0x1011, 1, 1],
    [0x1012, "ENODEV", "ENODEV"],
    [0x1023, "EOPNOTSUPP", "EOPNOTSUPP"],
    [0x2001, "EINVAL", "EINVAL"],
    [0x2002, "EEXIST", "EINVAL"],
    [0x2003, "EEXIST", "EINVAL"],
    [0x3001, "EINVAL", "EINVAL"],
    [0x4001, "EINVAL", "EINVAL"],
    [0x5001, "EINVAL", "EINVAL"],
    [0x5005, "EINVAL", "EINVAL"],
    [0, "EINVAL", "EINVAL"],
    [-1, "EINVAL", "EINVAL"],
    [0x1000, "EINVAL", "EINVAL"],
  ] as const)("arch_prctl code %i answers %s, and %s to i386 calls", (code, native, compat) => {
    start();
    expect(guest.outcome("arch_prctl", code, 2)).toBe(native);
    guest.close();
    start({ abi: i386 });
    expect(guest.outcome("arch_prctl", code, 2)).toBe(compat);
  });

  it("arch_prctl tells the CPU's features, and EINVAL of one there is not", () => {
    start();
    const to = guest.buffer(8);
    expect(guest.outcome("arch_prctl", 0x1021, to)).toBe(0);
    expect(guest.memory.num64(to)).toBe(3);
    expect(guest.outcome("arch_prctl", 0x1022, 8)).toBe("EFAULT");
    expect(guest.outcome("arch_prctl", 0x1023, 99)).toBe("EINVAL");
  });

  it("base codes of arch_prctl are for 64-bit calls only", () => {
    start({ abi: i386 });
    for (const code of [0x1001, 0x1002, 0x1003, 0x1004])
      expect(guest.outcome("arch_prctl", code, 0x1234)).toBe("EINVAL");
  });

  const desc = (entry: number, base: number, flags = 0x51, limit = 0xfffff): readonly number[] => [
    entry,
    base,
    limit,
    flags,
  ];

  it("set_thread_area finds a free entry, writes it back only where asked, and ends with ESRCH", () => {
    start({ abi: i386 });
    const at = [0x1000, 0x2000, 0x3000].map((base) => guest.words(...desc(-1, base)));
    for (const [index, place] of at.entries()) {
      expect(guest.outcome("set_thread_area", place)).toBe(0);
      expect(guest.memory.u32(place)).toBe(12 + index);
    }
    expect(guest.outcome("set_thread_area", guest.words(...desc(-1, 0x4000)))).toBe("ESRCH");
    const again = guest.words(...desc(13, 0x5000));
    expect(guest.outcome("set_thread_area", again)).toBe(0);
    const read = guest.words(13, 0, 0, 0);
    expect(guest.outcome("get_thread_area", read)).toBe(0);
    expect([4, 8, 12].map((offset) => guest.memory.u32(read + offset))).toEqual([0x5000, 0xfffff, 0x51]);
    expect(guest.lines[0]).toBe(
      "set_thread_area({entry_number=-1, base_addr=0x00001000, limit=0x0fffff, seg_32bit=1, contents=0, " +
        "read_exec_only=0, limit_in_pages=1, seg_not_present=0, useable=1}) = 0",
    );
  });

  it("set_thread_area and get_thread_area refuse other entries, segments and addresses", () => {
    start({ abi: i386 });
    expect(guest.outcome("set_thread_area", guest.words(...desc(11, 0)))).toBe("EINVAL");
    expect(guest.outcome("set_thread_area", guest.words(...desc(15, 0)))).toBe("EINVAL");
    expect(guest.outcome("set_thread_area", guest.words(...desc(12, 0, 0x50)))).toBe("EINVAL");
    expect(guest.outcome("set_thread_area", guest.words(...desc(12, 0, 0x55)))).toBe("EINVAL");
    expect(guest.outcome("set_thread_area", 8)).toBe("EFAULT");
    expect(guest.outcome("get_thread_area", guest.words(5, 0, 0, 0))).toBe("EINVAL");
    expect(guest.outcome("get_thread_area", 8)).toBe("EFAULT");
  });

  it("a 64-bit kernel has no set_thread_area for 64-bit calls", () => {
    start();
    expect(guest.outcome("set_thread_area", guest.words(...desc(-1, 0)))).toBe("ENOSYS");
    expect(guest.outcome("get_thread_area", 8)).toBe("ENOSYS");
  });

  it.each([
    ["x86_64", x86_64],
    ["i386", i386],
  ] as const)("modify_ldt on %s", (_, abi) => {
    start({ abi });
    // The 64-bit call returns an `unsigned int`, so an error is no error there.
    const expected = (errno: number): number => (abi === x86_64 ? 2 ** 32 - errno : -errno);
    const to = guest.buffer(256);
    expect(guest.call("modify_ldt", 0, to, 16)).toBe(0);
    expect(guest.call("modify_ldt", 2, to, 16)).toBe(16);
    expect(guest.call("modify_ldt", 2, to, 200)).toBe(128);
    expect(guest.call("modify_ldt", 2, 8, 200)).toBe(expected(14));
    expect(guest.call("modify_ldt", 3, to, 16)).toBe(expected(38));
    expect(guest.call("modify_ldt", 1, to, 15)).toBe(expected(22));
    expect(guest.call("modify_ldt", 0x11, 8, 16)).toBe(expected(14));
    expect(guest.call("modify_ldt", 0x11, guest.words(...desc(8192, 0)), 16)).toBe(expected(22));
    expect(guest.call("modify_ldt", 0x11, guest.words(...desc(1, 0x12345678)), 16)).toBe(0);
    expect(guest.call("modify_ldt", 0, to, 32)).toBe(32);
    expect(guest.memory.u64(to)).toBe(0n);
    expect(guest.memory.u64(to + 8)).toBe(0x12df_f334_5678_ffffn);
    expect(guest.call("modify_ldt", 0, 8, 16)).toBe(expected(14));
    expect(guest.call("modify_ldt", 0, to, 0)).toBe(0);
  });

  it.each([
    ["x86_64", x86_64, 24],
    ["i386", i386, 12],
  ] as const)("robust lists of %s have heads of three words", (_, abi, size) => {
    start({ abi });
    const to = guest.buffer(16);
    expect(guest.outcome("set_robust_list", 0x1000, size)).toBe(0);
    expect(guest.outcome("set_robust_list", 0x1000, size + 12)).toBe("EINVAL");
    expect(guest.outcome("get_robust_list", 0, to, to + 8)).toBe(0);
    expect([guest.memory.u32(to), guest.memory.u32(to + 8)]).toEqual([0x1000, size]);
    expect(guest.outcome("get_robust_list", 999_999, to, to)).toBe("ESRCH");
    expect(guest.outcome("get_robust_list", 0, 8, to)).toBe("EFAULT");
  });

  it("rseq registers once, tells CPU 0, and goes with the right signature only", () => {
    start();
    const at = guest.buffer(64);
    expect(at % 32).toBe(0);
    guest.memory.setU32(at + 4, 0xffff_ffff);
    expect(guest.outcome("rseq", 0, 0, 0, 0)).toBe("EINVAL");
    expect(guest.outcome("rseq", at + 1, 32, 0, 1)).toBe("EINVAL");
    expect(guest.outcome("rseq", at, 31, 0, 1)).toBe("EINVAL");
    expect(guest.outcome("rseq", at, 32, 2, 1)).toBe("EINVAL");
    expect(guest.outcome("rseq", -32n, 32, 0, 1)).toBe("EFAULT");
    expect(guest.outcome("rseq", at, 32, 0, 1)).toBe(0);
    expect(guest.memory.u32(at + 4)).toBe(0);
    expect(guest.outcome("rseq", at, 32, 0, 1)).toBe("EBUSY");
    expect(guest.outcome("rseq", at, 32, 0, 2)).toBe("EPERM");
    expect(guest.outcome("rseq", at, 64, 0, 1)).toBe("EINVAL");
    expect(guest.outcome("rseq", at, 32, 1, 2)).toBe("EPERM");
    expect(guest.outcome("rseq", at, 32, 1, 1)).toBe(0);
    expect(guest.memory.u32(at + 4)).toBe(0xffff_ffff);
    expect(guest.outcome("rseq", at, 32, 1, 1)).toBe("EINVAL");
  });

  it("set_tid_address answers the thread's id and keeps the address", () => {
    start();
    expect(guest.call("set_tid_address", 0x1234)).toBe(guest.task.tid);
    expect(guest.task.clearChildTid).toBe(0x1234);
  });

  it("a denied token is EPERM, or what the rule says, and the base stays", () => {
    start({ policy: { decide: (request) => ({ allow: request.kind !== "SetFsBase", rule: "no FS" }) } });
    expect(guest.outcome("arch_prctl", 0x1002, 0x1000)).toBe("EPERM");
    expect(guest.lines[0]).toBe("arch_prctl(ARCH_SET_FS, 0x1000)         = -1 EPERM (denied by no FS)");
    guest.close();
    start({ policy: { decide: () => ({ allow: false, rule: "no TLS", errno: 13 }) } });
    expect(guest.outcome("arch_prctl", 0x1001, 0x1000)).toBe("EACCES");
  });
});
