// The fuzz of fuzz.test.ts at any length: `npx tsx test/emulator/fuzz-engine.ts [count per word size] [seed]`.
import { compare, leaves } from "./deviations.ts";
import { nativeRunner, numbers, runNatively, type Snippet, SnippetGuest, snippet } from "./snippets.ts";

const count = Number(process.argv[2] ?? 100_000);
const seed = Number(process.argv[3] ?? 1);
let failures = 0;

for (const bits of [64, 32] as const) {
  const guest = new SnippetGuest(bits);
  const random = numbers(seed);
  const endings = new Map<string, number>();
  const list: Snippet[] = [];
  const started = performance.now();
  for (let i = 0; i < count; i++) {
    const s = snippet(random, bits);
    const kind = guest.run(s);
    const name = kind === 3 ? `vector ${guest.guest.cpu.stopVector}` : `stop ${kind}`;
    endings.set(name, (endings.get(name) ?? 0) + 1);
    if (!leaves(s, bits)) list.push(s);
  }
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  const sorted = [...endings].sort((a, b) => b[1] - a[1]).map(([name, n]) => `${name}: ${n}`);
  console.log(`${bits}-bit: ${count} snippets in ${seconds} s; ${sorted.join(", ")}`);

  const runner = nativeRunner(bits);
  if (runner === undefined) {
    console.log(`${bits}-bit: not compared, no native program can be built here`);
    continue;
  }
  let different = 0;
  const host = runNatively(runner, list);
  for (const [i, s] of list.entries()) {
    const [theirs, ours] = [host[i], guest.step(s)];
    const difference =
      theirs && ours ? compare(s, bits, theirs, ours) : `${Buffer.from(s.code).toString("hex")} did not end`;
    if (difference === undefined) continue;
    if (different++ < 20) console.log(`  ${difference}`);
  }
  console.log(`${bits}-bit: ${list.length} compared with this processor, ${different} differ without a known reason`);
  failures += different;
  guest.close();
}
process.exitCode = failures === 0 ? 0 : 1;
