// Nothing the guest names leads out of the tree it was given.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { FileGuest } from "./file-guest.ts";

const SECRET = "host secret";
let top: string;
let guest: FileGuest;

beforeEach(() => {
  top = fs.mkdtempSync(path.join(os.tmpdir(), "shimbed-escape-"));
  fs.writeFileSync(path.join(top, "secret"), SECRET);
  fs.mkdirSync(path.join(top, "root/dir/deep"), { recursive: true });
  fs.writeFileSync(path.join(top, "root/dir/file"), "inside");
  fs.symlinkSync(path.join(top, "secret"), path.join(top, "root/absolute"));
  fs.symlinkSync("../secret", path.join(top, "root/relative"));
  fs.symlinkSync("../../../../secret", path.join(top, "root/dir/deep/far"));
  fs.symlinkSync(top, path.join(top, "root/up"));
  fs.symlinkSync("loop", path.join(top, "root/loop"));
  fs.mkdirSync(path.join(top, "shared/sub"), { recursive: true });
  fs.symlinkSync(top, path.join(top, "shared/out"));
});

afterEach(() => {
  guest.close();
  fs.rmSync(top, { recursive: true });
});

describe("a given root", () => {
  beforeEach(() => {
    guest = new FileGuest({ root: path.join(top, "root"), uid: 0 });
  });

  it.each([
    "/absolute",
    "/relative",
    "/dir/deep/far",
    "/up/secret",
    "/../secret",
    "/../../../../../../../etc/passwd/../../secret",
    "/dir/../../secret",
    "/dir/deep/../../../secret",
    "/proc/self/root/../secret",
    "/proc/self/cwd/../secret",
    "/dev/fd/../../../secret",
  ])("%s does not lead to the host's file", (name) => {
    expect(guest.sys("open", name, 0, 0)).toMatch(/ENOENT|ENOTDIR/);
  });

  it("interprets absolute links of the host inside the root", () => {
    expect(guest.sys("open", "/absolute", 0, 0)).toBe("ENOENT");
    expect(guest.readLink("/absolute")).toBe(path.join(top, "secret"));
    expect(guest.sys("open", "/loop", 0, 0)).toBe("ELOOP");
  });

  it("keeps `..` of a directory descriptor inside", () => {
    const fd = guest.ok("open", "/", 0o200000, 0);
    expect(guest.sys("openat", fd, "../secret", 0, 0)).toBe("ENOENT");
    expect(guest.sys("openat", fd, "../../dir/file", 0, 0)).toBeTypeOf("number");
    guest.ok("fchdir", fd);
    guest.ok("chdir", "dir/deep");
    expect(guest.sys("open", "../../../secret", 0, 0)).toBe("ENOENT");
  });

  it("stays inside when the working directory was moved or removed", () => {
    guest.ok("chdir", "/dir/deep");
    guest.ok("rename", "/dir/deep", "/moved");
    const buffer = guest.buffer(256);
    expect(guest.text(buffer, guest.ok("getcwd", buffer, 256))).toBe("/moved\0");
    expect(guest.sys("open", "../../../secret", 0, 0)).toBe("ENOENT");
    expect(guest.sys("open", "far", 0, 0)).toBe("ENOENT");
    guest.ok("unlink", "/moved/far");
    guest.ok("rmdir", "/moved");
    expect(guest.sys("getcwd", buffer, 256)).toBe("ENOENT");
    expect(guest.sys("open", "new", 0o102, 0o600)).toBe("ENOENT");
    expect(guest.sys("open", "../dir/file", 0, 0)).toBeTypeOf("number");
  });

  it("reopens through /proc/self/fd the file itself, never a path of the host", () => {
    const fd = guest.ok("open", "/dir/file", 0, 0);
    expect(guest.readLink(`/proc/self/fd/${fd}`)).toBe("/dir/file");
    const again = guest.ok("open", `/proc/self/fd/${fd}`, 0, 0);
    const buffer = guest.buffer(16);
    expect(guest.text(buffer, guest.ok("read", again, buffer, 16))).toBe("inside");
    expect(guest.sys("open", `/proc/self/fd/${fd}/../../../secret`, 0, 0)).toBe("ENOTDIR");
    const directory = guest.ok("open", "/dir", 0o10200000, 0);
    expect(guest.sys("open", `/proc/self/fd/${directory}/../../secret`, 0, 0)).toBe("ENOENT");
    expect(guest.sys("open", `/proc/self/fd/${directory}/file`, 0, 0)).toBeTypeOf("number");
  });

  it("lets even root of the guest change its root only within", () => {
    const outside = guest.ok("open", "/", 0o200000, 0);
    guest.ok("chroot", "/dir");
    expect(guest.sys("open", "/../../secret", 0, 0)).toBe("ENOENT");
    // As on Linux a descriptor from before leads out of the new root, but not out of the tree.
    expect(guest.sys("openat", outside, "../../../secret", 0, 0)).toBe("ENOENT");
    expect(guest.sys("openat", outside, "dir/file", 0, 0)).toBeTypeOf("number");
  });

  it("writes nothing to the host", () => {
    guest.writeFile("/dir/file", "changed");
    guest.writeFile("/dir/new", "new");
    guest.ok("unlink", "/relative");
    guest.ok("rename", "/dir", "/elsewhere");
    guest.ok("chmod", "/elsewhere/file", 0o777);
    guest.ok("truncate", "/elsewhere/new", 1);
    expect(guest.readFile("/elsewhere/file")).toBe("changed");
    expect(guest.names("/elsewhere")).toEqual(["deep", "file", "new"]);
    expect(fs.readFileSync(path.join(top, "root/dir/file"), "utf8")).toBe("inside");
    expect(fs.statSync(path.join(top, "root/dir/file")).mode & 0o777).not.toBe(0o777);
    expect(fs.readdirSync(path.join(top, "root")).sort()).toEqual(["absolute", "dir", "loop", "relative", "up"]);
  });

  it("refuses RESOLVE_BENEATH and RESOLVE_IN_ROOT escapes as Linux does", () => {
    const fd = guest.ok("open", "/dir", 0o200000, 0);
    const how = (resolve: number) => {
      const bytes = Buffer.alloc(24);
      bytes.writeBigUInt64LE(BigInt(resolve), 16);
      return bytes;
    };
    expect(guest.sys("openat2", fd, "../loop", how(8), 24)).toBe("EXDEV");
    expect(guest.sys("openat2", fd, "/dir/file", how(8), 24)).toBe("EXDEV");
    expect(guest.sys("openat2", fd, "../file", how(16), 24)).toBeTypeOf("number");
    expect(guest.sys("openat2", fd, "/file", how(16), 24)).toBeTypeOf("number");
    expect(guest.sys("openat2", fd, "deep/far", how(4), 24)).toBe("ELOOP");
    expect(guest.sys("openat2", fd, `/proc/self/fd/${fd}`, how(2), 24)).toBe("ELOOP");
    expect(guest.sys("openat2", fd, "/proc/self", how(1), 24)).toBe("EXDEV");
  });
});

