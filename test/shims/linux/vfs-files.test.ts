// The guest's files through its own system calls, on both ABIs, where no native run can tell: layers, limits, /proc, waiting.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import fc from "fast-check";
import { afterEach, describe, expect, it } from "vitest";
import { i386, x86_64 } from "../../../shims/linux/abi.ts";
import { Wait } from "../../../shims/linux/wait.ts";
import { FileGuest } from "./file-guest.ts";

let guest: FileGuest;
const scratch: string[] = [];

afterEach(() => {
  guest.close();
  for (const directory of scratch.splice(0)) fs.rmSync(directory, { recursive: true });
});

function hostDirectory(files: Readonly<Record<string, string>>): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "shimbed-files-"));
  scratch.push(directory);
  for (const [name, text] of Object.entries(files)) {
    fs.mkdirSync(path.dirname(path.join(directory, name)), { recursive: true });
    fs.writeFileSync(path.join(directory, name), text);
  }
  return directory;
}

/** A handler's answer that must be a wait: what its attempt gives now. */
function attempt(result: unknown): number | undefined {
  if (!(result instanceof Wait)) throw new TypeError(`answered ${String(result)} instead of waiting`);
  const answer = result.attempt();
  if (answer !== undefined) result.end();
  return answer;
}

describe.each([x86_64, i386])("on $name", (abi) => {
  it("reads and writes at any size and offset like one array of bytes", () => {
    guest = new FileGuest({ abi });
    const fd = guest.ok("open", "/tmp/array", 0o102, 0o600);
    const piece = fc.record({ at: fc.nat(40_000), length: fc.nat(9_000), cut: fc.boolean(), seed: fc.nat(255) });
    let model = Buffer.alloc(0);
    fc.assert(
      fc.property(piece, ({ at, length, cut, seed }) => {
        guest.reset();
        if (cut) {
          guest.ok(abi.word === 8 ? "ftruncate" : "ftruncate64", fd, at);
          const next = Buffer.alloc(at);
          model.copy(next);
          model = next;
        } else {
          const bytes = Buffer.alloc(length, seed);
          expect(guest.ok("pwrite64", fd, bytes, length, at)).toBe(length);
          const next = Buffer.alloc(length === 0 ? model.length : Math.max(model.length, at + length));
          model.copy(next);
          bytes.copy(next, at);
          model = next;
        }
        const buffer = guest.buffer(60_000);
        const got = guest.ok("pread64", fd, buffer, 60_000, 0);
        expect(Buffer.compare(guest.bytes(buffer, got), model)).toBe(0);
      }),
      { numRuns: 60, seed: 7 },
    );
  });

  it("keeps the host's file beneath until a page is written", () => {
    const text = "0123456789".repeat(2000);
    const host = hostDirectory({ file: text });
    guest = new FileGuest({ abi, root: host, uid: 0 });
    const fd = guest.ok("open", "/file", 2, 0);
    guest.ok("pwrite64", fd, "X", 1, 5000);
    expect(guest.readFile("/file")).toBe(`${text.slice(0, 5000)}X${text.slice(5001)}`);
    expect(fs.readFileSync(path.join(host, "file"), "utf8")).toBe(text);
    guest.ok("ftruncate", fd, 10);
    guest.ok("ftruncate", fd, 20);
    expect(guest.readFile("/file")).toBe(`0123456789${"\0".repeat(10)}`);
  });

  it("gives descriptors up to RLIMIT_NOFILE", () => {
    guest = new FileGuest({ abi });
    const first = guest.ok("open", "/dev/null", 0, 0);
    for (let fd = first + 1; fd < 1024; fd++) {
      guest.reset();
      expect(guest.ok("dup", first)).toBe(fd);
    }
    expect(guest.sys("dup", first)).toBe("EMFILE");
    expect(guest.sys("open", "/none", 0, 0)).toBe("EMFILE");
    expect(guest.sys("pipe", guest.buffer(8))).toBe("EMFILE");
    guest.ok("close", 500);
    expect(guest.sys("pipe", guest.buffer(8))).toBe("EMFILE");
    expect(guest.ok("dup", first)).toBe(500);
  });

  it("stops a read at the first bad page of the guest and keeps what was not taken", () => {
    guest = new FileGuest({ abi });
    guest.writeFile("/tmp/f", "x".repeat(100));
    const fd = guest.ok("open", "/tmp/f", 0, 0);
    expect(guest.sys("read", fd, 0x4f_fff0, 100)).toBe(16);
    expect(guest.sys("lseek", fd, 0, 1)).toBe(16);
    expect(guest.sys("read", fd, 0x50_0000, 100)).toBe("EFAULT");
    expect(guest.sys("write", fd, 0x50_0000, 1)).toBe("EBADF");
    const at = guest.buffer(8);
    guest.ok("pipe", at);
    const [reading, writing] = [guest.task.memory.u32(at), guest.task.memory.u32(at + 4)];
    guest.ok("write", writing, "hello", 5);
    expect(guest.sys("read", reading, 0x50_0000, 5)).toBe("EFAULT");
    const buffer = guest.buffer(8);
    expect(guest.text(buffer, guest.ok("read", reading, buffer, 8))).toBe("hello");
  });
});

