import { afterEach, describe, expect, test } from "vitest";
import { HostPanic } from "../../providers/lifecycle.ts";
import { EitherProvider, type PunchthroughProvider } from "../../providers/punchthrough.ts";
import type { Request, Result } from "../../providers/requests.ts";
import { type Bits, DATA } from "../emulator/guest.ts";
import { cell } from "./event-matrix.ts";
import { runLibc, symptoms } from "./libc-guest.ts";
import { Call, call, type MiniOptions, runMini } from "./mini-shim.ts";
import { MiniTee, TLS } from "./mini-tee.ts";

/**
 * What a testbed for LiteBox must let someone see: a fault, the platform where it can occur, and how it shows. Numbers are those
 * of the list of regressions in the project's notes on LiteBox.
 */
interface Regression {
  readonly number: number;
  readonly fault: string;
  readonly bits?: Bits;
  readonly options: MiniOptions;
  /** At least these, in words of `symptoms`. */
  readonly shows: readonly string[];
}

const ALL: readonly Regression[] = [
  {
    number: 1,
    fault: "SetFsBase says ok and writes nothing",
    options: { inject: ["SetFsBase:nothing:when=1"] },
    shows: ["exception 14 at 0x0", "not-as-asked"],
  },
  { number: 2, fault: "SetFsBase reports EINVAL", options: { inject: ["SetFsBase:error=EINVAL"] }, shows: ["guest"] },
  {
    number: 3,
    fault: "SetFsBase is off by n",
    options: { inject: ["SetFsBase:offset=16:when=1"] },
    shows: ["guest", "not-as-asked"],
  },
  { number: 4, fault: "Get after Set differs", options: { inject: ["GetFsBase:nothing"] }, shows: ["guest"] },
  {
    number: 6,
    fault: "Unsupported reaches LiteBox' shim",
    options: { provider: "linux-userland", asLitebox: true, inject: ["SetFsBase:unsupported"] },
    shows: ["panic"],
  },
  {
    number: 6,
    fault: "Unimplemented reaches LiteBox' shim",
    options: { provider: "windows-userland", asLitebox: true, inject: ["SetFsBase:unimplemented"] },
    shows: ["panic"],
  },
  {
    number: 6,
    fault: "no token for LiteBox' shim",
    options: { provider: "linux-kernel", asLitebox: true, inject: ["SetFsBase:deny"] },
    shows: ["panic"],
  },
  {
    number: 7,
    fault: "a token executed twice",
    options: { inject: ["SetFsBase:twice:when=1"] },
    shows: ["token-reused"],
  },
  {
    number: 7,
    fault: "a token kept while its thread goes on",
    options: { inject: ["SetFsBase:late:when=1"] },
    shows: ["token-stale", "exception 14 at 0x0"],
  },
  {
    number: 7,
    fault: "a token executed for another thread",
    options: { inject: ["SetFsBase:wrong-thread:when=1"] },
    shows: ["token-wrong-thread"],
  },
  {
    number: 8,
    fault: "the host's CR4.FSGSBASE is off",
    options: { provider: "windows-userland", inject: ["cpu:no-fsgsbase"] },
    shows: ["panic"],
  },
  {
    number: 9,
    fault: "the swap is left out on the way in",
    options: { provider: "linux-userland", inject: ["@syscall:skip-restore:when=1"] },
    shows: ["changed-by-host"],
  },
  {
    number: 9,
    fault: "FS and GS are swapped the wrong way",
    options: { provider: "linux-userland", inject: ["@syscall:swap:when=1"] },
    shows: ["changed-by-host"],
  },
  {
    number: 10,
    fault: "the guest's base is not put back",
    options: { provider: "linux-userland", inject: ["@exception:skip-restore"] },
    shows: ["changed-by-host"],
  },
  {
    number: 10,
    fault: "the guest's selector is not put back",
    bits: 32,
    options: { provider: "linux-userland", inject: ["@exception:skip-restore"] },
    shows: ["changed-by-host"],
  },
  {
    number: 11,
    fault: "the base is lost at an exception",
    options: { provider: "linux-userland", inject: ["@exception:lose-base"] },
    shows: ["exception 14 at 0x0", "changed-by-host"],
  },
  {
    number: 15,
    fault: "swapgs is left out",
    options: { provider: "linux-kernel", inject: ["@syscall:skip-restore:when=1"] },
    shows: ["panic"],
  },
  {
    number: 15,
    fault: "swapgs is left out",
    options: { provider: "lvbs", inject: ["@exception:skip-restore"] },
    shows: ["panic"],
  },
  { number: 17, fault: "SETTLS is ignored", options: { inject: ["SETTLS:nothing"] }, shows: ["not-as-asked", "guest"] },
  { number: 18, fault: "a child's base is 0", options: { inject: ["SETTLS:base=0"] }, shows: ["exception 14 at 0x0"] },
  {
    number: 19,
    fault: "clone writes over the parent's base",
    options: { inject: ["SETTLS:parent"] },
    shows: ["changed-by-host", "cross-thread"],
  },
  {
    number: 20,
    fault: "the child's user_desc is used again too early",
    bits: 32,
    options: { inject: ["SETTLS:base=4096"] },
    shows: ["exception 14 at 0x1000", "not-as-asked"],
  },
  { number: 22, fault: "exec leaves the base", options: { provider: "linux-kernel" }, shows: ["exec-not-cleared"] },
  {
    number: 23,
    fault: "the entry number does not come back",
    bits: 32,
    options: { inject: ["SetThreadArea:no-writeback:when=1"] },
    shows: ["exception 13", "not-as-asked"],
  },
  {
    number: 24,
    fault: "the descriptor is not present",
    bits: 32,
    options: { inject: ["SetThreadArea:not-present:when=1"] },
    shows: ["exception 11", "not-as-asked"],
  },
  {
    number: 24,
    fault: "the descriptor is missing",
    bits: 32,
    options: { inject: ["SetThreadArea:nothing:when=1"] },
    shows: ["exception 13", "not-as-asked"],
  },
  {
    number: 24,
    fault: "the descriptor has base 0",
    bits: 32,
    options: { inject: ["SetThreadArea:base=0:when=1"] },
    shows: ["exception 14 at 0x0", "not-as-asked"],
  },
  {
    number: 25,
    fault: "set_thread_area fails",
    bits: 32,
    options: { inject: ["SetThreadArea:error=ESRCH:when=1"] },
    shows: ["guest"],
  },
  {
    number: 26,
    fault: "the limit is wrong, which the engine does not enforce",
    bits: 32,
    options: { inject: ["SetThreadArea:limit=0:when=1"] },
    shows: ["not-as-asked"],
  },
  {
    number: 28,
    fault: "GS is lost after a handler",
    bits: 32,
    options: { inject: ["@sigreturn:lose-base"] },
    shows: ["exception 14 at 0x0", "changed-by-host"],
  },
  {
    number: 28,
    fault: "GS is lost before a handler",
    bits: 32,
    options: { provider: "linux-userland", inject: ["@signal:lose-base"] },
    shows: ["exception 14 at 0x0", "changed-by-host"],
  },
  {
    number: 29,
    fault: "exec leaves the descriptor",
    bits: 32,
    options: { inject: ["ClearTls:nothing:when=2"] },
    shows: ["exec-not-cleared"],
  },
];