describe("a directory bound read-write", () => {
  beforeEach(() => {
    const bind = { host: path.join(top, "shared"), guest: "/shared", writable: true };
    guest = new FileGuest({ binds: [bind], uid: 0 });
  });

  it("writes through and does not follow the host's links out", () => {
    guest.writeFile("/shared/sub/file", "through");
    expect(fs.readFileSync(path.join(top, "shared/sub/file"), "utf8")).toBe("through");
    expect(guest.sys("open", "/shared/out/secret", 0, 0)).toBe("ENOENT");
    expect(guest.sys("open", "/shared/../secret", 0, 0)).toBe("ENOENT");
    expect(guest.sys("open", "/shared/sub/../../secret", 0, 0)).toBe("ENOENT");
    guest.ok("symlink", path.join(top, "secret"), "/shared/mine");
    expect(guest.sys("open", "/shared/mine", 0, 0)).toBe("ENOENT");
    expect(guest.sys("open", "/shared/mine", 1, 0)).toBe("ENOENT");
  });

  it("notices directories that the host swaps for links meanwhile", () => {
    guest.writeFile("/shared/sub/file", "through");
    const directory = guest.ok("open", "/shared/sub", 0o200000, 0);
    fs.renameSync(path.join(top, "shared/sub"), path.join(top, "shared/was"));
    fs.symlinkSync(top, path.join(top, "shared/sub"));
    expect(guest.sys("openat", directory, "secret", 0, 0)).toBe("ESTALE");
    expect(guest.sys("openat", directory, "planted", 0o101, 0o600)).toBe("ESTALE");
    expect(guest.sys("open", "/shared/sub/secret", 0, 0)).toBe("ENOENT");
    expect(fs.existsSync(path.join(top, "planted"))).toBe(false);
  });

  it("reads a link anew when the host gives its inode number again", () => {
    for (const target of ["one", "two", "three"]) {
      guest.ok("symlink", target, "/shared/link");
      expect(guest.readLink("/shared/link")).toBe(target);
      guest.ok("unlink", "/shared/link");
    }
  });

  it("renames, links, removes and keeps unlinked files open on the host", () => {
    guest.writeFile("/shared/a", "content");
    guest.ok("link", "/shared/a", "/shared/sub/b");
    guest.ok("rename", "/shared/a", "/shared/c");
    const fd = guest.ok("open", "/shared/c", 2, 0);
    guest.ok("unlink", "/shared/c");
    guest.ok("unlink", "/shared/sub/b");
    const buffer = guest.buffer(16);
    expect(guest.text(buffer, guest.ok("read", fd, buffer, 16))).toBe("content");
    expect(guest.readLink(`/proc/self/fd/${fd}`)).toBe("/shared/c (deleted)");
    guest.ok("mkdir", "/shared/new", 0o700);
    expect(guest.sys("rename", "/shared/new", "/tmp/new")).toBe("EXDEV");
    expect(fs.readdirSync(path.join(top, "shared")).sort()).toEqual(["new", "out", "sub"]);
  });

  it("makes FIFOs and names of sockets on the host, and no devices", () => {
    const host = (name: string) => fs.statSync(path.join(top, "shared", name));
    guest.ok("mknod", "/shared/fifo", 0o10662, 0);
    guest.ok("mknod", "/shared/socket", 0o140755, 0);
    expect(guest.sys("mknod", "/shared/fifo", 0o10600, 0)).toBe("EEXIST");
    expect(guest.sys("mknod", "/shared/null", 0o20666, 0x103)).toBe("EPERM");
    expect([host("fifo").isFIFO(), host("fifo").mode & 0o7777]).toEqual([true, 0o640]);
    expect([host("socket").isSocket(), host("socket").mode & 0o7777]).toEqual([true, 0o755]);
    guest.ok("chmod", "/shared/fifo", 0o604);
    guest.ok("rename", "/shared/fifo", "/shared/moved");
    expect(host("moved").mode & 0o7777).toBe(0o604);
    guest.ok("unlink", "/shared/moved");
    guest.ok("unlink", "/shared/socket");
    expect(fs.readdirSync(path.join(top, "shared")).sort()).toEqual(["out", "sub"]);
  });

  it("opens no FIFO of the host: its readers and writers are the run's", () => {
    guest.ok("mknod", "/shared/fifo", 0o10600, 0);
    const reader = guest.ok("open", "/shared/fifo", 0o4000, 0);
    const writer = guest.ok("open", "/shared/fifo", 0o4001, 0);
    const hostReader = fs.openSync(path.join(top, "shared/fifo"), fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
    const buffer = guest.buffer(16);
    guest.ok("write", writer, Buffer.from("within"), 6);
    expect(fs.readSync(hostReader, Buffer.alloc(16))).toBe(0);
    fs.closeSync(hostReader);
    expect(guest.text(buffer, guest.ok("read", reader, buffer, 16))).toBe("within");
  });
});

describe("the default root", () => {
  it("holds only the program and what it needs", () => {
    guest = new FileGuest({ program: "/bin/ls" });
    expect(guest.names("/").sort()).toEqual(["bin", "dev", "etc", "lib", "lib64", "proc", "sys", "tmp", "usr"]);
    expect(guest.names("/usr/bin")).toEqual(["ls"]);
    expect(guest.names("/usr/lib64")).toEqual(["ld-linux-x86-64.so.2"]);
    expect(guest.names("/lib/x86_64-linux-gnu")).toContain("libc.so.6");
    expect(guest.names("/etc")).toEqual(["group", "hostname", "hosts", "nsswitch.conf", "passwd"]);
    expect(guest.sys("open", "/etc/shadow", 0, 0)).toBe("ENOENT");
    expect(guest.sys("open", "/bin/ls", 1, 0)).toBe("EACCES");
    expect(guest.names("/tmp")).toEqual([]);
  });

  it("lists its devices, and the one processor there is", () => {
    guest = new FileGuest({});
    const devices = ["console", "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout"];
    expect(guest.names("/dev").sort()).toEqual([...devices, "tty", "urandom", "zero"]);
    expect(guest.names("/sys/devices/system/cpu")).toContain("cpu0");
    expect(guest.names("/sys/devices/system/cpu/cpu0/topology")).toContain("thread_siblings_list");
    expect(guest.names("/sys/devices/system/node/node0").sort()).toEqual(["cpulist", "cpumap", "distance", "meminfo"]);
    const file = guest.sys("open", "/sys/devices/system/cpu/online", 0, 0);
    expect(file).toBeTypeOf("number");
  });

  it("never opens special files of the host", () => {
    const bind = { host: "/dev", guest: "/hostdev", writable: false };
    guest = new FileGuest({ binds: [bind], uid: 0 });
    expect(guest.sys("open", "/hostdev/null", 2, 0)).toBeTypeOf("number");
    expect(guest.sys("open", "/hostdev/kmsg", 0, 0)).toBe("ENXIO");
    expect(guest.sys("open", "/hostdev/tty", 0, 0)).toMatch(/ENXIO|^\d+$/);
  });
});
