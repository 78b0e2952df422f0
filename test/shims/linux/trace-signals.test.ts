import { expect, test } from "vitest";
import { runGuest } from "./run-guest.ts";

/** What the trace says apart from calls, with the calls' names in place of them. */
function told(lines: readonly string[]): string[] {
  return lines.map((line) => line.replace(/^(\[pid +\d+\] )?(\w+)\(.*$/, "$2").replace(/^\[pid +\d+\] /, ""));
}

const HANDLER = `
    mov eax, 13                 # rt_sigaction
    lea rsi, [rip + action]
    xor edx, edx
    mov r10d, 8
    syscall`;
const DATA = `
  handler: ret
  restorer: mov eax, 15
    syscall
  action: .quad handler, 0x04000000, restorer, 0`;

test("a fatal fault is told of before the end", async () => {
  const { lines } = await runGuest({ source: "mov eax, [0x1234]" });
  expect(told(lines)).toEqual([
    "--- SIGSEGV {si_signo=SIGSEGV, si_code=SEGV_MAPERR, si_addr=0x1234} ---",
    "+++ killed by SIGSEGV +++",
  ]);
});

test("signals that are caught, ignored, and fatal by being sent", async () => {
  const send = (signal: number) => `mov eax, 39\nsyscall\nmov edi, eax\nmov esi, ${signal}\nmov eax, 62\nsyscall\n`;
  const source = `mov edi, 10${HANDLER}\n${send(10)}${send(17)}${send(15)}${DATA}`;
  const { lines } = await runGuest({ source });
  const sender = "si_code=SI_USER, si_pid=3793, si_uid=1000";
  expect(told(lines)).toEqual([
    "rt_sigaction",
    "getpid",
    "kill",
    `--- SIGUSR1 {si_signo=SIGUSR1, ${sender}} ---`,
    "rt_sigreturn",
    "getpid",
    "kill",
    `--- SIGCHLD {si_signo=SIGCHLD, ${sender}} ---`,
    "getpid",
    "kill",
    `--- SIGTERM {si_signo=SIGTERM, ${sender}} ---`,
    "+++ killed by SIGTERM +++",
  ]);
});

test("a call that a process ends in shows what lies across two pages", async () => {
  const source = `
    mov rbx, rsp
    and rbx, -4096
    sub rbx, 2
    mov qword ptr [rbx], 5
    mov eax, 57                 # fork
    syscall
    mov edi, 3
    test eax, eax
    jz sleeps
    mov edi, 0x10f00            # CLONE_VM | FS | FILES | SIGHAND | THREAD
    lea rsi, [rsp - 16384]
    xor edx, edx
    xor r10d, r10d
    mov eax, 56                 # clone
    syscall
    mov edi, 1
    test eax, eax
    jz sleeps
    mov edi, -1
    xor esi, esi
    xor edx, edx
    mov r10, rbx
    mov eax, 61                 # wait4
    syscall
  sleeps:
    push 0
    push rdi
    mov rdi, rsp
    xor esi, esi
    mov eax, 35                 # nanosleep
    syscall
    mov edi, 3
    mov eax, 231                # exit_group
    syscall`;
  const { lines } = await runGuest({ source });
  expect(lines.filter((line) => line.includes("wait4 resumed"))).toHaveLength(1);
  expect(lines.filter((line) => line.includes("exited with 3")).length).toBeGreaterThan(0);
});

test("SIGKILL ends a process before anybody sees it, and its parent is told how", async () => {
  const source = `
    mov eax, 57                 # fork
    syscall
    test eax, eax
    jz child
    mov edi, eax
    mov esi, 9
    mov eax, 62                 # kill
    syscall
    xor esi, esi
    xor edx, edx
    xor r10d, r10d
    mov eax, 61                 # wait4
    syscall
    xor edi, edi
    mov eax, 231
    syscall
  child:
    mov eax, 34                 # pause
    syscall`;
  const { lines } = await runGuest({ source });
  expect(told(lines).filter((line) => /^[-+]/.test(line))).toEqual([
    "+++ killed by SIGKILL +++",
    "--- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_KILLED, si_pid=3794, si_uid=1000, si_status=SIGKILL, si_utime=0, si_stime=0} ---",
    "+++ exited with 0 +++",
  ]);
});

test("every thread's end is told of, the first one's last", async () => {
  const source = `
    mov eax, 56                 # clone
    mov edi, 0x50f00            # VM|FS|FILES|SIGHAND|THREAD|SYSVSEM
    lea rsi, [rip + stack + 256]
    syscall
    test eax, eax
    jz thread
    mov edi, 5
    mov eax, 231                # exit_group
    syscall
  thread:
    mov eax, 34                 # pause
    syscall
    stack: .zero 256`;
  const { lines } = await runGuest({ source, trace: "json" });
  const ends = lines.map((line) => JSON.parse(line)).filter(({ kind }) => kind === "ended");
  expect(ends).toEqual([
    { kind: "ended", pid: 3793, tid: 3794, status: { kind: "exited", code: 5 } },
    { kind: "ended", pid: 3793, tid: 3793, status: { kind: "exited", code: 5 } },
  ]);
});
