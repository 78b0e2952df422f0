import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { UserError } from "../../emulator/errors.ts";
import { HostEvents, hostEventModes, parseHostEventMode } from "../../providers/host-events.ts";
import { HostPanic } from "../../providers/lifecycle.ts";
import { createProvider, providerInfos } from "../../providers/registry.ts";
import { DATA } from "../emulator/guest.ts";
import { cell, exit, look, matrixTable, prologue, served } from "./event-matrix.ts";
import { fakePlatform } from "./fake-cpu.ts";
import { Call, call, runMini } from "./mini-shim.ts";

const SET = "as set";
const WRITTEN = "as written";

const README = join(import.meta.dirname, "../../README.md");

describe("the base after each event, on every platform and word size", () => {
  test("stands in the matrix that the documentation shows", async () => {
    const text = `${matrixTable()}\nWith the answers of LiteBox:\n\n${matrixTable({ asLitebox: true })}`;
    await expect(text).toMatchFileSnapshot("matrix.md");
    const readme = readFileSync(README, "utf8");
    const parts = readme.split(/(?<=<!-- matrix: .*\n)[\s\S]*(?=<!-- end of matrix -->)/);
    expect(parts).toHaveLength(2);
    await expect(parts.join(matrixTable())).toMatchFileSnapshot(README);
  });

  // The facts of LiteBox' sources that the matrix must show, by hand.
  test.each([
    ["linux-userland", "system call return", [SET, WRITTEN]],
    ["linux-userland", "exception", [SET, SET]],
    ["linux-userland", "interrupt", [SET, SET]],
    ["linux-kernel", "exception", [SET, WRITTEN]],
    ["linux-kernel", "exec", [SET, WRITTEN]],
    ["lvbs", "VTL switch", ["none", "none"]],
    ["windows-userland", "system call return", [SET, SET]],
    ["windows-userland", "reschedule", [SET, SET]],
    ["direct", "exec", ["none", "none"]],
    ["direct", "new thread", [SET, WRITTEN]],
  ] as const)("%s, %s", (provider, event, expected) => {
    expect(cell(provider, 64, event)).toEqual(expected);
  });

  test("as LiteBox, a new thread without TLS starts with 0, and exec on a kernel platform panics", () => {
    expect(cell("linux-userland", 64, "new thread", { asLitebox: true })).toEqual(["none", "none"]);
    expect(cell("windows-userland", 64, "new thread", { asLitebox: true })).toEqual(["none", "none"]);
    expect(cell("linux-kernel", 64, "exec", { asLitebox: true })).toEqual(["panic", "panic"]);
  });
});

describe.each(served)("%s, %i bits", (provider, bits) => {
  const body = `${prologue(bits)}
mov ebp, 60
again:
${look(bits)}
ud2
${call(bits, Call.nothing)}
dec ebp
jnz again
${exit(bits)}`;

  test.each(hostEventModes)("host events %s change nothing that a guest can see", (hostEvents) => {
    if (provider === "lvbs" && hostEvents !== "none") return;
    for (const seed of [1, 2, 3]) {
      const run = runMini(bits, body, { provider, hostEvents, seed });
      expect(run.end).toBe("exit");
      expect(run.reports).toEqual(Array.from({ length: 60 }, () => 0xa1n));
    }
  });

  test("every change of TLS stands in the ledger with the guest's state, not the host's", () => {
    const { gate } = runMini(bits, prologue(bits) + exit(bits), { provider });
    const last = gate.ledger.records().at(-1);
    if (bits === 64) expect(last).toMatchObject({ before: { fsBase: 0n }, after: { fsBase: BigInt(DATA) } });
    else expect(last?.after.descriptors).toHaveLength(1);
  });
});

test("on lvbs a VTL switch that strikes in the middle of guest code takes the base away", () => {
  const body = `${prologue(64)}mov ebp, 200\nagain:\n${look(64)}dec ebp\njnz again\n${exit(64)}`;
  expect(runMini(64, body, { provider: "lvbs", hostEvents: "storm" }).end).toBe("exception 14 at 0x0");
});

describe("Windows' zeroed base", () => {
  const zero = (body: string) => `${prologue(64)}${call(64, Call.reschedule)}jmp 1f\n1: nop\njmp 2f\n2: nop\n${body}`;

  test("is there for whoever looks at the CPU, and repaired by the first access that faults", () => {
    const rdfsbase = `rdfsbase rdi\n${call(64, Call.report)}`;
    expect(runMini(64, zero(rdfsbase + exit(64)), { provider: "windows-userland" }).reports).toEqual([0n]);
    const after = `xor eax, eax\nmov eax, fs:[rax]\n${rdfsbase}${exit(64)}`;
    expect(runMini(64, zero(after), { provider: "windows-userland" }).reports).toEqual([BigInt(DATA)]);
  });

  test("is not repaired where the stored base is 0, and a fault of the guest's own is still one after the retry", () => {
    const none = `${call(64, Call.reschedule)}xor eax, eax\nmov eax, fs:[rax]\n${exit(64)}`;
    expect(runMini(64, none, { provider: "windows-userland" }).end).toBe("exception 14 at 0x0");
    expect(runMini(64, zero("xor eax, eax\nmov eax, [rax]"), { provider: "windows-userland" }).end).toBe(
      "exception 14 at 0x0",
    );
  });
});

