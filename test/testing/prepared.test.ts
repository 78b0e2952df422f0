import { expect, type LinuxBed, test } from "../../cli/testing/index.ts";

/** Sets FS, says that it is ready, then does what the case chooses by RBX. */
const guest = (linux: LinuxBed) => linux.asm`
    mov eax, 158; mov edi, 0x1002; lea rsi, [rip + block]; syscall
    mov eax, 24; syscall
    cmp ebx, 1; je again
    cmp ebx, 2; je dies
    cmp ebx, 3; je opens
    cmp ebx, 4; je forever
    inc dword ptr fs:[8]
    mov edi, fs:[8]
end:
    mov eax, 231; syscall
again:
    mov eax, 158; mov edi, 0x1002; lea rsi, [rip + other]; syscall
    mov edi, fs:[8]
    jmp end
dies:
    ud2
opens:
    mov eax, 2; xor edi, edi; syscall
forever:
    jmp forever
block:
    .quad 0, 10
other:
    .quad 0, 20
`;

test("cases go on from the same point, whatever the others did", async ({ linux }) => {
  const prepared = await linux.prepare(guest(linux));
  for (let i = 0; i < 3; i++) {
    // The word that this adds to is in the guest's memory.
    expect(await prepared.run()).toExit(11);
    const other = await prepared.run({ registers: { rbx: 1 } });
    expect(other).toExit(20);
    expect(other).toHavePunched(["SetFsBase"]);
    expect(other).toTraceLike(`
      arch_prctl(ARCH_SET_FS, <other>) = 0
      exit_group(20) = ?
      +++ exited with 20 +++`);
  }
  const base = (await prepared.run()).states.at(-1)?.state.fsBase;
  const changed = await prepared.run({ memory: [[Number(base) + 8, Uint8Array.of(41)]] });
  expect(changed).toExit(42);
  prepared.close();
});

test("a case that dies does not stop the next", async ({ linux }) => {
  const prepared = await linux.prepare(guest(linux));
  const died = await prepared.run({ registers: { rbx: 2 } });
  expect(died).toBeKilledBy("SIGILL");
  expect(died.faults.join()).toContain("ud2");
  expect(await prepared.run()).toExit(11);
  prepared.close();
});

test("a case that hangs is stopped", async ({ linux }) => {
  const prepared = await linux.with({ maxBlocks: 10_000 }).prepare(guest(linux));
  expect((await prepared.run({ registers: { rbx: 4 } })).end).toEqual({ kind: "blocks" });
  expect(await prepared.run()).toExit(11);
  prepared.close();
});

test("entries of the GDT go back too", async ({ linux32 }) => {
  const prepared = await linux32.prepare(linux32.asm`
      mov eax, 158; int 0x80
      mov eax, 243; lea ebx, [desc]; int 0x80
      mov ebx, dword ptr [desc]
      mov eax, 1; int 0x80
    desc:
      .long -1, 0x804a000, 0xfffff, 0x51
    `);
  // Each finds the first entry free.
  for (let i = 0; i < 5; i++) expect(await prepared.run()).toExit(12);
  prepared.close();
});

test("what cannot be taken back is refused", async ({ linux, inject }) => {
  const prepared = await linux.prepare(guest(linux));
  await expect(prepared.run({ registers: { rbx: 3 } })).rejects.toThrow("a case of a prepared guest may not call open");
  expect(await prepared.run()).toExit(11);
  prepared.close();
  const never = await linux.prepare(guest(linux), "getpid");
  await expect(never.run()).rejects.toThrow("the guest never calls getpid, where cases are to begin");
  await expect(linux.with({ provider: "linux-userland" }).prepare(guest(linux))).rejects.toThrow("only direct keeps");
  inject("SetFsBase:nothing");
  await expect(linux.prepare(guest(linux))).rejects.toThrow("cannot prepare a guest with faults");
});

test("thousands of cases a second", async ({ linux }) => {
  const prepared = await linux.prepare(guest(linux));
  await prepared.run();
  let best = 0;
  for (let round = 0; round < 5; round++) {
    const start = process.cpuUsage();
    for (let i = 0; i < 200; i++) await prepared.run({ registers: { rbx: 1 } });
    const { user, system } = process.cpuUsage(start);
    best = Math.max(best, 200e6 / (user + system));
  }
  prepared.close();
  expect(best).toBeGreaterThan(1000);
});
