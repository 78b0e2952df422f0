import v8 from "node:v8";
import vm from "node:vm";

/** Looks are this far apart when no memory is in use, and this near when none is left: in things that each may take some. */
const FARTHEST = 4096;
const NEAREST = 64;
/** What one such thing takes, rather more than less. */
const BYTES_EACH = 2 ** 16;
/** The part of V8's own limit that may be in use: beyond, collections take all the time, and at the limit the process aborts. */
const HEAP_PART = 0.7;
/** What the engine takes for itself, most of it for translated code. */
const ENGINE_BYTES = 1.5 * 2 ** 30;
/** Garbage that may lie about between two collections, as a part of the limit. */
const GARBAGE_PART = 0.25;

/**
 * Watches what this process itself takes of its host's memory, on JavaScript's heap and in buffers, for what a guest makes it keep:
 * guest memory proper is counted by the machine.
 */
export class HostMemory {
  readonly #limit: number;
  readonly #heapLimit: number;
  readonly #guest: () => number;
  #collect: (() => void) | undefined;

  /**
   * @param limit bytes in use, garbage not counted, from which on memory is short
   * @param guest bytes of guest memory that may be resident
   */
  constructor(limit: number, guest: () => number) {
    this.#heapLimit = v8.getHeapStatistics().heap_size_limit * HEAP_PART;
    this.#limit = limit;
    this.#guest = guest;
  }

  /** How many more things may be made before the next look is due; 0 when memory is short. */
  look(): number {
    const free = this.#free(1 + GARBAGE_PART);
    if (free > 0) return Math.min(FARTHEST, Math.max(NEAREST, Math.floor(free / BYTES_EACH)));
    this.#collect ??= collector();
    this.#collect();
    return this.#free(1) > 0 ? NEAREST : 0;
  }

  /** Bytes below the limits, each multiplied by `part`. */
  #free(part: number): number {
    const { heapUsed, arrayBuffers, rss } = process.memoryUsage();
    const own = Math.max(heapUsed + arrayBuffers, rss - this.#guest() - ENGINE_BYTES);
    return Math.min(this.#heapLimit * part - heapUsed, this.#limit * part - own);
  }
}

/** V8's own full collection, which is there by a flag only. */
function collector(): () => void {
  v8.setFlagsFromString("--expose-gc");
  const collect: unknown = vm.runInNewContext("gc");
  if (typeof collect !== "function") throw new TypeError("V8 has no gc()");
  // What the first finds of buffers is freed beside it, and known to be free when the second begins.
  return () => {
    collect();
    collect();
  };
}
