// The fuzz of fuzz.test.ts at any length: `npx tsx test/emulator/fuzz-engine.ts [count per word size] [seed]`, and with
// `--cpu x86-64-v3` that of vectors.test.ts: VEX-encoded instructions and BMI with random operands.
import { parseArgs } from "node:util";
import { compare, leaves } from "./deviations.ts";
import { nativeRunner, numbers, runNatively, type Snippet, SnippetGuest, snippet } from "./snippets.ts";
import { compareVectors, vectorSnippet } from "./vector-snippets.ts";

const { values, positionals } = parseArgs({ options: { cpu: { type: "string" } }, allowPositionals: true });
const count = Number(positionals[0] ?? 100_000);
const seed = Number(positionals[1] ?? 1);
const v3 = values.cpu === "x86-64-v3";
const BATCH = 10_000;
let failures = 0;

for (const bits of [64, 32] as const) {
  const guest = new SnippetGuest(bits, v3 ? { processor: "x86-64-v3", strictSegments: true } : {});
  const random = numbers(seed);
  const endings = new Map<string, number>();
  const runner = nativeRunner(bits);
  let [compared, different] = [0, 0];
  for (let done = 0; done < count; done += BATCH) {
    const list: Snippet[] = [];
    for (let i = 0; i < Math.min(BATCH, count - done); i++) {
      const s = v3 ? vectorSnippet(random, bits) : snippet(random, bits);
      const kind = guest.run(s);
      const name = kind === 3 ? `vector ${guest.guest.cpu.stopVector}` : `stop ${kind}`;
      endings.set(name, (endings.get(name) ?? 0) + 1);
      if (!leaves(s, bits)) list.push(s);
    }
    if (runner === undefined) continue;
    compared += list.length;
    const host = runNatively(runner, list);
    for (const [i, s] of list.entries()) {
      const [theirs, ours] = [host[i], guest.step(s)];
      const difference =
        theirs && ours
          ? v3
            ? compareVectors(s, theirs, ours)
            : compare(s, bits, theirs, ours)
          : `${Buffer.from(s.code).toString("hex")} did not end`;
      if (difference !== undefined && different++ < 20) console.log(`  ${difference}`);
    }
  }
  const sorted = [...endings].sort((a, b) => b[1] - a[1]).map(([name, n]) => `${name}: ${n}`);
  console.log(`${bits}-bit: ${count} snippets; ${sorted.join(", ")}`);
  console.log(
    runner === undefined
      ? `${bits}-bit: not compared, no native program can be built here`
      : `${bits}-bit: ${compared} compared with this processor, ${different} differ without a known reason`,
  );
  failures += different;
  guest.close();
}
process.exitCode = failures === 0 ? 0 : 1;
