import { afterEach, describe, expect, it } from "vitest";
import { HostEvents } from "../../../providers/host-events.ts";
import { uteeCalls } from "../../../shims/optee/calls/all.ts";
import { ldelfCalls } from "../../../shims/optee/calls/ldelf.ts";
import { invokeCommand, openSession, type TaAnswer, type TaParam } from "../../../shims/optee/client.ts";
import type { TeeHost } from "../../../shims/optee/host.ts";
import { formatPanic } from "../../../shims/optee/panic.ts";
import { resultName } from "../../../shims/optee/results.ts";
import type { Session } from "../../../shims/optee/session.ts";
import { uuidToBytes } from "../../../shims/optee/uuid.ts";
import { type TaName, ta, taFiles, teeWith } from "./ta-files.ts";

const providers = ["direct", "linux-userland", "lvbs"] as const;
const hosts: TeeHost[] = [];

afterEach(() => {
  for (const host of hosts.splice(0)) host.close();
});

function tee(names: readonly [TaName, ...TaName[]], options: Parameters<typeof teeWith>[1] = {}): TeeHost {
  const host = teeWith(names, options);
  hosts.push(host);
  return host;
}

function open(host: TeeHost, name?: TaName, params: readonly TaParam[] = []): Session {
  const { session, answer } = openSession(host.tee, name === undefined ? host.main.uuid : ta(name).uuid, params);
  if (session === undefined) throw new Error(`${resultName(answer.result)} ${answer.reason}`);
  return session;
}

function opens(host: TeeHost, name: TaName): string {
  const { session, answer } = openSession(host.tee, ta(name).uuid, []);
  if (session !== undefined) host.tee.sessions.close(session);
  return resultName(answer.result);
}

const result = (answer: TaAnswer): string => resultName(answer.result);

describe("the tables", () => {
  it("have every call of OP-TEE", () => {
    const numbers = uteeCalls.rows.map((row) => row.number).sort((a, b) => a - b);
    expect(numbers).toEqual([...Array.from({ length: 55 }, (_, index) => index), 70]);
    expect(ldelfCalls.rows.map((row) => row.number)).toEqual(Array.from({ length: 12 }, (_, index) => index));
  });
});

