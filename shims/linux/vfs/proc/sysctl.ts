/** /proc/sys: what programs read there, and what root may set. */
import { Errno } from "../../errno.ts";
import { type SettingName, settingNames } from "../../settings.ts";
import type { Kernel } from "../../task.ts";
import type { FileSystem, Inode } from "../inode.ts";
import { fixedDirectory, ProcText } from "./proc.ts";

/** What uname(2) and /proc/version tell: a long-term kernel that has every call a libc of today asks for. */
export const KERNEL_RELEASE = "6.12.0";
export const KERNEL_VERSION = "#1 SMP PREEMPT_DYNAMIC shimbed";

/** Files and directories by name. */
interface Tree {
  [name: string]: Inode | Tree;
}

function isTree(node: Inode | Tree): node is Tree {
  return !("ino" in node);
}

function directory(fs: FileSystem, tree: Tree): Inode {
  const files = Object.entries(tree).map(([name, node]) => [name, isTree(node) ? directory(fs, node) : node] as const);
  const made = fixedDirectory(fs, Object.fromEntries(files.sort(([a], [b]) => (a < b ? -1 : 1))));
  made.nlink = 1; // whatever is in it (fs/proc/proc_sysctl.c)
  return made;
}

export function sysctl(fs: FileSystem, kernel: Kernel): Inode {
  const fixed = (value: string | number) =>
    new ProcText(
      fs,
      () => `${value}\n`,
      0o644,
      () => -Errno.EPERM,
    );
  const uts = () => (kernel.current ?? kernel).namespaces.uts;
  const named = (key: "hostname" | "domainname") =>
    new ProcText(
      fs,
      () => `${uts()[key]}\n`,
      0o644,
      (given) => {
        if (kernel.current?.process.cred.euid !== 0) return -Errno.EPERM;
        uts()[key] = given.replace(/\n$/, "").slice(0, 64);
        return 0;
      },
    );
  const uuids = kernel.random.stream("uuid");
  const uuid = () => {
    const bytes = new Uint8Array(16);
    uuids.fill(bytes);
    bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
    bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
    const hex = Buffer.from(bytes).toString("hex");
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}\n`;
  };
  const bootId = uuid();
  const tree: Tree = {
    kernel: {
      cap_last_cap: fixed(40),
      core_pattern: fixed("core"),
      domainname: named("domainname"),
      hostname: named("hostname"),
      ngroups_max: fixed(65_536),
      osrelease: fixed(KERNEL_RELEASE),
      ostype: fixed("Linux"),
      overflowgid: fixed(65_534),
      overflowuid: fixed(65_534),
      printk: fixed("4\t4\t1\t7"),
      pty: { nr: new ProcText(fs, () => `${kernel.vfs.ptyCount}\n`) },
      random: {
        boot_id: new ProcText(fs, () => bootId),
        entropy_avail: fixed(256),
        poolsize: fixed(256),
        uuid: new ProcText(fs, uuid),
      },
      sem: fixed("32000\t1024000000\t500\t32000"),
      shmall: fixed("18446744073692774399"),
      shmmax: fixed("18446744073692774399"),
      version: fixed(KERNEL_VERSION),
    },
    vm: {},
    fs: {
      "aio-nr": new ProcText(fs, () => `${kernel.aioTotal.requests}\n`),
      "file-nr": new ProcText(fs, () => `${kernel.vfs.host.openFiles}\t0\t${kernel.settings.get("fs.file-max")}\n`),
      overflowgid: fixed(65_534),
      overflowuid: fixed(65_534),
      inotify: {},
      mqueue: {},
    },
    net: {
      core: {},
      ipv4: {
        ip_local_port_range: fixed("32768\t60999"),
        ping_group_range: fixed("1\t0"),
        tcp_rmem: fixed("4096\t131072\t6291456"),
        tcp_wmem: fixed("4096\t16384\t4194304"),
      },
    },
  };
  for (const name of settingNames()) place(tree, name.split("."), settable(fs, kernel, name));
  return directory(fs, tree);
}

function place(tree: Tree, names: readonly string[], file: Inode): void {
  const [name = "", ...rest] = names;
  const below = tree[name];
  if (rest.length === 0) tree[name] = file;
  else if (below !== undefined && isTree(below)) place(below, rest, file);
}

/** A number that root may set (proc_dointvec_minmax). */
function settable(fs: FileSystem, kernel: Kernel, name: SettingName): Inode {
  const { settings } = kernel;
  return new ProcText(
    fs,
    () => `${settings.get(name)}\n`,
    0o644,
    (given) => {
      if (kernel.current?.process.cred.euid !== 0) return -Errno.EPERM;
      const text = given.trim();
      const valid = /^-?([0-9]+|0x[0-9a-f]+)$/i.test(text) && settings.set(name, Number(text));
      return valid ? 0 : -Errno.EINVAL;
    },
  );
}