describe("what a host cannot stand", () => {
  test("a guest that changes the segment the host has its TLS in", () => {
    const wide = `mov eax, ${DATA}\nwrgsbase rax\n${call(64, Call.nothing)}${exit(64)}`;
    for (const provider of ["linux-userland", "windows-userland"])
      expect(runMini(64, wide, { provider }).end).toMatch(/^panic: .*its own TLS is at 0xffffc00000000000/);
    const narrow = `mov eax, 0x2b\nmov fs, ax\n${call(32, Call.nothing)}${exit(32)}`;
    expect(runMini(32, narrow, { provider: "linux-userland" }).end).toMatch(/^panic: .*its own TLS is at 0xffffe000/);
    for (const provider of ["direct", "linux-kernel", "lvbs"]) expect(runMini(64, wide, { provider }).end).toBe("exit");
  });

  test("GS requests are unsupported where the host needs GS; LiteBox' shim answers EINVAL itself", () => {
    const set = `mov edi, ${DATA}\n${call(64, Call.setGsBase)}mov rdi, rax\n${call(64, Call.report)}${exit(64)}`;
    const answer = (provider: string, asLitebox: boolean) => runMini(64, set, { provider, asLitebox }).reports;
    for (const provider of ["linux-userland", "windows-userland", "lvbs"]) {
      expect(answer(provider, false)).toEqual([2n ** 64n - 1000n]);
      expect(answer(provider, true)).toEqual([2n ** 64n - 22n]);
    }
    expect(answer("linux-kernel", false)).toEqual([0n]);
  });

  test("an address that is not canonical: EPERM on Linux, a #GP in LiteBox' own code", () => {
    const set = `mov rdi, 0x1234000000000000\n${call(64, Call.setFsBase)}mov rdi, rax\n${call(64, Call.report)}${exit(64)}`;
    for (const [provider, bits] of served) {
      if (bits === 32) continue;
      expect(runMini(64, set, { provider }).reports).toEqual([2n ** 64n - 1n]);
      if (provider === "direct") continue;
      expect(runMini(64, set, { provider, asLitebox: true }).end).toMatch(/^panic: .*raises #GP/);
    }
  });

  test("CR4.FSGSBASE off: #UD in every platform that writes the base itself", () => {
    for (const [provider, bits] of served) {
      if (bits === 32 || provider === "direct") continue;
      const run = () => runMini(64, prologue(64) + exit(64), { provider, fsgsbase: false });
      // linux-userland fails as soon as it attaches a thread, the others at the first request.
      let end = "";
      try {
        ({ end } = run());
      } catch (error) {
        if (!(error instanceof HostPanic)) throw error;
        end = error.message;
      }
      expect(end).toContain("wrfsbase raises #UD");
    }
  });

  test("as LiteBox on Linux, 32 bits, the host's C library has the first TLS entry", () => {
    const entry = `${prologue(32)}movzx ebx, word ptr [esp]\nmov ebx, gs\n${call(32, Call.report)}${exit(32)}`;
    expect(runMini(32, entry, { provider: "linux-userland" }).reports).toEqual([0x6bn]);
    expect(runMini(32, entry, { provider: "linux-userland", asLitebox: true }).reports).toEqual([0x73n]);
  });
});

describe("pairings", () => {
  const make = (name: string, options: Parameters<typeof createProvider>[2]) => () =>
    createProvider(name, fakePlatform(), options);

  test("what a provider does not serve is refused, with those that do", () => {
    expect(make("lvbs", { shim: "linux" })).toThrow(UserError);
    expect(make("lvbs", { shim: "linux" })).toThrow(
      /^provider lvbs does not serve the linux shim: .*choose one of direct, linux-userland, linux-kernel, windows-userland$/,
    );
    expect(make("windows-userland", { abi: "i386" })).toThrow(/does not serve i386 guests.*direct, linux-userland$/);
    expect(make("linux-kernel", { shim: "optee" })).toThrow(/does not serve the optee shim/);
    expect(make("direct", { asLitebox: true })).toThrow("provider direct is Linux");
  });

  test("differences from Linux have their sources", () => {
    for (const { name, abis, differences } of providerInfos)
      for (const abi of abis)
        for (const difference of name === "direct" ? [] : (differences[abi] ?? [])) {
          expect(difference.linux).not.toBe(difference.litebox);
          expect(difference.source).toMatch(/^litebox_\w+\/src\/[\w/]+\.rs:\d/);
        }
  });
});

describe("host events", () => {
  const moments = (seed: number): string[] => {
    const events = new HostEvents("storm", seed, ["interrupt", "reschedule"]);
    return Array.from({ length: 50 }, () => {
      const blocks = events.blocksLeft;
      return `${blocks} ${events.ran(blocks)}`;
    });
  };

  test("come at the same moments for a seed, at others for another", () => {
    expect(moments(7)).toEqual(moments(7));
    expect(moments(7)).not.toEqual(moments(8));
  });

  test("none never come, and a part of the way is no event", () => {
    expect(new HostEvents("none", 1, ["interrupt"]).blocksLeft).toBe(Number.POSITIVE_INFINITY);
    expect(new HostEvents("storm", 1, []).blocksLeft).toBe(Number.POSITIVE_INFINITY);
    const events = new HostEvents("some", 1, ["interrupt"]);
    const { blocksLeft } = events;
    expect(events.ran(blocksLeft - 1)).toBeUndefined();
    expect(events.ran(1)).toBe("interrupt");
  });

  test("an unknown mode is the user's error", () => {
    expect(parseHostEventMode("storm")).toBe("storm");
    expect(() => parseHostEventMode("rain")).toThrow('unknown host events "rain": choose one of none, some, storm');
  });
});
