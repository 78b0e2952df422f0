import { loadNative, type NativeAddon } from "./native.ts";

/** POLLIN of poll(2). */
const POLLIN = 1;

/** Looks at descriptors of the host without waiting. */
export class HostPoll {
  readonly #addon: NativeAddon;
  readonly #events = Int32Array.of(POLLIN);
  readonly #fds = new Int32Array(1);

  constructor(addon: NativeAddon = loadNative()) {
    this.#addon = addon;
  }

  /** True when a read of `fd` would not block: there are bytes, or an end, or an error. False too when a run is to end. */
  readable(fd: number): boolean {
    this.#fds[0] = fd;
    const ready = this.#addon.poll(this.#fds, this.#events, 0);
    return ready !== null && ready[0] !== 0;
  }
}
