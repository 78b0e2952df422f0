// What tests cost: `npm run bench:tests`. Processor time counts, so that other work on the machine matters little.

import { setImmediate } from "node:timers/promises";
import { compare } from "../../cli/testing/compare.ts";
import { GuestFiles } from "../../cli/testing/guest-files.ts";
import { LinuxBed } from "../../cli/testing/linux-bed.ts";
import type { Step } from "../../cli/testing/steps.ts";

const CASES = 10_000;
const MIB = 2 ** 20;
const GUEST = `
    mov eax, 158; mov edi, 0x1002; lea rsi, [rip + block]; syscall
    mov eax, 24; syscall
    mov eax, 158; mov edi, 0x1002; lea rsi, [rip + block]; syscall
    xor edi, edi; mov eax, 231; syscall
block: .quad 0, 0`;

const print = (name: string, text: string): void => console.log(`${name.padEnd(36)} ${text}`);

/** Milliseconds of processor time since `since`, of this process and its threads. */
function spent(since: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(since);
  return (user + system) / 1000;
}

/**
 * Memory must not grow with the cases: it is told after each third of them. Node lets go of closed machines between events, which
 * a test runner has many of.
 */
async function rate(name: string, one: () => Promise<unknown>): Promise<void> {
  for (let i = 0; i < 1000; i++) {
    await one();
    await setImmediate();
  }
  const memory = [process.memoryUsage().rss];
  const start = process.cpuUsage();
  for (let i = 1; i <= CASES; i++) {
    await one();
    await setImmediate();
    if (i % Math.floor(CASES / 3) === 0) memory.push(process.memoryUsage().rss);
  }
  const ms = spent(start) / CASES;
  print(name, `${ms.toFixed(2)} ms a case, ${Math.round(1000 / ms)} a second`);
  print("", `memory ${memory.map((bytes) => Math.round(bytes / MIB)).join(", ")} MiB over ${CASES} cases`);
}

const linux = new LinuxBed(new GuestFiles(), 64, {}, []);
const guest = await linux.asm`${GUEST}`;
await rate("each in a fresh machine", () => linux.run(guest));
const prepared = await linux.prepare(guest);
await rate("from a snapshot", () => prepared.run());
prepared.close();

const steps = (texts: readonly number[]): Step[] =>
  texts.map((n) => ({ thread: 1, text: `read(3, "…", ${n % 5000})  = ${n % 5000}`, name: "read", outcome: "ok" }));
const numbers = Array.from({ length: 1_000_000 }, (_, index) => index);
const a = { name: "a", steps: steps(numbers), status: 0 };
const b = {
  name: "b",
  steps: steps(numbers.toSpliced(10, 1).toSpliced(500_000, 0, 4999, 17).toSpliced(900_000, 3)),
  status: 0,
};
const start = process.cpuUsage();
const { lines } = compare(a, b, "exact", false);
print("diff of two traces of a million", `${Math.round(spent(start))} ms, ${lines.length} lines to read`);