describe.each(providers)("on provider %s", (provider) => {
  it("goes through every service", () => {
    const host = tee(["tour"], { provider });
    const session = open(host);
    for (let command = 0; command < 8; command++) {
      const params: TaParam[] = [{ type: "memref_input", data: Buffer.from("hello") }];
      expect([command, result(invokeCommand(host.tee, session, command, command === 2 ? params : []))]).toEqual([
        command,
        "TEE_SUCCESS",
      ]);
    }
  });

  it("gives each instance its own thread-local variables, and keeps them from call to call", () => {
    const host = tee(["threads"], { provider });
    const [one, two] = [open(host), open(host)];
    const add = (session: Session, n: number) =>
      invokeCommand(host.tee, session, 0, [{ type: "value_inout", a: n, b: 0 }]).outputs[0];
    expect(add(one, 5)).toEqual({ kind: "value", a: 0x1122334455667789n, b: 5n });
    expect(add(two, 7)).toEqual({ kind: "value", a: 0x1122334455667789n, b: 7n });
    expect(add(one, 5)).toEqual({ kind: "value", a: 0x112233445566778an, b: 10n });
  });

  it("restores TLS by a token before every entry and after every nested call", () => {
    const host = tee(["caller", "counter"], { provider });
    const session = open(host);
    const answer = invokeCommand(host.tee, session, 0, [
      { type: "memref_input", data: uuidToBytes(ta("counter").uuid) },
      { type: "value_output" },
    ]);
    expect(result(answer)).toBe("TEE_SUCCESS");
    host.tee.sessions.close(session);
    const records = host.tee.gate.ledger.records().filter(({ request }) => request.kind === "SetFsBase");
    const calls = records.map(({ thread, call }) => `${thread} ${call}`);
    expect(calls).toEqual([
      "1 open_session",
      "1 invoke_command",
      "2 open_session",
      "1 return from open_session",
      "2 invoke_command",
      "1 return from invoke_command",
      "2 close_session",
      "1 return from close_session",
      "1 close_session",
    ]);
    for (const { outcome, request, after } of records) {
      expect(outcome.kind).toBe("ok");
      if (request.kind === "SetFsBase") expect(after.fsBase).toBe(request.address);
    }
  });

  /** Runs with the restore of this number left out; the deaths that come of it. */
  function withoutRestore(
    skipped: number,
    names: readonly [TaName, ...TaName[]],
    use: (host: TeeHost, session: Session) => void,
  ): TeeHost["tee"]["deaths"] {
    let seen = 0;
    const host = tee(names, {
      provider,
      gate: {
        execution: (token, thread) =>
          token.request.kind === "SetFsBase" && seen++ === skipped ? { kind: "ok", value: 0n } : token.execute(thread),
      },
    });
    const { session } = openSession(host.tee, host.main.uuid, []);
    if (session !== undefined) use(host, session);
    return host.tee.deaths;
  }

  it.each(["probe", "counter", "threads", "dies", "caller", "hostile", "tour", "needs-library"] as const)(
    "notices in %s when the restore before one entry is skipped",
    (name) => {
      for (const skipped of [0, 1, 2]) {
        const deaths = withoutRestore(
          skipped,
          [name, name === "needs-library" ? "library" : "needs-library"],
          (host, session) => {
            invokeCommand(host.tee, session, 99, [{ type: "memref_input", data: new Uint8Array(16) }]);
            host.tee.sessions.close(session);
          },
        );
        const [death, ...more] = deaths;
        expect([skipped, more.length, death?.reason]).toEqual([
          skipped,
          0,
          expect.stringMatching(/^page fault reading 0x(0|28) /),
        ]);
        expect(death?.fsBase).toBe(0n);
        expect(death?.fsExpected).not.toBe(0n);
      }
    },
  );

  it("notices when the restore after a nested call is skipped", () => {
    const uuids = { 1: ta("caller").uuid, 2: ta("counter").uuid } as const;
    // As the next test but one has them: the caller's entries, the counter's, and the returns to the caller.
    for (const [skipped, instance] of [1, 1, 2, 1, 2, 1, 2, 1, 1].entries()) {
      const deaths = withoutRestore(skipped, ["caller", "counter"], (host, session) => {
        invokeCommand(host.tee, session, 0, [
          { type: "memref_input", data: uuidToBytes(uuids[2]) },
          { type: "value_output" },
        ]);
        host.tee.sessions.close(session);
      });
      const seen = deaths.map(({ uuid, reason, fsBase }) => [skipped, uuid, reason, fsBase]);
      const reason = expect.stringMatching(/^page fault reading 0x(0|28) /);
      expect(seen).toEqual([[skipped, uuids[instance === 1 ? 1 : 2], reason, 0n]]);
    }
  });

  it("does not enter a TA whose TLS the provider does not restore", () => {
    const host = tee(["tour"], {
      provider,
      gate: { policy: { decide: () => ({ allow: false, rule: "no TLS today" }) } },
    });
    const { answer } = openSession(host.tee, host.main.uuid, []);
    expect(result(answer)).toBe("TEE_ERROR_TARGET_DEAD");
    expect(answer.reason).toContain("denied by no TLS today");
  });

  it("survives what the host does of its own", () => {
    const kinds = provider === "lvbs" ? (["interrupt", "vtl"] as const) : (["interrupt", "reschedule"] as const);
    const host = tee(["tour"], { provider, hostEvents: new HostEvents("storm", 7, kinds) });
    const session = open(host);
    for (const command of [0, 3, 4, 5, 7])
      expect(result(invokeCommand(host.tee, session, command, []))).toBe("TEE_SUCCESS");
  });
});

describe("TLS", () => {
  it("has a canary of its own in every instance, and zeros only as LiteBox", () => {
    const host = tee(["probe"]);
    const canaries = [1, 2, 3].map(() => {
      const { target } = open(host);
      if (!("tls" in target)) throw new Error("no instance");
      const { base, canary } = target.tls;
      expect(target.memory.guest.u64(base + 0x28)).toBe(canary);
      expect(target.memory.guest.num64(base)).toBe(base);
      expect([base - 1, base + 4096].map((at) => target.memory.space.regionAt(at)?.prot)).toEqual([0, 0]);
      return canary;
    });
    expect(new Set(canaries).size).toBe(3);
    expect(canaries).not.toContain(0n);
    const litebox = tee(["probe"], { provider: "lvbs", asLitebox: true });
    const { target } = open(litebox);
    if (!("tls" in target)) throw new Error("no instance");
    expect(target.memory.guest.u64(target.tls.base + 0x28)).toBe(0n);
  });
});

