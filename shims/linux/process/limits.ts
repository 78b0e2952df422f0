/** Resource limits (getrlimit(2)) of a process, soft and hard, as numbers; Infinity is RLIM_INFINITY. */

/** RLIMIT_* by number, x86. */
export const Resource = {
  RLIMIT_CPU: 0,
  RLIMIT_FSIZE: 1,
  RLIMIT_DATA: 2,
  RLIMIT_STACK: 3,
  RLIMIT_CORE: 4,
  RLIMIT_RSS: 5,
  RLIMIT_NPROC: 6,
  RLIMIT_NOFILE: 7,
  RLIMIT_MEMLOCK: 8,
  RLIMIT_AS: 9,
  RLIMIT_LOCKS: 10,
  RLIMIT_SIGPENDING: 11,
  RLIMIT_MSGQUEUE: 12,
  RLIMIT_NICE: 13,
  RLIMIT_RTPRIO: 14,
  RLIMIT_RTTIME: 15,
} as const;

export interface Limit {
  soft: number;
  hard: number;
}

const ANY = Number.POSITIVE_INFINITY;
const MIB = 2 ** 20;

export class Limits {
  readonly #limits: Limit[];

  private constructor(limits: Limit[]) {
    this.#limits = limits;
  }

  /** What a process of a freshly booted Linux has (include/asm-generic/resource.h, with systemd's NOFILE). */
  static initial(maxMemory: number = ANY): Limits {
    const any = (): Limit => ({ soft: ANY, hard: ANY });
    const both = (value: number): Limit => ({ soft: value, hard: value });
    const limits = Array.from({ length: 16 }, any);
    limits[Resource.RLIMIT_STACK] = { soft: 8 * MIB, hard: ANY };
    limits[Resource.RLIMIT_CORE] = { soft: 0, hard: ANY };
    limits[Resource.RLIMIT_NPROC] = both(31_000);
    limits[Resource.RLIMIT_NOFILE] = { soft: 1024, hard: 1_048_576 };
    limits[Resource.RLIMIT_MEMLOCK] = both(8 * MIB);
    limits[Resource.RLIMIT_AS] = both(maxMemory);
    limits[Resource.RLIMIT_SIGPENDING] = both(31_000);
    limits[Resource.RLIMIT_MSGQUEUE] = both(819_200);
    limits[Resource.RLIMIT_NICE] = both(0);
    limits[Resource.RLIMIT_RTPRIO] = both(0);
    return new Limits(limits);
  }

  /** Undefined when there is no such resource. */
  get(resource: number): Limit | undefined {
    return this.#limits[resource];
  }

  soft(resource: number): number {
    return this.#limits[resource]?.soft ?? ANY;
  }

  clone(): Limits {
    return new Limits(this.#limits.map((limit) => ({ ...limit })));
  }
}
