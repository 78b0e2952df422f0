// What this process itself takes of its host's memory.
import { expect, test } from "vitest";
import { HostMemory } from "../../emulator/host-memory.ts";

const MIB = 2 ** 20;

test("memory is short while more is kept than may be", () => {
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  const memory = new HostMemory(heapUsed + arrayBuffers + 64 * MIB, () => 0);
  expect(memory.look()).toBeGreaterThan(0);
  const kept = Array.from({ length: 160 }, () => new Uint8Array(MIB));
  expect(memory.look()).toBe(0);
  // Garbage does not count.
  kept.length = 0;
  expect(memory.look()).toBeGreaterThan(0);
});

test("the less is left, the sooner is the next look", () => {
  const far = new HostMemory(2 ** 40, () => 0).look();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  const near = new HostMemory(heapUsed + arrayBuffers + 32 * MIB, () => 0).look();
  expect(near).toBeLessThan(far);
  expect(near).toBeGreaterThan(0);
});
