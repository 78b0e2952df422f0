// How the flags in a TA's head decide the life of its instances: OP-TEE's tee_ta_manager.c.
import { afterEach, describe, expect, it } from "vitest";
import { TaFlag } from "../../../shims/optee/binary.ts";
import { invokeCommand, openSession, type TaParam } from "../../../shims/optee/client.ts";
import { HandleTable } from "../../../shims/optee/handles.ts";
import { TeeHost, type TeeHostOptions } from "../../../shims/optee/host.ts";
import { resultName } from "../../../shims/optee/results.ts";
import type { Session } from "../../../shims/optee/session.ts";
import { uuidToBytes } from "../../../shims/optee/uuid.ts";
import { withFlags } from "./ta-files.ts";

const {
  SINGLE_INSTANCE: SINGLE,
  MULTI_SESSION: MULTI,
  INSTANCE_KEEP_ALIVE: ALIVE,
  INSTANCE_KEEP_CRASHED: CRASHED,
} = TaFlag;
const PANICS = 1;

const hosts: TeeHost[] = [];
afterEach(() => {
  for (const host of hosts.splice(0)) host.close();
});

function host(...tas: TeeHostOptions["tas"]): TeeHost {
  const made = new TeeHost({ tas });
  hosts.push(made);
  return made;
}

/** What opening a session gives: the session, or the result's name with where it comes from. */
function open(tee: TeeHost, params: readonly TaParam[] = []): Session | string {
  const { session, answer } = openSession(tee.tee, tee.main.uuid, params);
  return session ?? `${resultName(answer.result)} from ${answer.origin}`;
}

function opened(tee: TeeHost): Session {
  const session = open(tee);
  if (typeof session === "string") throw new Error(session);
  return session;
}

/** Opens and closes a session. */
function tried(tee: TeeHost): string {
  const session = open(tee);
  if (typeof session === "string") return session;
  tee.tee.sessions.close(session);
  return "TEE_SUCCESS";
}

const DEAD = "TEE_ERROR_TARGET_DEAD from 3";
const BUSY = "TEE_ERROR_BUSY from 3";
const invoke = (tee: TeeHost, session: Session, command = 0) => {
  const { result, origin } = invokeCommand(tee.tee, session, command, []);
  return result === 0 ? "TEE_SUCCESS" : `${resultName(result)} from ${origin}`;
};

describe("after a panic", () => {
  // What a second session gets while the first, which knows of the panic, is open; then when it is closed.
  const table: readonly (readonly [string, number, string, string])[] = [
    ["no flags", 0, "TEE_SUCCESS", "TEE_SUCCESS"],
    ["single instance", SINGLE, "TEE_SUCCESS", "TEE_SUCCESS"],
    ["single, multi-session", SINGLE | MULTI, "TEE_SUCCESS", "TEE_SUCCESS"],
    ["single, multi-session, kept alive", SINGLE | MULTI | ALIVE, "TEE_SUCCESS", "TEE_SUCCESS"],
    ["single, multi-session, kept alive, kept crashed", SINGLE | MULTI | ALIVE | CRASHED, DEAD, DEAD],
    ["single, kept alive, kept crashed", SINGLE | ALIVE | CRASHED, BUSY, DEAD],
    // KEEP_CRASHED means something with the two others only.
    ["kept crashed", CRASHED, "TEE_SUCCESS", "TEE_SUCCESS"],
    ["single, kept crashed", SINGLE | MULTI | CRASHED, "TEE_SUCCESS", "TEE_SUCCESS"],
    ["kept alive and crashed, not single", ALIVE | CRASHED, "TEE_SUCCESS", "TEE_SUCCESS"],
  ];

  it.each(table)("of a TA with %s", (_, flags, meanwhile, afterwards) => {
    const tee = host(withFlags("dies", flags));
    const first = opened(tee);
    expect(invoke(tee, first, PANICS)).toBe(DEAD);
    // The session is dead for good, whatever becomes of the TA.
    expect(invoke(tee, first)).toBe(DEAD);
    expect(tried(tee)).toBe(meanwhile);
    expect(invoke(tee, first)).toBe(DEAD);
    tee.tee.sessions.close(first);
    expect(tried(tee)).toBe(afterwards);
    expect(tried(tee)).toBe(afterwards);
    expect(tee.tee.deaths).toHaveLength(1);
  });

  it("the other sessions of an instance are dead too, and keep it from none", () => {
    const tee = host(withFlags("dies", SINGLE | MULTI));
    const [one, two] = [opened(tee), opened(tee)];
    expect(one.target).toBe(two.target);
    expect(invoke(tee, one, PANICS)).toBe(DEAD);
    expect(invoke(tee, two)).toBe(DEAD);
    const three = opened(tee);
    expect(invoke(tee, three)).toBe("TEE_SUCCESS");
    tee.tee.sessions.close(one);
    tee.tee.sessions.close(two);
    expect(invoke(tee, three)).toBe("TEE_SUCCESS");
  });

  it("while it is opened, a TA that is kept crashed stays dead", () => {
    const tee = host(withFlags("dies", SINGLE | MULTI | ALIVE | CRASHED));
    expect(open(tee, [{ type: "value_input", a: PANICS, b: 0 }])).toBe(DEAD);
    expect([tried(tee), tried(tee)]).toEqual([DEAD, DEAD]);
  });
});

it("handles are never given out again, and end at 65536", () => {
  const table = new HandleTable<number>();
  for (let n = 1; n < 65_536; n++) table.add(n);
  expect(table.add(0)).toBe(65_536);
  expect(() => table.add(0)).toThrow("at most 65536");
  table.remove(7);
  expect(table.add(0)).toBe(65_537);
  expect(table.get(7)).toBeUndefined();
});

describe("a single instance", () => {
  it("without MULTI_SESSION has one session at a time", () => {
    for (const flags of [SINGLE, SINGLE | ALIVE]) {
      const tee = host(withFlags("counter", flags));
      const first = opened(tee);
      expect(tried(tee)).toBe(BUSY);
      // The session that is there does not suffer from that.
      expect(invoke(tee, first, 99)).toBe("TEE_ERROR_NOT_SUPPORTED from 4");
      tee.tee.sessions.close(first);
      expect(tried(tee)).toBe("TEE_SUCCESS");
    }
  });

  it("with MULTI_SESSION alone ends with its last session", () => {
    const tee = host(withFlags("counter", SINGLE | MULTI));
    const [one, two] = [opened(tee), opened(tee)];
    const count = (session: Session) => invokeCommand(tee.tee, session, 0, outputs).outputs[0];
    const outputs: TaParam[] = [{ type: "value_output" }, { type: "value_output" }];
    expect(count(two)).toEqual({ kind: "value", a: 2n, b: 0n });
    tee.tee.sessions.close(one);
    expect(count(two)).toEqual({ kind: "value", a: 2n, b: 1n });
    tee.tee.sessions.close(two);
    expect(tee.tee.instances.size).toBe(0);
    expect(count(opened(tee))).toEqual({ kind: "value", a: 1n, b: 0n });
  });

  it("that calls itself is busy", () => {
    const tee = host(withFlags("caller", SINGLE | MULTI));
    const answer = invokeCommand(tee.tee, opened(tee), 2, [
      { type: "memref_input", data: uuidToBytes(tee.main.uuid) },
      { type: "value_output" },
      { type: "value_input", a: 0, b: 0 },
    ]);
    expect([resultName(answer.result), answer.outputs[1]]).toEqual(["TEE_ERROR_BUSY", { kind: "value", a: 3n, b: 0n }]);
  });
});