describe("sessions", () => {
  it("share a single instance that is kept alive", () => {
    const host = tee(["counter"]);
    const one = open(host);
    const two = open(host);
    expect([one.id, two.id]).toEqual([1, 2]);
    const state = (session: Session) =>
      invokeCommand(host.tee, session, 0, [{ type: "value_output" }, { type: "value_output" }]).outputs;
    expect(state(two)).toEqual([
      { kind: "value", a: 2n, b: 0n },
      { kind: "value", a: 1n, b: 2n },
      undefined,
      undefined,
    ]);
    host.tee.sessions.close(one);
    host.tee.sessions.close(two);
    const three = open(host);
    expect(three.id).toBe(1);
    expect(state(three)[0]).toEqual({ kind: "value", a: 3n, b: 2n });
    expect(host.tee.instances.size).toBe(1);
  });

  it("have an instance each where the TA's flags say nothing", () => {
    const host = tee(["threads"]);
    const sessions = [open(host), open(host), open(host)];
    expect(host.tee.instances.size).toBe(3);
    for (const session of sessions) host.tee.sessions.close(session);
    expect(host.tee.instances.size).toBe(0);
  });

  it("end at sixteen instances", () => {
    const host = tee(["threads"]);
    for (let n = 0; n < 16; n++) open(host);
    expect(opens(host, "threads")).toBe("TEE_ERROR_OUT_OF_MEMORY");
  });

  it("answer ITEM_NOT_FOUND for what there is not", () => {
    const host = tee(["probe"]);
    const { answer } = openSession(host.tee, "00000000-1111-2222-3333-444444444444", []);
    expect([result(answer), answer.origin]).toEqual(["TEE_ERROR_ITEM_NOT_FOUND", 3]);
  });

  it("pass shared memory on and keep private memory private", () => {
    const host = tee(["caller", "counter"]);
    const session = open(host);
    const to: TaParam = { type: "memref_input", data: uuidToBytes(ta("counter").uuid) };
    const call = (command: number, ...more: TaParam[]) =>
      invokeCommand(host.tee, session, command, [to, { type: "value_output" }, ...more]);
    expect(result(call(0))).toBe("TEE_SUCCESS");
    const refused = call(1);
    expect([result(refused), refused.outputs[1]]).toEqual([
      "TEE_ERROR_BAD_PARAMETERS",
      { kind: "value", a: 3n, b: 0n },
    ]);
    expect(call(2, { type: "value_input", a: 2, b: 0x1234 }).result).toBe(0x1234);
    const died = call(2, { type: "value_input", a: 3, b: 0 });
    expect([result(died), died.outputs[1]]).toEqual(["TEE_ERROR_TARGET_DEAD", { kind: "value", a: 3n, b: 0n }]);
    expect(result(call(0))).toBe("TEE_SUCCESS");
  });

  it("nest as deep as OP-TEE lets them", () => {
    const host = tee(["caller"]);
    const answer = invokeCommand(host.tee, open(host), 3, [
      { type: "memref_input", data: uuidToBytes(ta("caller").uuid) },
      { type: "value_output" },
    ]);
    expect(result(answer)).toBe("TEE_ERROR_OUT_OF_MEMORY");
  });
});

describe("a TA that dies", () => {
  const deaths: readonly (readonly [number, string])[] = [
    [1, "panic with code 0xdead"],
    [2, "page fault reading 0x10 (nothing is mapped there)"],
    [3, "page fault writing 0xffff800000000000"],
    [4, "its mapping does not allow that"],
    [5, "page fault executing"],
    [6, "panic with code 0x57ac"],
    [7, "invalid instruction"],
    [8, "division by zero"],
    [9, "an endless jump to itself"],
    [11, "a system call of another system"],
    [12, "general protection fault"],
    [13, "page fault reading"],
    [15, "page fault writing"],
  ];

  it.each(deaths)("in way %i: %s", (how, reason) => {
    const host = tee(["dies"]);
    const session = open(host);
    const params: TaParam[] = [{ type: "none" }, { type: "memref_input", data: new Uint8Array(48) }];
    const answer = invokeCommand(host.tee, session, how, params);
    expect([result(answer), answer.origin, answer.reason]).toEqual([
      "TEE_ERROR_TARGET_DEAD",
      3,
      expect.stringContaining(reason),
    ]);
    const report = formatPanic(answer.panic ?? expect.fail("no report"));
    expect(report).toContain(`FS base 0x${answer.panic?.fsExpected.toString(16)}, set by SetFsBase`);
    // Dead is dead, for this session; a new one gets a new instance.
    expect(result(invokeCommand(host.tee, session, 0, []))).toBe("TEE_ERROR_TARGET_DEAD");
    expect(opens(host, "dies")).toBe("TEE_SUCCESS");
    host.tee.sessions.close(session);
    expect(host.tee.sessions.get(session.id)).toBeUndefined();
  });

  it("while a session is opened", () => {
    const host = tee(["dies"]);
    const { answer } = openSession(host.tee, host.main.uuid, [{ type: "value_input", a: 1, b: 0 }]);
    expect([result(answer), answer.panic?.code]).toEqual(["TEE_ERROR_TARGET_DEAD", 0xdead]);
    expect(host.tee.instances.size).toBe(0);
  });

  it("when its time is up", () => {
    const host = tee(["dies"], { timeoutMs: 2000 });
    const answer = invokeCommand(host.tee, open(host), 10, []);
    expect(answer.reason).toBe("it did not come back in time");
  });

  it("when it reads another TA's memory", () => {
    const host = tee(["dies", "probe"]);
    const other = open(host, "probe");
    const session = open(host);
    if (!("stackTop" in other.target)) throw new Error("no instance");
    const address = other.target.stackTop - 64;
    const answer = invokeCommand(host.tee, session, 14, [{ type: "none" }, { type: "value_input", a: address, b: 0 }]);
    expect(answer.reason).toContain(`page fault reading 0x${address.toString(16)} (nothing is mapped there)`);
  });
});