describe("waiting", () => {
  it("reads an empty pipe when somebody writes, and ends when nobody can", () => {
    guest = new FileGuest();
    const at = guest.buffer(8);
    guest.ok("pipe", at);
    const [reading, writing] = [guest.task.memory.u32(at), guest.task.memory.u32(at + 4)];
    const buffer = guest.buffer(8);
    const wait = guest.call("read", reading, buffer, 8);
    expect(attempt(wait)).toBeUndefined();
    guest.ok("write", writing, "abc", 3);
    expect(attempt(wait)).toBe(3);
    const last = guest.call("read", reading, buffer, 8);
    guest.ok("close", writing);
    expect(attempt(last)).toBe(0);
  });

  it("goes on with a long write while the reader makes room, and signals SIGPIPE when it leaves", () => {
    guest = new FileGuest();
    const at = guest.buffer(8);
    guest.ok("pipe", at);
    const [reading, writing] = [guest.task.memory.u32(at), guest.task.memory.u32(at + 4)];
    const wait = guest.call("write", writing, Buffer.alloc(100_000, 1), 100_000);
    expect(attempt(wait)).toBeUndefined();
    const buffer = guest.buffer(65536);
    expect(guest.ok("read", reading, buffer, 65536)).toBe(65536);
    expect(attempt(wait)).toBe(100_000);
    guest.ok("close", reading);
    expect(guest.sys("write", writing, "x", 1)).toBe("EPIPE");
    expect(guest.signals).toEqual([13]);
  });

  it("opens a FIFO when the other side comes", () => {
    guest = new FileGuest();
    guest.ok("mknod", "/tmp/fifo", 0o10600, 0);
    const reader = guest.call("open", "/tmp/fifo", 0, 0);
    expect(attempt(reader)).toBeUndefined();
    const writer = guest.ok("open", "/tmp/fifo", 1, 0);
    const fd = attempt(reader);
    guest.ok("write", writer, "hi", 2);
    const buffer = guest.buffer(8);
    expect(guest.ok("read", fd ?? -1, buffer, 8)).toBe(2);
  });

  it("polls with a deadline in virtual time, and holds a lock against another open file", () => {
    guest = new FileGuest();
    const at = guest.buffer(8);
    guest.ok("pipe", at);
    const [reading, writing] = [guest.task.memory.u32(at), guest.task.memory.u32(at + 4)];
    const fds = Buffer.alloc(8);
    fds.writeInt32LE(reading, 0);
    fds.writeInt16LE(1, 4);
    const wait = guest.call("poll", fds, 1, 1500);
    if (!(wait instanceof Wait)) throw new TypeError("poll did not wait");
    expect(wait.deadline).toBe(guest.kernel.clock.now() + 1.5e9);
    expect(wait.attempt()).toBeUndefined();
    guest.ok("write", writing, "x", 1);
    expect(wait.attempt()).toBe(1);

    const one = guest.ok("open", "/tmp/lock", 0o102, 0o600);
    const two = guest.ok("open", "/tmp/lock", 2, 0);
    guest.ok("flock", one, 2);
    const lock = guest.call("flock", two, 2);
    expect(attempt(lock)).toBeUndefined();
    guest.ok("close", one);
    expect(attempt(lock)).toBe(0);
  });
});

