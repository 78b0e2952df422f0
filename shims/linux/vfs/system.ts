/** /sys as far as C libraries and runtimes read it: which processors and nodes there are. */
import type { Kernel } from "../task.ts";
import type { Inode } from "./inode.ts";
import { nodeMemInfo } from "./proc/counters.ts";
import { fixedDirectory, type ProcDirectory, ProcText } from "./proc/proc.ts";
import type { Vfs } from "./vfs.ts";

/** SYSFS_MAGIC (uapi/linux/magic.h). */
const SYSFS_MAGIC = 0x62656572;

/** The caches that CPUID tells of (leaf 4): kind, level, KiB and ways, with lines of 64 bytes. */
const CACHES = [
  ["Data", 1, 32, 8],
  ["Instruction", 1, 32, 8],
  ["Unified", 2, 4096, 16],
] as const;
const LINE = 64;

/** The root directory of /sys. */
export function systemRoot(vfs: Vfs, kernel: Kernel): ProcDirectory {
  const fs = vfs.newFileSystem("sysfs", SYSFS_MAGIC);
  const text = (content: string): Inode => new ProcText(fs, () => content);
  const directory = (files: Readonly<Record<string, Inode>>): ProcDirectory => fixedDirectory(fs, files);
  const caches = CACHES.map(([type, level, kib, ways], index) => {
    const facts = {
      coherency_line_size: LINE,
      id: 0,
      level,
      number_of_sets: (kib * 1024) / (LINE * ways),
      physical_line_partition: 1,
      shared_cpu_list: 0,
      shared_cpu_map: 1,
      size: `${kib}K`,
      type,
      ways_of_associativity: ways,
    };
    const files = Object.entries(facts).map(([name, value]) => [name, text(`${value}\n`)] as const);
    return [`index${index}`, directory(Object.fromEntries(files))] as const;
  });
  const mask = (name: string) => ({ [name]: text("1\n"), [`${name}_list`]: text("0\n") });
  const topology = directory({
    core_id: text("0\n"),
    die_id: text("0\n"),
    physical_package_id: text("0\n"),
    ...mask("core_cpus"),
    ...mask("core_siblings"),
    ...mask("die_cpus"),
    ...mask("package_cpus"),
    ...mask("thread_siblings"),
  });
  const cpu = directory({
    cpu0: directory({ cache: directory(Object.fromEntries(caches)), topology }),
    isolated: text("\n"),
    kernel_max: text("8191\n"),
    offline: text("\n"),
    online: text("0\n"),
    possible: text("0\n"),
    present: text("0\n"),
  });
  const node = directory({
    has_cpu: text("0\n"),
    has_memory: text("0\n"),
    has_normal_memory: text("0\n"),
    node0: directory({
      cpulist: text("0\n"),
      cpumap: text("1\n"),
      distance: text("10\n"),
      meminfo: new ProcText(fs, () => nodeMemInfo(kernel)),
    }),
    online: text("0\n"),
    possible: text("0\n"),
  });
  return directory({
    block: directory({}),
    bus: directory({}),
    class: directory({}),
    dev: directory({ block: directory({}), char: directory({}) }),
    devices: directory({ system: directory({ cpu, node }) }),
    fs: directory({ cgroup: directory({}) }),
    kernel: directory({ mm: directory({ ksm: directory({ run: text("0\n") }) }) }),
    module: directory({}),
  });
}
