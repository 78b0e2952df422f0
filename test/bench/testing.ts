// What tests cost: `npx tsx test/bench/testing.ts`.

import { align } from "../../cli/testing/align.ts";
import { GuestFiles } from "../../cli/testing/guest-files.ts";
import { LinuxBed } from "../../cli/testing/linux-bed.ts";

const GUEST = `
    mov eax, 158; mov edi, 0x1002; lea rsi, [rip + block]; syscall
    mov eax, 24; syscall
    mov eax, 158; mov edi, 0x1002; lea rsi, [rip + block]; syscall
    xor edi, edi; mov eax, 231; syscall
block: .quad 0, 0`;

const print = (name: string, value: number, unit: string): void =>
  console.log(`${name.padEnd(44)} ${value.toFixed(1)} ${unit}`);
const mib = (): number => process.memoryUsage().rss / 2 ** 20;

async function rate(name: string, times: number, one: () => Promise<unknown>): Promise<void> {
  for (let i = 0; i < 50; i++) await one();
  const [start, before] = [performance.now(), mib()];
  for (let i = 0; i < times; i++) await one();
  const ms = performance.now() - start;
  print(name, (1000 * times) / ms, "cases/s");
  print(`${name}: memory after ${times} more`, mib() - before, "MiB");
}

const linux = new LinuxBed(new GuestFiles(), 64, {}, []);
const guest = await linux.asm`${GUEST}`;
await rate("cases, each in a fresh machine", 2_000, () => linux.run(guest));
const prepared = await linux.prepare(guest);
await rate("cases from a snapshot", 10_000, () => prepared.run());
prepared.close();

const a = Array.from({ length: 1_000_000 }, (_, index) => `call ${index % 5000} ok`);
const b = a.toSpliced(10, 1).toSpliced(500_000, 0, "new").toSpliced(900_000, 3);
const start = performance.now();
const parts = align(a, b).filter(({ same }) => !same).length;
print(`align two traces of a million steps, ${parts} parts`, performance.now() - start, "ms");