describe("permissions", () => {
  it("follow owner, group, others and the sticky bit for an unprivileged guest", () => {
    guest = new FileGuest({ uid: 1000 });
    guest.writeFile("/tmp/mine", "x", 0o600);
    expect(guest.sys("open", "/etc/passwd", 0, 0)).toBeTypeOf("number");
    expect(guest.sys("open", "/etc/passwd", 1, 0)).toBe("EACCES");
    expect(guest.sys("unlink", "/etc/passwd")).toBe("EACCES");
    expect(guest.sys("mkdir", "/new", 0o777)).toBe("EACCES");
    expect(guest.sys("chmod", "/etc/passwd", 0o777)).toBe("EPERM");
    expect(guest.sys("chown", "/tmp/mine", 0, 0)).toBe("EPERM");
    guest.ok("chmod", "/tmp/mine", 0);
    expect(guest.sys("open", "/tmp/mine", 0, 0)).toBe("EACCES");
    expect(guest.sys("chroot", "/tmp")).toBe("EPERM");
    expect(guest.sys("mount", "a", "/tmp", "tmpfs", 0, 0)).toBe("EPERM");
    expect(guest.sys("mknod", "/tmp/null", 0o20666, 0x103)).toBe("EPERM");
    guest.ok("mkdir", "/tmp/closed", 0o000);
    expect(guest.sys("open", "/tmp/closed/x", 0, 0)).toBe("EACCES");
  });
});

describe("/proc", () => {
  it("shows the process: maps, status, stat, descriptors, limits", () => {
    guest = new FileGuest();
    const { pid } = guest.process;
    expect(guest.readLink("/proc/self")).toBe(String(pid));
    expect(guest.readFile("/proc/self/maps")).toBe(
      "00100000-00500000 rw-p 00000000 00:00 0 \n" +
        "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n",
    );
    expect(guest.readFile(`/proc/${pid}/status`)).toMatch(new RegExp(`^Pid:\\t${pid}$`, "m"));
    expect(guest.readFile("/proc/self/stat").split(" ")).toHaveLength(52);
    expect(guest.readFile("/proc/self/limits")).toMatch(/^Max open files {12}1024 {17}1048576 {14}files {5}$/m);
    expect(guest.names("/proc/self/task")).toEqual([String(pid)]);
    const fd = guest.ok("open", "/tmp", 0o200000, 0);
    expect(guest.names("/proc/self/fd")).toContain(String(fd));
    guest.ok("fchdir", fd);
    expect(guest.readLink("/proc/self/cwd")).toBe("/tmp");
    expect(guest.readFile("/proc/sys/kernel/random/boot_id")).toMatch(/^[0-9a-f-]{36}\n$/);
    expect(guest.readFile("/proc/mounts").split("\n")[0]).toBe("/dev/root / ext4 rw,relatime 0 0");
    expect(guest.sys("open", "/proc/version", 1, 0)).toBe("EACCES");
    expect(guest.sys("open", "/proc/31999", 0, 0)).toBe("ENOENT");
  });
});

describe("a run that repeats", () => {
  it("gives the same inode numbers and times again", () => {
    const look = () => {
      guest = new FileGuest();
      guest.writeFile("/tmp/a", "a");
      guest.ok("mkdir", "/tmp/b", 0o755);
      const at = guest.buffer(144);
      const seen = ["/tmp/a", "/tmp/b", "/dev/null", "/proc/self/maps", "/etc/passwd"].map((name) => {
        guest.ok("stat", name, at);
        return Buffer.from(guest.bytes(at, 144)).toString("hex");
      });
      return seen;
    };
    const first = look();
    guest.close();
    expect(look()).toEqual(first);
  });

  it("frees mapped files without a name once no mapping shows them", () => {
    guest = new FileGuest();
    const { space } = guest.process.mm;
    const before = guest.machine.physical.used;
    for (let round = 0; round < 300; round++) {
      guest.reset();
      const fd = guest.ok("memfd_create", "churn", 0);
      guest.ok("ftruncate", fd, 4096);
      const file = guest.process.files.get(fd);
      if (!file) throw new Error("no file");
      const backing = guest.vfs.backing(file, guest.vfs.root);
      if (backing === "anonymous") throw new Error("no file");
      space.map(0x900_0000, 4096, 3, { backing, shared: true });
      space.memory.setU32(0x900_0000, round);
      guest.ok("close", fd);
      expect(space.memory.u32(0x900_0000)).toBe(round);
    }
    expect(guest.machine.physical.used - before).toBeLessThan(100 * 4096);
  });
});

describe("a full file system", () => {
  it("answers ENOSPC and gives the room back", () => {
    guest = new FileGuest();
    const fs = guest.vfs.rootFs;
    const fd = guest.ok("open", "/tmp/full", 0o102, 0o600);
    fs.pages = fs.maxPages - 2;
    expect(guest.ok("write", fd, Buffer.alloc(20_000), 20_000)).toBe(8192);
    expect(guest.sys("write", fd, "x", 1)).toBe("ENOSPC");
    guest.ok("ftruncate", fd, 0);
    expect(guest.ok("write", fd, "x", 1)).toBe(1);
  });
});