/** A line of regressions.md: what was reproduced in this run, where, by what, and how it showed. */
interface Shown {
  readonly number: number;
  readonly fault: string;
  readonly platform: string;
  readonly by: string;
  readonly how: string;
}

const shown: Shown[] = [];

function show(number: number, fault: string, platform: string, by: string, how: string): void {
  shown.push({ number, fault, platform, by, how });
}

/** Faults and options as they would be typed. */
function typed({ inject = [], asLitebox, hostEvents }: MiniOptions): string {
  const words = inject.map((rule) => `\`--inject ${rule}\``);
  if (asLitebox) words.push("`--as litebox`");
  if (hostEvents !== undefined) words.push(`\`--host-events ${hostEvents}\``);
  return words.join(", ") || "by itself";
}

const words = (signs: readonly string[]): string =>
  signs.map((sign) => (sign === "guest" ? "the guest's own check" : sign)).join(", ");

describe("the C library's way of using TLS notices, or the audit finds", () => {
  test.each(ALL)("$number: $fault", ({ number, fault, bits = 64, options, shows }) => {
    const signs = symptoms(runLibc(bits, options));
    expect(signs).toEqual(expect.arrayContaining([...shows]));
    const platform = `${options.provider ?? "direct"}${bits === 32 ? " (i386)" : ""}`;
    show(number, fault, platform, typed(options), words(signs));
  });
});

