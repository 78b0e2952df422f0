import { describe, expect, test } from "vitest";
import type { PunchthroughToken } from "../../providers/punchthrough.ts";
import type { Asker, Request } from "../../providers/requests.ts";
import { type DeskToken, TokenDesk, TokenMisuse } from "../../providers/token-desk.ts";

const request: Request = { kind: "SetFsBase", address: 0x1000n };
const asker = (thread: number): Asker => ({ thread, pc: 0x401000n, call: "arch_prctl" });

function desk() {
  const found: string[] = [];
  let executions = 0;
  const made = new TokenDesk((misuse, token, by) => found.push(`${misuse} ${token.asker.thread} by ${by}`));
  const inner: PunchthroughToken = {
    provider: "test",
    execute: () => {
      executions++;
      return { kind: "ok", value: 0n };
    },
  };
  return {
    desk: made,
    found,
    issue: (thread: number): DeskToken => made.issue(inner, request, asker(thread)),
    executions: () => executions,
  };
}

function misuseOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof TokenMisuse) return error.misuse;
    throw error;
  }
  return "none";
}

describe("a token", () => {
  test("is executed once, by its thread, at once", () => {
    const { issue, desk: made, found, executions } = desk();
    expect(issue(1).execute(1)).toEqual({ kind: "ok", value: 0n });
    made.goesOn(1);
    expect(executions()).toBe(1);
    expect(found).toEqual([]);
  });

  test("is not executed twice", () => {
    const { issue, found, executions } = desk();
    const token = issue(1);
    token.execute(1);
    expect(misuseOf(() => token.execute(1))).toBe("reused");
    expect(misuseOf(() => token.execute(1))).toBe("reused");
    expect(executions()).toBe(1);
    expect(found).toEqual(["reused 1 by 1", "reused 1 by 1"]);
  });

  test("is not executed by another thread, and stays its owner's", () => {
    const { issue, found, executions } = desk();
    const token = issue(1);
    expect(misuseOf(() => token.execute(2))).toBe("wrong-thread");
    expect(executions()).toBe(0);
    token.execute(1);
    expect(executions()).toBe(1);
    expect(found).toEqual(["wrong-thread 1 by 2"]);
  });

  test("is dropped when its thread goes on, and stale from then on", () => {
    const { desk: made, issue, found, executions } = desk();
    const token = issue(1);
    made.goesOn(1);
    expect(found).toEqual(["dropped 1 by 1"]);
    expect(misuseOf(() => token.execute(1))).toBe("stale");
    expect(executions()).toBe(0);
    expect(found).toEqual(["dropped 1 by 1", "stale 1 by 1"]);
  });

  test("outlives the turns of other threads", () => {
    const { desk: made, issue, found } = desk();
    const [one, two, three] = [issue(1), issue(2), issue(1)];
    made.goesOn(3);
    two.execute(2);
    one.execute(1);
    expect(found).toEqual([]);
    made.goesOn(1);
    expect(found).toEqual(["dropped 1 by 1"]);
    expect(misuseOf(() => three.execute(1))).toBe("stale");
  });

  test("that throws on the platform counts as executed", () => {
    const { desk: made } = desk();
    const broken: PunchthroughToken = {
      provider: "test",
      execute: () => {
        throw new Error("broken platform");
      },
    };
    const token = made.issue(broken, request, asker(1));
    expect(() => token.execute(1)).toThrow("broken platform");
    expect(misuseOf(() => token.execute(1))).toBe("reused");
  });
});
