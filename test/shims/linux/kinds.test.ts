// Expected texts are strace 6.1's.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { archPrctlCode, clockId, futexOp, madvice, mapFlags, prot } from "../../../shims/linux/kinds/flags.ts";
import type { Kind } from "../../../shims/linux/kinds/kinds.ts";
import {
  choice,
  dirfd,
  flags,
  flagText,
  hex,
  id,
  octal,
  pointer,
  size,
  word,
} from "../../../shims/linux/kinds/kinds.ts";
import {
  bufferIn,
  bufferOut,
  environment,
  iovecIn,
  iovecOut,
  path,
  quoteBytes,
  string,
  stringList,
  stringOut,
} from "../../../shims/linux/kinds/memory.ts";
import { CallGuest } from "./call-guest.ts";

describe("argument kinds", () => {
  let guest: CallGuest;
  beforeAll(() => {
    guest = new CallGuest();
  });
  afterAll(() => guest.close());

  const show = (kind: Kind, value: number, rest: { args?: number[]; result?: number; exact?: bigint } = {}): string => {
    const { args = [value], result, exact = BigInt.asUintN(64, BigInt(value)) } = rest;
    return kind.print(value, { task: guest.task, abi: guest.abi, args, exact, result });
  };
  const bytes = (text: string): number => guest.buffer(Buffer.from(text, "latin1"));

  it("print numbers, addresses and ids", () => {
    expect(hex(0)).toBe("0");
    expect(show(pointer, 0)).toBe("NULL");
    expect(show(pointer, 2 ** 64, { exact: 2n ** 64n - 1n })).toBe("0xffffffffffffffff");
    expect(show(size, 12)).toBe("12");
    expect(show(word, 0)).toBe("0");
    expect(show(octal, 0o644)).toBe("0644");
    expect(show(octal, 0)).toBe("000");
    expect(show(id, 0xffff_ffff)).toBe("-1");
    expect([show(dirfd, -100), show(dirfd, 3)]).toEqual(["AT_FDCWD", "3"]);
  });

  it("name flags and enums, and say what has no name", () => {
    expect(show(prot, 3)).toBe("PROT_READ|PROT_WRITE");
    expect(show(prot, 0)).toBe("PROT_NONE");
    expect(show(prot, 0x7000_0000)).toBe("0x70000000 /* PROT_??? */");
    expect(show(mapFlags, 0x22)).toBe("MAP_PRIVATE|MAP_ANONYMOUS");
    expect(show(archPrctlCode, 0x1002)).toBe("ARCH_SET_FS");
    expect(show(archPrctlCode, 0x9999)).toBe("0x9999 /* ARCH_??? */");
    expect(show(clockId, 99)).toBe("0x63 /* CLOCK_??? */");
    expect(show(madvice, 4)).toBe("MADV_DONTNEED");
    expect(show(futexOp, 129)).toBe("FUTEX_WAKE_PRIVATE");
    expect(show(futexOp, 9 | 256)).toBe("FUTEX_WAIT_BITSET|FUTEX_CLOCK_REALTIME");
    expect(show(flags("X_", { X_A: 1, X_C: 6, X_B: 2 }), 0x17)).toBe("X_A|X_C|0x10");
    expect(flagText("X_", [], 0)).toBe("0");
    expect(show(choice("Y_", { Y_M: -1 }), -1)).toBe("Y_M");
  });

  it("quote bytes with the shortest octal that is unambiguous", () => {
    expect(quoteBytes(Buffer.from('\x01\x001\x1b[m\n\t"\\\xff', "latin1"))).toBe('"\\1\\0001\\33[m\\n\\t\\"\\\\\\377"');
  });

  it("show strings and buffers, cut where strace cuts", () => {
    const long = "a".repeat(40);
    expect(show(path, bytes(`/${long}\0`))).toBe(`"/${long}"`);
    expect(show(string, bytes(`${long}\0`))).toBe(`"${"a".repeat(32)}"...`);
    expect(show(path, 8)).toBe("0x8");
    expect(show(path, 0)).toBe("NULL");
    const at = bytes(long);
    expect(show(bufferIn(1), at, { args: [at, 40] })).toBe(`"${"a".repeat(32)}"...`);
    expect(show(bufferOut, at, { result: 3 })).toBe('"aaa"');
    expect(show(bufferOut, at, { result: -14 })).toBe(`0x${at.toString(16)}`);
    expect(show(stringOut, bytes("/x\0"), { result: 3 })).toBe('"/x"');
  });

  it("show argv, envp and iovecs", () => {
    const list = guest.buffer(24);
    guest.memory.setNum64(list, bytes("ls\0"));
    guest.memory.setNum64(list + 8, bytes("-l\0"));
    expect(show(stringList, list)).toBe('["ls", "-l"]');
    expect(show(environment, list)).toBe(`0x${list.toString(16)} /* 2 vars */`);
    const vector = guest.buffer(32);
    guest.memory.setNum64(vector, bytes("abc"));
    guest.memory.setNum64(vector + 8, 3);
    guest.memory.setNum64(vector + 16, bytes("defg"));
    guest.memory.setNum64(vector + 24, 4);
    const args = [0, vector, 2];
    expect(show(iovecIn(2), vector, { args })).toBe('[{iov_base="abc", iov_len=3}, {iov_base="defg", iov_len=4}]');
    expect(show(iovecOut(2), vector, { args, result: 4 })).toBe(
      '[{iov_base="abc", iov_len=3}, {iov_base="d", iov_len=4}]',
    );
  });
});
