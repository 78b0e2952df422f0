import { describe, expect, it } from "vitest";
import type { Task } from "../../../shims/linux/task.ts";
import { CODE_64, runGuest } from "./run-guest.ts";

const exited = (code: number) => ({ kind: "ended", status: { kind: "exited", code } });
const EXIT_0 = "mov eax, 60\nxor edi, edi\nsyscall\n";

describe("a run", () => {
  it("ends with the guest's status, after exit of the only task as after exit_group", async () => {
    expect((await runGuest({ source: "mov eax, 60\nmov edi, 0x107\nsyscall" })).end).toEqual(exited(7));
    expect((await runGuest({ source: "mov eax, 231\nmov edi, 3\nsyscall" })).end).toEqual(exited(3));
    expect((await runGuest({ bits: 32, source: "mov eax, 1\nmov ebx, 9\nint 0x80" })).end).toEqual(exited(9));
  });

  it("starts with Linux's registers", async () => {
    const check = (bits: 32 | 64) =>
      runGuest({
        bits,
        source: bits === 64 ? EXIT_0 : "mov eax, 1\nxor ebx, ebx\nint 0x80",
        inspect: ({ cpu }) => {
          for (let register = 0; register < 16; register++) if (register !== 4) expect(cpu.reg(register)).toBe(0);
          expect(cpu.reg(4) % 16).toBe(0);
          expect(cpu.reg(17)).toBe(0x202);
          const selectors = (["cs", "ss", "ds", "es", "fs", "gs"] as const).map((name) => cpu.selector(name));
          expect(selectors).toEqual(bits === 64 ? [0x33, 0x2b, 0, 0, 0, 0] : [0x23, 0x2b, 0x2b, 0x2b, 0, 0]);
          const image = new DataView(cpu.fxsave().buffer);
          expect([image.getUint16(0, true), image.getUint32(24, true)]).toEqual([0x37f, 0x1f80]);
        },
      });
    expect((await check(64)).end).toEqual(exited(0));
    expect((await check(32)).end).toEqual(exited(0));
  });

  it("lays arguments, environment and auxiliary vector on the stack", async () => {
    await runGuest({
      source: EXIT_0,
      argv: ["one", "two"],
      envp: ["A=1"],
      inspect: ({ cpu, memory, process }) => {
        const sp = cpu.reg(4);
        expect(memory.num64(sp)).toBe(2);
        const text = (slot: number): string | undefined => memory.cstring(memory.num64(sp + 8 * slot), 100);
        expect([text(1), text(2), text(4)]).toEqual(["one", "two", "A=1"]);
        expect([memory.num64(sp + 24), memory.num64(sp + 40)]).toEqual([0, 0]);
        const auxv = new Map<number, number>();
        for (let at = sp + 48; memory.num64(at) !== 0; at += 16) auxv.set(memory.num64(at), memory.num64(at + 8));
        const get = (type: number): number => auxv.get(type) ?? -1;
        expect([get(6), get(17), get(9), get(7), get(8), get(23), get(26)]).toEqual([4096, 100, CODE_64, 0, 0, 0, 2]);
        expect([get(11), get(12), get(13), get(14)]).toEqual([1000, 1000, 1000, 1000]);
        expect(memory.cstring(get(31), 200)).toMatch(/guest$/);
        expect(memory.cstring(get(15), 10)).toBe("x86_64");
        expect(get(15) - get(25)).toBe(16);
        expect(process.space.regionAt(sp)?.backing?.name).toBe("[stack]");
      },
    });
  });

  it("is the same again with the same seed, and elsewhere with another", async () => {
    const stack = async (seed: number): Promise<number> => {
      let sp = 0;
      const inspect = (task: Task): void => {
        sp = task.cpu.reg(4);
      };
      await runGuest({ source: EXIT_0, seed, inspect });
      return sp;
    };
    expect(await stack(1)).toBe(await stack(1));
    expect(await stack(2)).not.toBe(await stack(1));
  });

  it("answers ENOSYS to calls it does not have and to x32 ones, and counts them", async () => {
    const source = `mov eax, 0x3e7\nsyscall\nmov ebx, eax\nmov eax, 0x40000027\nsyscall\nadd ebx, eax\nneg ebx\nmov edi, ebx\n
      mov eax, 60\nsyscall`;
    const { end, kernel, lines } = await runGuest({ source });
    expect(end).toEqual(exited(76));
    expect([...kernel.unsupported]).toEqual([
      ["x86_64 syscall_0x3e7", 1],
      ["x32 getpid", 1],
    ]);
    expect(lines[0]).toMatch(/^syscall_0x3e7\(0, 0, .*= -1 ENOSYS \(shimbed does not have this call yet\)$/);
  });

  it("takes the ABI from the trap: int 0x80 of 64-bit code has i386 numbers and 32-bit arguments", async () => {
    const source = `mov eax, 20\nint 0x80\nmov r12, rax\nmov eax, 39\nsyscall\nsub r12, rax\n
      mov rbx, 0x1_00000005\nmov rbx, 0x100000005\nmov eax, 1\nadd rbx, r12\nint 0x80`.replace(
      "mov rbx, 0x1_00000005\n",
      "",
    );
    const { end } = await runGuest({ source });
    expect(end).toEqual(exited(5));
  });

  it("sleeps without taking time, and moves the clock by as much", async () => {
    const source = `lea rdi, [rip + time]\nxor esi, esi\nmov eax, 35\nsyscall\nmov edi, 1\nlea rsi, [rip + time]\nmov eax, 228\nsyscall\n
      mov rdi, [rip + time]\nsub rdi, 1000000\nmov eax, 60\nsyscall\n.align 8\ntime: .quad 1000000\n.quad 0`;
    const started = Date.now();
    const { end, lines } = await runGuest({ source });
    expect(end).toEqual(exited(100));
    expect(lines[0]).toBe("nanosleep({tv_sec=1000000, tv_nsec=0}, NULL) = 0");
    expect(Date.now() - started).toBeLessThan(20_000);
  });

  it("ends a spinning guest by blocks and by time", async () => {
    expect((await runGuest({ source: "again: jmp again", limits: { maxBlocks: 10_000 } })).end).toEqual({
      kind: "blocks",
    });
    expect((await runGuest({ source: "again: jmp again", limits: { timeout: 0.2 } })).end).toEqual({ kind: "timeout" });
    const calls = "again: mov eax, 39\nsyscall\njmp again";
    const limits = { timeout: 0.2 };
    expect((await runGuest({ source: calls, limits, trace: "none" })).end).toEqual({ kind: "timeout" });
  });

  it("tells a deadlock from a sleep, and on what each task waits", async () => {
    const source =
      "lea rdi, [rip + word]\nxor esi, esi\nxor edx, edx\nxor r10d, r10d\nmov eax, 202\nsyscall\n.align 4\nword: .long 0";
    const { end } = await runGuest({ source });
    expect(end.kind).toBe("deadlock");
    expect(end.kind === "deadlock" && end.waiting[0]).toMatch(/^thread \d+ of process \d+ \(guest\) waits in futex$/);
  });

  it("reports a fault with address, instruction and who set TLS last", async () => {
    const source = "mov edi, 0x1002\nmov esi, 0x1234\nmov eax, 158\nsyscall\nmov qword ptr [0x5000], 1";
    const { end, reports, lines } = await runGuest({ source });
    expect(end).toMatchObject({ kind: "ended", status: { kind: "killed", signal: 11 } });
    expect(reports[0]).toMatch(/got SIGSEGV: page fault writing 0x5000: nothing is mapped there$/);
    expect(reports[1]).toMatch(/^ {2}at 0x401011 in .*guest at offset 0x1011: bytes 48 c7 04 25/);
    expect(reports[2]).toBe("  FS base 0x1234 (selector 0x0), GS base 0x0 (selector 0x0)");
    expect(reports[3]).toMatch(/^ {2}TLS last set by arch_prctl at 0x401011 \(SetFsBase, ledger entry \d+\)$/);
    expect(lines.at(-1)).toMatch(/^\+\+\+ killed by SIGSEGV/);
  });

  it("reports a fault near the end of 64 bits with its exact address", async () => {
    const { reports } = await runGuest({ source: "mov rax, -0x270\nmov qword ptr [rax], 1" });
    expect(reports[0]).toMatch(/ page fault writing 0xfffffffffffffd90: nothing is mapped there$/);
  });

  it("zeroes the memory behind a segment's file part, and the first byte of the stack can be pushed to", async () => {
    const source = "push 1\nmov rdi, [rip + end]\nadd rdi, [rip + end + 0xff0]\nmov eax, 60\nsyscall\nend:";
    expect((await runGuest({ source })).end).toEqual(exited(0));
  });

  it("maps 128 KiB of the stack below the page of the arguments, and more for tables that need it", async () => {
    const sizes: number[] = [];
    for (const count of [1, 100, 5000]) {
      const inspect = (task: Task): void => {
        const stack = task.process.space.regionAt(task.process.mm.startStack);
        if (stack !== undefined) sizes.push((stack.end - stack.start) / 1024);
      };
      await runGuest({ source: EXIT_0, argv: Array.from({ length: count }, () => "a"), inspect });
    }
    expect(sizes).toEqual([132, 132, 140]);
  });

  it("starts the interpreter of a script, its argument in one piece", async () => {
    const check = `mov rax, [rsp]\nmov rdi, [rsp + 16]\nmovzx edi, byte ptr [rdi + 4]\nadd rdi, rax\nmov eax, 60\nsyscall`;
    const { end } = await runGuest({ source: check, script: "#! %program  -a b c \nrest", argv: ["script", "x"] });
    // Four arguments, and "-a b c"[4] is "c" less one place: a space would be 0x20.
    expect(end).toEqual(exited(4 + " ".charCodeAt(0)));
  });

  it("executes another program and keeps the process, with TLS cleared through the gate", async () => {
    const source = `cmp qword ptr [rsp], 1\njne second\nlea rdi, [rip + self]\nlea rsi, [rip + list]\nlea rax, [rip + self]\nmov [rsi], rax\nmov [rsi + 8], rax\n
      xor edx, edx\nmov eax, 59\nsyscall\nsecond: mov edi, 42\nmov eax, 60\nsyscall\nself: .asciz "/proc/self/exe"\n.align 8\nlist: .quad 0\n.quad 0\n.quad 0`;
    const { end, lines, kernel } = await runGuest({ source });
    expect(end).toEqual(exited(42));
    expect(lines[0]).toMatch(/^execve\("\/proc\/self\/exe", \["\/proc\/self\/exe", "\/proc\/self\/exe"\], NULL\) = 0$/);
    expect(kernel.gate.ledger.records().map((record) => record.request.kind)).toEqual(["ClearTls", "ClearTls"]);
  });

  it("gives execve Linux's errnos", async () => {
    const source = `lea rdi, [rip + none]\nxor esi, esi\nxor edx, edx\nmov eax, 59\nsyscall\nlea rdi, [rip + dir]\nmov eax, 59\nsyscall\n
      mov edi, 8\nmov eax, 59\nsyscall\nxor edi, edi\nmov eax, 60\nsyscall\nnone: .asciz "/none"\ndir: .asciz "/"`;
    const { lines } = await runGuest({ source });
    expect(lines.slice(0, 3).map((line) => line.replace(/.* = /, "").replace(/ \(.*/, ""))).toEqual([
      "-1 ENOENT",
      "-1 EACCES",
      "-1 EFAULT",
    ]);
  });

  it("says so when the program is missing or is none", async () => {
    await expect(runGuest({ source: EXIT_0, script: "#! /none\n" })).rejects.toMatchObject({ exitCode: 127 });
    await expect(runGuest({ source: EXIT_0, script: "no script" })).rejects.toMatchObject({ exitCode: 126 });
  });

  it("writes JSON lines", async () => {
    const { lines } = await runGuest({
      source: `mov edi, 0x1002\nmov esi, 0x1000\nmov eax, 158\nsyscall\n${EXIT_0}`,
      trace: "json",
    });
    const [first, ...rest] = lines.map((line): Record<string, unknown> => JSON.parse(line));
    expect(first).toMatchObject({
      kind: "call",
      name: "arch_prctl",
      family: "tls",
      args: ["ARCH_SET_FS", "0x1000"],
      result: 0,
    });
    expect(first?.tokens).toHaveLength(1);
    expect(rest.map((event) => event.kind)).toEqual(["call", "ended"]);
  });
});
