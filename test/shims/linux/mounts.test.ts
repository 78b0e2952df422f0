// mount and umount2 in the guest's own tree. Tried on the guest alone: natively they would change this machine.

import { afterEach, describe, expect, it } from "vitest";
import { FileGuest } from "./file-guest.ts";

const MS_RDONLY = 1;
const MS_REMOUNT = 32;
const MNT_DETACH = 2;
const MNT_EXPIRE = 4;
const O_CREAT_WRONLY = 0o101;

let guest: FileGuest;
afterEach(() => guest.close());

function mounted(): FileGuest {
  guest = new FileGuest({ uid: 0 });
  guest.ok("mkdir", "/tmp/m", 0o755);
  guest.writeFile("/tmp/m/under", "beneath");
  guest.ok("mount", "disk", "/tmp/m", "tmpfs", 0, "size=8k,mode=700");
  return guest;
}

describe("mounts", () => {
  it("show a file system of its own until they are taken away", () => {
    mounted();
    expect(guest.sys("open", "/tmp/m/under", 0, 0)).toBe("ENOENT");
    guest.writeFile("/tmp/m/file", "on top");
    expect(guest.readFile("/proc/self/mounts")).toMatch(/^disk \/tmp\/m tmpfs rw,relatime 0 0$/m);
    expect(guest.sys("link", "/tmp/m/file", "/tmp/other")).toBe("EXDEV");
    expect(guest.sys("rmdir", "/tmp/m")).toBe("EBUSY");
    guest.ok("umount2", "/tmp/m", 0);
    expect(guest.readFile("/tmp/m/under")).toBe("beneath");
    expect(guest.sys("umount2", "/tmp/m", 0)).toBe("EINVAL");
  });

  it("keep to their size", () => {
    mounted();
    const fd = guest.ok("open", "/tmp/m/file", O_CREAT_WRONLY, 0o600);
    expect(guest.sys("write", fd, guest.buffer(20_000), 20_000)).toBe(8192);
    expect(guest.sys("write", fd, guest.buffer(10), 10)).toBe("ENOSPC");
  });

  it("refuse every change when they are read-only", () => {
    mounted();
    guest.writeFile("/tmp/m/file", "x", 0o666);
    guest.ok("mkdir", "/tmp/m/dir", 0o755);
    guest.ok("mount", 0, "/tmp/m", 0, MS_REMOUNT | MS_RDONLY, 0);
    const refused: [string, ...(string | number)[]][] = [
      ["open", "/tmp/m/new", O_CREAT_WRONLY, 0o600],
      ["open", "/tmp/m/file", 1, 0],
      ["open", "/tmp/m/file", 0o1000, 0],
      ["access", "/tmp/m/file", 2],
      ["mkdir", "/tmp/m/more", 0o755],
      ["rmdir", "/tmp/m/dir"],
      ["rmdir", "/tmp/m/none"],
      ["unlink", "/tmp/m/file"],
      ["unlink", "/tmp/m/none"],
      ["rename", "/tmp/m/file", "/tmp/m/moved"],
      ["symlink", "x", "/tmp/m/link"],
      ["link", "/tmp/m/file", "/tmp/m/second"],
      ["chmod", "/tmp/m/file", 0o600],
      ["chown", "/tmp/m/file", 1, 1],
      ["utimes", "/tmp/m/file", 0],
      ["truncate", "/tmp/m/file", 0],
      ["setxattr", "/tmp/m/file", "user.x", "v", 1, 0],
    ];
    for (const [name, ...args] of refused) expect([name, guest.sys(name, ...args)]).toEqual([name, "EROFS"]);
    expect(guest.sys("mkdir", "/tmp/m/dir", 0o755)).toBe("EEXIST");
    expect(guest.sys("rmdir", "/tmp/m")).toBe("EBUSY");
    expect(guest.readFile("/tmp/m/file")).toBe("x");
    guest.ok("mount", 0, "/tmp/m", 0, MS_REMOUNT, 0);
    guest.ok("unlink", "/tmp/m/file");
  });

  it("cannot be taken away or made read-only while they are in use", () => {
    mounted();
    const fd = guest.ok("open", "/tmp/m/file", O_CREAT_WRONLY, 0o600);
    expect(guest.sys("umount2", "/tmp/m", 0)).toBe("EBUSY");
    expect(guest.sys("mount", 0, "/tmp/m", 0, MS_REMOUNT | MS_RDONLY, 0)).toBe("EBUSY");
    guest.ok("close", fd);
    guest.ok("chdir", "/tmp/m");
    expect(guest.sys("umount2", "/tmp/m", 0)).toBe("EBUSY");
    guest.ok("umount2", "/tmp/m", MNT_DETACH);
    expect(guest.sys("access", "file", 0)).toBe(0);
    expect(guest.sys("access", "/tmp/m/file", 0)).toBe("ENOENT");
    expect(guest.sys("umount2", "/", 0)).toBe("EBUSY");
  });

  it("go at the second call with MNT_EXPIRE", () => {
    mounted();
    expect(guest.sys("umount2", "/tmp/m", MNT_EXPIRE | MNT_DETACH)).toBe("EINVAL");
    expect(guest.sys("umount2", "/tmp/m", MNT_EXPIRE)).toBe("EAGAIN");
    guest.ok("umount2", "/tmp/m", MNT_EXPIRE);
  });

  it("have the types that there are, for root alone", () => {
    mounted();
    guest.ok("mkdir", "/tmp/p", 0o755);
    guest.ok("mount", "proc", "/tmp/p", "proc", 0, 0);
    expect(guest.readLink("/tmp/p/self")).toBe(guest.readLink("/proc/self"));
    expect(guest.sys("mount", "x", "/tmp/p", "ext9", 0, 0)).toBe("ENODEV");
    expect(guest.sys("mount", "x", "/tmp/p", 0, 0, 0)).toBe("EINVAL");
    expect(guest.sys("mount", "x", "/tmp/p", "tmpfs", 0, "size=much")).toBe("EINVAL");
    expect(guest.sys("mount", "x", "/tmp/none", "tmpfs", 0, 0)).toBe("ENOENT");
    expect(guest.sys("mount", "x", "/etc/passwd", "tmpfs", 0, 0)).toBe("ENOTDIR");
    expect(guest.sys("mount", "/tmp", "/tmp/p", 0, 4096, 0)).toBe("EPERM");
    guest.close();
    guest = new FileGuest();
    expect(guest.sys("mount", "x", "/tmp", "tmpfs", 0, 0)).toBe("EPERM");
    expect(guest.sys("umount2", "/proc", 0)).toBe("EPERM");
    expect(guest.sys("pivot_root", "/tmp", "/tmp")).toBe("EPERM");
  });
});
