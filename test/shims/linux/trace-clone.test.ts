import { expect, test } from "vitest";
import { runGuest } from "./run-guest.ts";

/** The lines of calls of one name, without who made them and what they took. */
const callsOf = (lines: readonly string[], name: string): string[] =>
  lines
    .filter((line) => line.includes(`${name}(`))
    .map((line) => line.replace(/^\[pid +\d+\] /, "").replace(/ +=/, " ="));

test("clone3 shows what its flags ask for, and what has been written for the parent", async () => {
  const source = `
    lea rdi, [rip + args]
    lea rax, [rip + tid]
    mov [rdi + 24], rax         # parent_tid
    mov esi, 88
    mov eax, 435                # clone3
    syscall
    test eax, eax
    jz child
    mov edi, 0x12
    mov esi, 88
    mov eax, 435
    syscall
  child: xor edi, edi
    mov eax, 60
    syscall
  args: .quad 0x100000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0
  tid: .quad 0`;
  const { lines } = await runGuest({ source });
  const [made, refused] = callsOf(lines, "clone3");
  const id = /= (\d+)$/.exec(made ?? "")?.[1];
  expect(made).toMatch(
    /^clone3\({flags=CLONE_PARENT_SETTID, parent_tid=0x[0-9a-f]+, exit_signal=SIGCHLD, stack=NULL, stack_size=0} => /,
  );
  expect(made).toContain(` => {parent_tid=[${id}]}, 88) = `);
  expect(refused).toMatch(/^clone3\(0x12, 88\) = -1 EFAULT/);
});
