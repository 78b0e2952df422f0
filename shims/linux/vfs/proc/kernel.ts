import { cpuInfo } from "../../processor.ts";
import type { Kernel } from "../../task.ts";
import type { FileSystem, Inode } from "../inode.ts";
import type { Vfs } from "../vfs.ts";
import { INTERRUPTS, memInfo, PARTITIONS, SOFTIRQS, vmStat } from "./counters.ts";
import { fixedDirectory, PROC_SUPER_MAGIC, ProcDirectory, ProcText, TextLinkOf } from "./proc.ts";
import { decimal, ProcessDirectories } from "./process.ts";
import { KERNEL_RELEASE, KERNEL_VERSION, sysctl } from "./sysctl.ts";
import { sysvipc } from "./sysvipc-text.ts";
import { mountsText } from "./text.ts";

/** The root directory of /proc for one run. */
export function procRoot(vfs: Vfs, kernel: Kernel): ProcDirectory {
  const fs = vfs.newFileSystem("proc", PROC_SUPER_MAGIC);
  fs.blockSize = 1024;
  const directories = new ProcessDirectories(fs, kernel);
  const files = kernelFiles(fs, vfs, kernel);
  const own = [...files.values()].filter((inode) => inode.isDirectory).length;
  return new ProcDirectory(fs, {
    lookup: (name) => {
      const pid = decimal(name);
      if (pid === undefined) return files.get(name);
      const process = kernel.processes.get(pid);
      if (process) return directories.ofProcess(process);
      // A thread's id works too, though it is not listed.
      const task = kernel.tasks.get(pid);
      return task && directories.ofProcess(task.process);
    },
    names: () => [...[...kernel.processes.keys()].map(String), ...files.keys()],
    directories: () => kernel.processes.size + own,
  });
}

function kernelFiles(fs: FileSystem, vfs: Vfs, kernel: Kernel): Map<string, Inode> {
  const text = (content: () => string | Uint8Array, mode?: number, store?: (given: string) => number) =>
    new ProcText(fs, content, mode, store);
  const current = () => kernel.current;
  return new Map<string, Inode>([
    ["self", new TextLinkOf(fs, () => String(current()?.process.pid ?? ""))],
    ["thread-self", new TextLinkOf(fs, () => `${current()?.process.pid ?? ""}/task/${current()?.tid ?? ""}`)],
    ["cmdline", text(() => "quiet\n")],
    ["cpuinfo", text(() => cpuInfo(kernel.machine))],
    ["devices", text(() => "Character devices:\n  1 mem\n  5 /dev/tty\n136 pts\n\nBlock devices:\n")],
    ["diskstats", text(() => "")],
    ["filesystems", text(() => "nodev\ttmpfs\nnodev\tproc\nnodev\tpipefs\nnodev\tdevpts\n\text4\n")],
    ["interrupts", text(() => INTERRUPTS)],
    ["loadavg", text(() => `0.00 0.00 0.00 1/${kernel.tasks.size} ${Math.max(0, ...kernel.tasks.keys())}\n`)],
    ["meminfo", text(() => memInfo(kernel))],
    ["net", new TextLinkOf(fs, () => "self/net")],
    ["sysvipc", fixedDirectory(fs, sysvipc(kernel, text))],
    ["mounts", text(() => mountsText(vfs, current()?.process.fs.root ?? vfs.root))],
    ["partitions", text(() => PARTITIONS)],
    ["softirqs", text(() => SOFTIRQS)],
    ["stat", text(() => statText(kernel))],
    ["swaps", text(() => "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")],
    ["sys", sysctl(fs, kernel)],
    ["uptime", text(() => uptime(kernel))],
    ["version", text(() => `Linux version ${KERNEL_RELEASE} ${KERNEL_VERSION}\n`)],
    ["vmstat", text(() => vmStat(kernel))],
  ]);
}

function statText(kernel: Kernel): string {
  const { clock } = kernel;
  const idle = Math.floor(clock.now() / 1e7);
  const cpu = `0 0 0 ${idle} 0 0 0 0 0 0`;
  return (
    `cpu  ${cpu}\ncpu0 ${cpu}\nintr 0\nctxt 0\nbtime ${clock.bootSec}\nprocesses ${kernel.processes.size}\n` +
    `procs_running 1\nprocs_blocked 0\nsoftirq 0\n`
  );
}

function uptime(kernel: Kernel): string {
  const seconds = (kernel.clock.now() / 1e9).toFixed(2);
  return `${seconds} ${seconds}\n`;
}
