/** What the kernel counts in /proc for tools that measure: memory in use, pages, disks, interrupts (proc_meminfo(5) and the like). */
import type { Kernel } from "../../task.ts";

const total = (kernel: Kernel): number => Math.floor(kernel.memoryBytes / 1024);
const free = (kernel: Kernel): number => Math.floor((total(kernel) * 7) / 8);

/** In the kernel's order (fs/proc/meminfo.c), in KiB; a guest's own use is told of no further than that something is used. */
export function memInfo(kernel: Kernel): string {
  const all = total(kernel);
  const left = free(kernel);
  const used = all - left;
  const lines: readonly (readonly [string, number])[] = [
    ["MemTotal", all],
    ["MemFree", left],
    ["MemAvailable", left],
    ["Buffers", 0],
    ["Cached", 0],
    ["SwapCached", 0],
    ["Active", used],
    ["Inactive", 0],
    ["Active(anon)", used],
    ["Inactive(anon)", 0],
    ["Active(file)", 0],
    ["Inactive(file)", 0],
    ["Unevictable", 0],
    ["Mlocked", 0],
    ["SwapTotal", 0],
    ["SwapFree", 0],
    ["Dirty", 0],
    ["Writeback", 0],
    ["AnonPages", used],
    ["Mapped", 0],
    ["Shmem", 0],
    ["KReclaimable", 0],
    ["Slab", 0],
    ["SReclaimable", 0],
    ["SUnreclaim", 0],
    ["KernelStack", 0],
    ["PageTables", 0],
    ["SecPageTables", 0],
    ["NFS_Unstable", 0],
    ["Bounce", 0],
    ["WritebackTmp", 0],
    ["CommitLimit", Math.floor(all / 2)],
    ["Committed_AS", 0],
    ["VmallocTotal", 34_359_738_367],
    ["VmallocUsed", 0],
    ["VmallocChunk", 0],
    ["Percpu", 0],
    ["AnonHugePages", 0],
    ["ShmemHugePages", 0],
    ["ShmemPmdMapped", 0],
  ];
  const count = (name: string) => `${`${name}:`.padEnd(16)}${"0".padStart(8)}\n`;
  return (
    lines.map(([name, kib]) => memoryLine(name, kib)).join("") +
    ["HugePages_Total", "HugePages_Free", "HugePages_Rsvd", "HugePages_Surp"].map(count).join("") +
    memoryLine("Hugepagesize", 2048) +
    memoryLine("Hugetlb", 0)
  );
}

function memoryLine(name: string, kib: number): string {
  return `${`${name}:`.padEnd(16)}${String(kib).padStart(8)} kB\n`;
}

/** /sys/devices/system/node/node0/meminfo: of the only node. */
export function nodeMemInfo(kernel: Kernel): string {
  const all = total(kernel);
  const left = free(kernel);
  const line = (name: string, kib: number) => `Node 0 ${`${name}:`.padEnd(16)}${String(kib).padStart(8)} kB\n`;
  return line("MemTotal", all) + line("MemFree", left) + line("MemUsed", all - left);
}

const PAGE_KIB = 4;

/** /proc/vmstat: what vmstat(8), sar(1) and their like look for (mm/vmstat.c). */
export function vmStat(kernel: Kernel): string {
  const left = free(kernel) / PAGE_KIB;
  const used = (total(kernel) - free(kernel)) / PAGE_KIB;
  const zeros = (...names: string[]) => names.map((name) => `${name} 0\n`).join("");
  return (
    `nr_free_pages ${left}\nnr_inactive_anon 0\nnr_active_anon ${used}\n` +
    zeros("nr_inactive_file", "nr_active_file", "nr_unevictable", "nr_slab_reclaimable", "nr_slab_unreclaimable") +
    `nr_anon_pages ${used}\n` +
    zeros("nr_mapped", "nr_file_pages", "nr_dirty", "nr_writeback", "nr_shmem", "nr_page_table_pages") +
    zeros("pgpgin", "pgpgout", "pswpin", "pswpout", "pgalloc_dma32", "pgalloc_normal", "pgfree", "pgactivate") +
    zeros("pgdeactivate", "pgfault", "pgmajfault", "pgrefill", "pgsteal_kswapd", "pgsteal_direct", "pgscan_kswapd") +
    zeros("pgscan_direct", "slabs_scanned", "pageoutrun", "allocstall_normal", "pgrotated", "oom_kill")
  );
}

/** /proc/partitions of a machine that has no disk. */
export const PARTITIONS = "major minor  #blocks  name\n\n";

/** /proc/softirqs: none has been on the one processor. */
export const SOFTIRQS = `${" ".repeat(20)}CPU0       \n${[
  "HI",
  "TIMER",
  "NET_TX",
  "NET_RX",
  "BLOCK",
  "IRQ_POLL",
  "TASKLET",
  "SCHED",
  "HRTIMER",
  "RCU",
]
  .map((name) => `${`${name}:`.padStart(13)} ${"0".padStart(10)}\n`)
  .join("")}`;

/** /proc/interrupts: that of the timer. */
export const INTERRUPTS = `           CPU0       \nLOC:${"0".padStart(11)}   Local timer interrupts\nERR:${"0".padStart(11)}\n`;