describe("loading", () => {
  it("brings in libraries, their symbols and their thread-local variables", () => {
    const host = tee(["needs-library", "library"]);
    const session = open(host);
    const call = (n: number) => invokeCommand(host.tee, session, 0, [{ type: "value_inout", a: n, b: 0 }]).outputs[0];
    // 5 + 6 + 7 in all, three calls, and the TA's own variable.
    expect(call(5)).toEqual({ kind: "value", a: 18n, b: 0x33n });
    expect(call(1)).toEqual({ kind: "value", a: 27n, b: 0x33n });
  });

  it("is done by an ldelf, which can make each of its calls", () => {
    const logs: string[] = [];
    const calls = new Set<number>();
    const host = tee(["tour"], {
      ldelf: taFiles.ldelf,
      watch: (event) => {
        if (event.kind === "log") logs.push(event.text);
        if (event.kind === "call" && event.table === "ldelf") calls.add(event.number);
      },
    });
    const { answer, session } = openSession(host.tee, host.main.uuid, []);
    expect([result(answer), answer.reason, logs]).toEqual(["TEE_SUCCESS", undefined, ["loaded"]]);
    // All but panic, and one that does not exist.
    expect([...calls].sort((a, b) => a - b)).toEqual([0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    if (session === undefined) return;
    for (const command of [0, 3, 5, 7])
      expect(result(invokeCommand(host.tee, session, command, []))).toBe("TEE_SUCCESS");
  });

  it("fails where a library is missing", () => {
    const host = tee(["needs-library"]);
    const { answer } = openSession(host.tee, host.main.uuid, []);
    expect(result(answer)).toBe("TEE_ERROR_ITEM_NOT_FOUND");
    expect(answer.reason).toContain("needs 5b1dbed0-0008-4000-8000-000000000008.ta");
    expect(host.tee.instances.size).toBe(0);
  });
});

describe("a hostile TA", () => {
  it("gets an answer for every nonsense in every argument, and does not get at another TA's memory", () => {
    const host = tee(["hostile", "counter"]);
    const { target: other } = open(host, "counter");
    if (!("tls" in other)) throw new Error("no instance");
    const [code] = other.modules;
    const image = () => [other.tls.base, code?.start ?? 0].map((at) => other.memory.guest.bytes(at, 4096));
    const before = image();
    const answer = invokeCommand(host.tee, open(host), 0, [
      { type: "value_input", a: other.stackTop - 64, b: code?.start ?? 0 },
      { type: "value_output" },
      { type: "memref_inout", data: new Uint8Array(64) },
    ]);
    expect(result(answer)).toBe("TEE_SUCCESS");
    const [, made] = answer.outputs;
    expect(made?.kind === "value" && made.a > 30_000n).toBe(true);
    expect(image()).toEqual(before);
    expect(host.tee.deaths).toEqual([]);
  });

  // `npx tsx test/shims/optee/fuzz.ts` makes as many calls as one likes.
  it.each([1, 2, 3])("gets an answer for random words, seed %i", (seed) => {
    const host = tee(["hostile"]);
    const answer = invokeCommand(host.tee, open(host), 1, [
      { type: "value_input", a: seed, b: 30_000 },
      { type: "value_output" },
    ]);
    expect([result(answer), answer.reason]).toEqual(["TEE_SUCCESS", undefined]);
  });
});

describe("a run", () => {
  it("is the same again, call by call", () => {
    const trace = (seed: number): string => {
      const events: unknown[] = [];
      const host = teeWith(["tour"], { seed, watch: (event) => events.push(event) });
      const session = open(host);
      for (let command = 0; command < 8; command++) invokeCommand(host.tee, session, command, []);
      host.close();
      return JSON.stringify(events, (_, value: unknown) => (typeof value === "bigint" ? `${value}` : value));
    };
    expect(trace(1)).toBe(trace(1));
    expect(trace(2)).not.toBe(trace(1));
  });
});
