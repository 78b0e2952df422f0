import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { runGuest } from "./run-guest.ts";

const THREAD_FLAGS = 0x350f00;

/** Three threads add to one counter without a lock; the exit status is what has become of it. */
const RACE = `
  mov r12, 3
start:
  mov eax, 56
  mov edi, ${THREAD_FLAGS}
  mov rsi, r12
  shl rsi, 12
  lea rbx, [rip + stacks]
  add rsi, rbx
  lea rdx, [rip + tids]
  lea r10, [rip + tids]
  lea r10, [r10 + r12*4]
  mov rdx, r10
  syscall
  test eax, eax
  jz work
  dec r12
  jnz start
  mov r12, 3
join:
  lea rdi, [rip + tids]
  lea rdi, [rdi + r12*4]
  mov edx, [rdi]
  test edx, edx
  jz gone
  mov eax, 202
  xor esi, esi
  xor r10d, r10d
  syscall
  jmp join
gone:
  dec r12
  jnz join
  mov edi, [rip + counter]
  mov eax, 231
  syscall
work:
  mov ecx, 3000
again:
  mov eax, [rip + counter]
  inc eax
  mov [rip + counter], eax
  dec ecx
  jnz again
  mov eax, 186
  syscall
  xor edi, edi
  mov eax, 60
  syscall
  .balign 16
counter: .long 0
tids: .space 64
stacks: .space 20480
`;

/** One thread waits for a word that another one sets only once it gets its turn. */
const SPIN = `
  mov eax, 56
  mov edi, ${THREAD_FLAGS}
  lea rsi, [rip + stack]
  lea rdx, [rip + word]
  lea r10, [rip + word]
  syscall
  test eax, eax
  jz child
wait:
  cmp dword ptr [rip + flag], 0
  je wait
  mov edi, 7
  mov eax, 231
  syscall
child:
  mov dword ptr [rip + flag], 1
spin:
  jmp spin
  .balign 16
flag: .long 0
word: .long 0
room: .space 4096
stack: .space 16
`;

async function race(seed: number): Promise<{ digest: string; status: number }> {
  const { end, lines } = await runGuest({ source: RACE, seed });
  if (end.kind !== "ended" || end.status.kind !== "exited")
    throw new Error(`it ended otherwise: ${JSON.stringify(end)}`);
  const status = end.status.code;
  return {
    digest: createHash("sha256")
      .update(`${lines.join("\n")}\n${status}`)
      .digest("hex"),
    status,
  };
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

describe("turns", () => {
  it("are the same again with the same seed", async () => {
    const digests = new Set<string>();
    for (const _ of upTo(50)) digests.add((await race(7)).digest);
    expect(digests.size).toBe(1);
  });

  it("are others with other seeds, and a race shows", async () => {
    const digests = new Set<string>();
    const results = new Set<number>();
    for (const seed of upTo(50)) {
      const { digest, status } = await race(seed);
      digests.add(digest);
      results.add(status);
    }
    expect(digests.size).toBeGreaterThan(40);
    expect(results.size).toBeGreaterThan(10);
  });

  it("come to everybody: a spinning thread holds nobody up", async () => {
    for (const seed of upTo(5)) {
      const { end } = await runGuest({ source: SPIN, seed, limits: { timeout: 100 } });
      expect(end).toEqual({ kind: "ended", status: { kind: "exited", code: 7 } });
    }
  });
});
