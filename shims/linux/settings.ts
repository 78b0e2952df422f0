/** What root may set below /proc/sys (Documentation/admin-guide/sysctl). */

interface Setting {
  readonly initial: number;
  readonly min: number;
  readonly max: number;
}

const INT_MAX = 2 ** 31 - 1;
const number = (initial: number, min = 0, max = INT_MAX): Setting => ({ initial, min, max });

const KNOWN = {
  "fs.aio-max-nr": number(65_536),
  "fs.dir-notify-enable": number(1),
  "fs.file-max": number(838_860),
  "fs.inotify.max_queued_events": number(16_384),
  "fs.inotify.max_user_instances": number(128),
  "fs.inotify.max_user_watches": number(65_536),
  "fs.lease-break-time": number(45),
  "fs.leases-enable": number(1),
  "fs.mqueue.msg_default": number(10, 1, 65_536),
  "fs.mqueue.msg_max": number(10, 1, 65_536),
  "fs.mqueue.msgsize_default": number(8192, 128, 16_777_216),
  "fs.mqueue.msgsize_max": number(8192, 128, 16_777_216),
  "fs.mqueue.queues_max": number(256),
  "fs.nr_open": number(1_048_576, 32, 2_147_483_584),
  "fs.pipe-max-size": number(1_048_576, 4096),
  "fs.pipe-user-pages-hard": number(0),
  "fs.pipe-user-pages-soft": number(16_384),
  "fs.protected_fifos": number(0, 0, 2),
  "fs.protected_hardlinks": number(0, 0, 1),
  "fs.protected_regular": number(0, 0, 2),
  "fs.protected_symlinks": number(0, 0, 1),
  "fs.suid_dumpable": number(0, 0, 2),
  "kernel.auto_msgmni": number(0, 0, 0),
  "kernel.core_uses_pid": number(0, 0, 1),
  "kernel.dmesg_restrict": number(1, 0, 1),
  "kernel.kptr_restrict": number(0, 0, 2),
  "kernel.msg_next_id": number(-1, -1),
  "kernel.msgmax": number(8192),
  "kernel.msgmnb": number(16_384),
  "kernel.msgmni": number(32_000, 0, 32_768),
  "kernel.panic": number(0, -1),
  "kernel.perf_event_paranoid": number(2, -1),
  "kernel.pid_max": number(32_768, 301, 4_194_304),
  "kernel.pty.max": number(4096),
  "kernel.pty.reserve": number(1024),
  "kernel.randomize_va_space": number(2, 0, 2),
  "kernel.sched_rr_timeslice_ms": number(100, -1),
  "kernel.sched_rt_period_us": number(1_000_000, 1),
  "kernel.sched_rt_runtime_us": number(950_000, -1),
  "kernel.sem_next_id": number(-1, -1),
  "kernel.shm_next_id": number(-1, -1),
  "kernel.shm_rmid_forced": number(0, 0, 1),
  "kernel.shmmni": number(4096, 0, 32_768),
  "kernel.tainted": number(0),
  "kernel.threads-max": number(62_000, 1),
  "kernel.unprivileged_bpf_disabled": number(2, 0, 2),
  "net.core.rmem_default": number(212_992),
  "net.core.rmem_max": number(212_992),
  "net.core.somaxconn": number(4096),
  "net.core.wmem_default": number(212_992),
  "net.core.wmem_max": number(212_992),
  "net.ipv4.ip_forward": number(0, 0, 1),
  "net.ipv4.tcp_syncookies": number(1, 0, 2),
  "net.ipv4.tcp_timestamps": number(1, 0, 2),
  "vm.max_map_count": number(65_530),
  "vm.mmap_min_addr": number(65_536),
  "vm.overcommit_memory": number(0, 0, 2),
  "vm.overcommit_ratio": number(50),
  "vm.swappiness": number(60, 0, 200),
} as const satisfies Readonly<Record<string, Setting>>;

export type SettingName = keyof typeof KNOWN;

/** All names, with dots as sysctl(8) writes them. */
export function settingNames(): SettingName[] {
  return Object.keys(KNOWN).filter((name): name is SettingName => name in KNOWN);
}

/** The values of one run. */
export class Settings {
  readonly #values = new Map<SettingName, number>();

  get(name: SettingName): number {
    return this.#values.get(name) ?? KNOWN[name].initial;
  }

  /** False for a value that is out of range (EINVAL). */
  set(name: SettingName, value: number): boolean {
    const { min, max } = KNOWN[name];
    if (!(value >= min && value <= max)) return false;
    this.#values.set(name, value);
    return true;
  }
}
