// Random machine code never ends the host process, and one instruction of it ends as on the host's processor.
import { describe, expect, test } from "vitest";
import { expectAlike } from "./alike.ts";
import { compare, leaves } from "./deviations.ts";
import type { Bits } from "./guest.ts";
import { nativeRunner, numbers, runNatively, type Snippet, SnippetGuest, snippet } from "./snippets.ts";

// `npx tsx test/emulator/fuzz-engine.ts 100000 1` runs more.
const COUNT = 4000;
const SEED = 20;

function snippets(bits: Bits, passes: (s: Snippet) => boolean): Snippet[] {
  const random = numbers(SEED);
  const list: Snippet[] = [];
  while (list.length < COUNT) {
    const s = snippet(random, bits);
    if (passes(s)) list.push(s);
  }
  return list;
}

describe.each([64, 32] as const)("random code of %i bits", (bits) => {
  test("ends by itself or by its budget, twice the same", () => {
    const runs = [0, 1].map(() => {
      const guest = new SnippetGuest(bits);
      const kinds = snippets(bits, () => true).map((s) => {
        const kind = guest.run(s);
        return `${kind} ${kind === 3 ? guest.guest.cpu.stopVector : ""} ${guest.guest.cpu.regBig(16)}`;
      });
      guest.close();
      return kinds;
    });
    expect(runs[0]).toEqual(runs[1]);
    expect(new Set(runs[0]?.map((kind) => kind.split(" ")[1])).size).toBeGreaterThan(5);
  });

  const runner = nativeRunner(bits);
  test.skipIf(runner === undefined)("ends as on this machine's processor", () => {
    const list = snippets(bits, (s) => !leaves(s, bits));
    const host = runNatively(runner ?? "", list);
    const guest = new SnippetGuest(bits);
    const differences = list.map((s, i) => {
      const [theirs, ours] = [host[i], guest.step(s)];
      return theirs && ours ? compare(s, bits, theirs, ours) : `${Buffer.from(s.code).toString("hex")} did not end`;
    });
    guest.close();
    expectAlike(differences);
  });
});
