import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { TestbedError } from "./errors.ts";
import type { EngineCalls } from "./native-engine.ts";

/** The addon itself. */
export interface NativeAddon {
  /** Makes engines: see `NativeEngine`. */
  readonly engines: EngineCalls;
  /** Names of what this host lacks to show a guest x86-64-v3. */
  lacksForV3(): string[];
  /** Ends guest runs on this thread when SIGINT or SIGTERM arrives; false puts the default actions back. */
  catchSignals(on: boolean): void;
  /** The signal that ended a run since the last call, 0 for none. */
  takeSignal(): number;
  /** Ends guest runs on this thread once that many milliseconds have passed; 0 takes the alarm back. */
  alarm(milliseconds: number): void;
  /** True when the alarm has gone off. */
  alarmed(): boolean;
  /** poll(2): readiness bits of each descriptor; null when a signal or the alarm came first. */
  poll(fds: Int32Array, events: Int32Array, timeoutMilliseconds: number): Int32Array | null;
  /**
   * mkfifo(3), or mknod(2) of a socket: makes a name on the host.
   * @param path its bytes
   * @param mode S_IFIFO or S_IFSOCK and permission bits, of which the process's umask takes some
   * @throws Error whose `code` is the errno's name
   */
  makeNode(path: Buffer, mode: number): void;
  /** "2.0" and the like. */
  readonly unicornVersion: string;
  /** Bytes of a saved context. */
  readonly contextSize: number;
  /** True when libunicorn is linked in statically, false when the shared library's functions are taken over. */
  readonly staticUnicorn: boolean;
}

/** Negative answers of `translate`. */
export const Miss = { unmapped: -1, forbidden: -2, pager: -3, outOfMemory: -4 } as const;

const builtFile = "native/build/Release/shimbed_native.node";

/**
 * Loads the addon that set-up has built.
 * @throws TestbedError when it is not there or does not load.
 */
export function loadNative(): NativeAddon {
  // Sources run from emulator/, compiled code from dist/emulator/; the addon is built in one place.
  const candidates = [`./${builtFile}`, `../../emulator/${builtFile}`].map((p) =>
    fileURLToPath(new URL(p, import.meta.url)),
  );
  const file = candidates.find((path) => existsSync(path));
  if (file === undefined) {
    throw new TestbedError(
      `the native addon is not built (looked for ${candidates.join(" and ")}); run \`npm run setup\``,
    );
  }
  try {
    const addon: NativeAddon = createRequire(import.meta.url)(file);
    return addon;
  } catch (cause) {
    throw new TestbedError(`the native addon ${file} does not load; run \`npm run setup\` to build it again`, {
      cause,
    });
  }
}