describe("what needs a guest of its own", () => {
  const exit = call(64, Call.exit);
  const report = call(64, Call.report);

  test("4: after the guest's own wrfsbase the platforms answer GET_FS differently", () => {
    const guest = `mov edi, ${DATA}\n${call(64, Call.setFsBase)}mov eax, ${DATA + 0x1000}\nwrfsbase rax
${call(64, Call.getFsBase)}mov rdi, rax\n${report}${exit}`;
    const answer = (provider: string) => runMini(64, guest, { provider }).reports;
    for (const provider of ["direct", "linux-userland", "linux-kernel", "lvbs"])
      expect(answer(provider)).toEqual([BigInt(DATA + 0x1000)]);
    expect(answer("windows-userland")).toEqual([BigInt(DATA)]);
    show(4, "Get answers the stored base after wrfsbase", "windows-userland", "by itself", "the guest's own check");
  });

  test("5: an address that is not canonical is EPERM, and as LiteBox a #GP of the host", () => {
    const guest = `mov rdi, 0x800000000000\n${call(64, Call.setFsBase)}mov rdi, rax\n${report}${exit}`;
    expect(runMini(64, guest, { provider: "linux-userland" }).reports).toEqual([2n ** 64n - 1n]);
    const run = runMini(64, guest, { provider: "linux-userland", asLitebox: true });
    expect(run.end).toMatch(/^panic: .*wrfsbase of 0x800000000000 raises #GP/);
    expect(symptoms(run)).toContain("base-not-canonical");
    show(5, "an address that is not canonical is accepted", "linux-userland", "`--as litebox`", words(symptoms(run)));
  });

  test("8: linux-userland cannot even take the CPU without FSGSBASE", () => {
    expect(() => runLibc(64, { provider: "linux-userland", fsgsbase: false })).toThrow(HostPanic);
    show(8, "the host's CR4.FSGSBASE is off", "linux-userland", "`--inject cpu:no-fsgsbase`", "panic");
  });

  test("11, 21: what a platform loses by itself is a finding too", () => {
    expect(cell("linux-userland", 64, "exception")).toEqual(["as set", "as set"]);
    const guest = `mov edi, ${DATA}\n${call(64, Call.setFsBase)}mov eax, ${DATA + 0x1000}\nwrfsbase rax\nud2\n${exit}`;
    const found = runMini(64, guest, { provider: "linux-userland" }).findings.map(({ kind }) => kind);
    expect(found).toEqual(["changed-by-guest", "changed-by-host"]);
    show(11, "a base of the guest's own is lost at an exception", "linux-userland", "by itself", words(found));
    expect(cell("linux-userland", 64, "new thread", { asLitebox: true })[0]).toBe("none");
    expect(cell("direct", 64, "new thread")[0]).toBe("as set");
    show(21, "a thread without SETTLS starts with base 0", "linux-userland", "`--as litebox`", "exception 14");
  });

  test("12, 13: Windows' zeroed base is retried where there is a stored one, and only there", () => {
    expect(symptoms(runLibc(64, { provider: "windows-userland", hostEvents: "storm", seed: 3 }))).toEqual([]);
    const none = `${call(64, Call.reschedule)}xor eax, eax\nmov eax, fs:[rax]\n${exit}`;
    expect(runMini(64, none, { provider: "windows-userland" }).end).toBe("exception 14 at 0x0");
    const zeroed = "Windows zeroes the base";
    show(12, zeroed, "windows-userland", "`--host-events storm`", "not at all: it is repaired, as it must be");
    const unrepaired: MiniOptions = {
      provider: "windows-userland",
      hostEvents: "storm",
      seed: 3,
      inject: ["@repair:skip-restore"],
    };
    const signs = symptoms(runLibc(64, unrepaired));
    expect(signs).toContain("exception 14 at 0x0");
    show(12, `${zeroed}, and no fault is retried`, "windows-userland", typed(unrepaired), words(signs));
    show(13, `${zeroed}, and none is stored`, "windows-userland", "a reschedule", "exception 14 at 0x0");
  });

  test("14: an interrupt that strikes at the repair is not lost, and neither is the base", () => {
    for (let seed = 1; seed <= 20; seed++)
      expect(symptoms(runLibc(64, { provider: "windows-userland", hostEvents: "storm", seed }))).toEqual([]);
    const inject = ["@interrupt:lose-base"];
    const signs = symptoms(runLibc(64, { provider: "linux-userland", inject }));
    expect(signs).toContain("exception 14 at 0x0");
    show(14, "the base is lost at an interrupt", "linux-userland", typed({ inject }), words(signs));
    const never =
      "cannot occur: whether a thread has a signal or an end is asked on each way in, not told by an interrupt";
    show(14, "an interrupt at the repair is missed", "windows-userland", "20 storms of host events", never);
  });

  test("16: rcx and r11 are lost on the way out", () => {
    const guest = `mov edi, ${DATA}\n${call(64, Call.setFsBase)}mov ecx, 0x1111\nmov r11d, 0x2222\nud2
xchg rdi, rcx\nmov rbx, r11\n${report}mov rdi, rbx\n${report}${exit}`;
    const inject = ["@exception:sysret"];
    for (const provider of ["windows-userland", "linux-kernel"]) {
      expect(runMini(64, guest, { provider }).reports).toEqual([0x1111n, 0x2222n]);
      const [rcx, r11] = runMini(64, guest, { provider, inject }).reports;
      expect([rcx === 0x1111n, r11 === 0x2222n]).toEqual([false, false]);
      show(16, "rcx and r11 are lost on the way out", provider, typed({ inject }), "the guest's own check");
    }
  });

  test("22: a thread's end leaves the others' base alone", () => {
    for (const provider of ["direct", "linux-userland", "linux-kernel", "windows-userland"])
      expect(cell(provider, 64, "thread exit")[0]).toBe("as set");
    expect(cell("linux-userland", 32, "thread exit")[0]).toBe("as set");
    const inject = ["@switch:stale-base:when=3"];
    const signs = symptoms(runLibc(64, { inject }));
    expect(signs).toContain("changed-by-host");
    show(22, "a thread's end costs another its base", "direct", typed({ inject }), words(signs));
  });

  test("27: each -1 gets another entry, and the fourth ESRCH", () => {
    const desc = DATA + 0x800;
    const ask = `mov edx, ${desc}\nmov dword ptr [edx], -1\nmov dword ptr [edx+8], 0xfffff\nmov dword ptr [edx+12], 0x51
mov dword ptr [edx+4], ${DATA}\n${call(32, Call.setThreadArea, "edx")}mov ecx, eax\nmov ebx, dword ptr [edx]\nadd ebx, ecx\n${call(32, Call.report)}`;
    const reports = (options: MiniOptions) => runMini(32, `${ask.repeat(4)}${call(32, Call.exit)}`, options).reports;
    expect(reports({})).toEqual([12n, 13n, 14n, BigInt.asUintN(32, -1n - 3n)]);
    expect(reports({ provider: "linux-userland", asLitebox: true }).slice(0, 3)).toEqual([
      13n,
      14n,
      BigInt.asUintN(32, -4n),
    ]);
    const inject = ["SetThreadArea:entry=1:when=2"];
    const wrong = runMini(32, `${ask.repeat(4)}${call(32, Call.exit)}`, { inject });
    expect(wrong.reports).toEqual([12n, 14n, 14n, BigInt.asUintN(32, -4n)]);
    const found = wrong.findings.map(({ kind }) => kind);
    expect(found).toContain("not-as-asked");
    show(27, "two threads' entries are mixed up", "direct (i386)", typed({ inject }), words(["guest", ...found]));
  });

  test("38: what a thread should have, and who says so, against what is in the CPU", () => {
    const { findings } = runLibc(64, { provider: "linux-userland", inject: ["@exception:lose-base"] });
    expect(findings.find(({ kind }) => kind === "changed-by-host")?.detail).toMatch(
      /^runs with FS base 0x0, but had 0x600000 \(arch_prctl, ledger entry 1\)$/,
    );
    show(
      38,
      "base expected, in the CPU, and its writer",
      "every",
      "findings",
      "runs with FS base 0x0, but had 0x600000 (…)",
    );
  });

  test("39: a composed provider says which side failed, and keeps the name of what is not written", () => {
    const answering = (result: Result): PunchthroughProvider => ({
      name: "x",
      getPunchthroughTokenFor: () => ({ provider: "x", execute: () => result }),
    });
    const none: PunchthroughProvider = { name: "none", getPunchthroughTokenFor: () => undefined };
    const request: Request = { kind: "GetFsBase" };
    const asker = { thread: 1, pc: 0n, call: "arch_prctl" };
    const ask = (left: PunchthroughProvider, right: PunchthroughProvider) =>
      new EitherProvider(left, right).getPunchthroughTokenFor(request, asker)?.execute();
    const failing = answering({ kind: "failure", errno: 22 });
    expect(ask(failing, none)).toEqual({ kind: "failure", errno: 22, sides: ["Left"] });
    expect(ask(none, failing)).toEqual({ kind: "failure", errno: 22, sides: ["Right"] });
    const unwritten: Result = { kind: "unimplemented", name: "GetFsBase" };
    expect(ask(answering(unwritten), none)).toEqual(unwritten);
    show(
      39,
      "a side or a name of Either gets lost",
      "composed",
      "a failing side",
      "Failure(Left(EINVAL)), and the name kept",
    );
  });
});

describe.each(["direct", "linux-userland", "lvbs"])("trusted applications on %s", (provider) => {
  const open: MiniTee[] = [];
  const tee = (inject: readonly string[] = [], loader = false): MiniTee => {
    const made = new MiniTee(provider, inject, loader);
    open.push(made);
    return made;
  };
  afterEach(() => {
    for (const made of open.splice(0)) made.close();
  });

  test("entries with their TLS restored are right, and nothing is found", () => {
    const two = tee();
    for (const instance of [1, 2, 1, 2]) expect(two.enter(instance, TLS[instance - 1])).toBe("returned");
    expect(two.findings).toEqual([]);
  });

  test("30: a restore that is skipped before the second entry", () => {
    const one = tee();
    expect(one.enter(1, TLS[0])).toBe("returned");
    const end = one.enter(1, undefined);
    // linux-userland has its copy, so the guest does not notice; the audit does.
    expect(end).toBe(provider === "linux-userland" ? "returned" : "target dead at 0x28");
    expect(one.findings).toContain("entry-without-restore");
    const dead = end === "returned" ? [] : [end];
    show(30, "a restore is skipped before an entry", provider, "no token asked for", words([...dead, ...one.findings]));
  });

  test("31: a base that stays 0", () => {
    const inject = ["SetFsBase:base=0:when=1"];
    const one = tee(inject);
    expect(one.enter(1, TLS[0])).toBe("target dead at 0x28");
    show(31, "tls_base_addr stays 0", provider, typed({ inject }), words(["target dead at 0x28", ...one.findings]));
  });

  test("32: a base that changes in mid-function, seen by the pattern behind it", () => {
    const one = tee(["@syscall:stale-base:when=1"]);
    expect(one.enter(1, TLS[0])).toBe("smashed");
    expect(one.findings).toContain("changed-by-host");
    const by = "`--inject @syscall:stale-base`";
    show(32, "the base changes in mid-function", provider, by, words(["smashed", ...one.findings]));
  });

  test("33: a stale base while the loader runs shows nowhere but in an audit", () => {
    const loader = tee(["@entry:stale-base:when=1"], true);
    expect(loader.enter(1, TLS[0])).toBe("returned");
    expect(loader.findings).toContain("changed-by-host");
    show(33, "a stale base while ldelf runs", provider, "`--inject @entry:stale-base`", words(loader.findings));
  });

  test("34: the base of instance 1 for instance 2", () => {
    const two = tee();
    two.enter(1, TLS[0]);
    two.enter(2, TLS[1]);
    expect(two.enter(2, TLS[0])).toBe("returned");
    expect(two.findings).toContain("shared-base");
    show(34, "instance 1's base for instance 2", provider, "that base restored", words(two.findings));
  });

  test("35: a page that is not there", () => {
    const one = tee();
    expect(one.enter(1, DATA + 0x2000)).toBe("target dead at 0x602028");
    expect(one.findings).toContain("base-unmapped");
    const signs = ["target dead at 0x602028", ...one.findings];
    show(35, "the TLS page is too small", provider, "a base outside of it", words(signs));
  });

  test("36: a restore that fails and is swallowed, and one that does nothing", () => {
    expect(tee(["SetFsBase:error=EPERM:when=2"]).enter(1, TLS[0])).toBe("returned");
    const failed = tee(["SetFsBase:error=EPERM:when=2"]);
    failed.enter(1, TLS[0]);
    expect(failed.enter(1, TLS[0])).toBe("not restored: failure");
    const silent = tee(["SetFsBase:nothing:when=1"]);
    expect(silent.enter(1, TLS[0])).toBe("target dead at 0x28");
    expect(silent.findings).toContain("not-as-asked");
    const signs = words(["target dead at 0x28", ...silent.findings]);
    show(36, "a failed restore is swallowed", provider, "`--inject SetFsBase:nothing`", signs);
  });

  test("37: a VTL switch between the restore and the entry", () => {
    const one = tee(["@entry:lose-base"]);
    expect(one.enter(1, TLS[0])).toBe("target dead at 0x28");
    expect(one.findings).toContain("changed-by-host");
    const signs = words(["target dead at 0x28", ...one.findings]);
    show(37, "a VTL switch between restore and entry", provider, "`--inject @entry:lose-base`", signs);
  });
});

test("each of the 39 has been reproduced, and is told of in the table", async () => {
  expect(new Set(shown.map(({ number }) => number))).toEqual(new Set(Array.from({ length: 39 }, (_, i) => i + 1)));
  const lines = shown
    .toSorted((a, b) => a.number - b.number)
    .map(({ number, fault, platform, by, how }) => `| ${number} | ${fault} | ${platform} | ${by} | ${how} |`);
  const head = "| | what is wrong | provider | reproduced by | noticed by |\n| --- | --- | --- | --- | --- |";
  const title = "# LiteBox's regressions, reproduced and noticed\n\nWritten by `test/providers/regressions.test.ts`.";
  await expect(`${title}\n\n${head}\n${lines.join("\n")}\n`).toMatchFileSnapshot("regressions.md");
});
