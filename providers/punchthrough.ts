import type { Lifecycle } from "./lifecycle.ts";
import type { PlatformCpu } from "./platform.ts";
import type { Asker, Request, Result, Side } from "./requests.ts";

/** Permission to run one request once. Only the gate executes tokens; it also keeps their life cycle. */
export interface PunchthroughToken {
  /** The provider that gave it, for the ledger. */
  readonly provider: string;
  execute(): Result;
}

/** A platform: gives tokens for the requests it serves. */
export interface PunchthroughProvider {
  readonly name: string;
  /** A token, or undefined when the provider gives none for this request. Must not change CPU state. */
  getPunchthroughTokenFor(request: Request, asker: Asker): PunchthroughToken | undefined;
  /** Word sizes of the programs it serves; both where this is missing. */
  readonly abis?: readonly ("x86_64" | "i386")[] | undefined;
  /** What the platform does when guest threads come and go; undefined where it does nothing. */
  readonly lifecycle?: Lifecycle | undefined;
  /** Answers as LiteBox does where that differs from Linux; what LiteBox' shim does not expect is a `HostPanic`. */
  readonly asLitebox?: boolean;
  /** Grants everything and carries it out on the CPU itself as Linux does, so that the gate may do that in place. */
  readonly bareLinux?: boolean;
  /** Base 0 in the CPU is no loss: the first access through it faults, and the platform writes the stored base again. */
  readonly repairsZeroBase?: boolean;
  /** The CPU of a guest thread as a shim is to see it; the real one where this is missing. */
  guestCpu?(thread: number): PlatformCpu | undefined;
  /** The copy of the FS base that the platform keeps outside the CPU, where it keeps one. */
  storedBase?(thread: number): bigint | undefined;
}

/**
 * Two providers as one: the left one is asked first, the right one when the left gives no token. A failure comes out
 * tagged with its side; `unsupported` and `unimplemented` pass unchanged, as LiteBox' `Either` does it.
 * The left one is the platform whose life cycle the guest threads have.
 */
export class EitherProvider implements PunchthroughProvider {
  readonly name: string;
  readonly #left: PunchthroughProvider;
  readonly #right: PunchthroughProvider;

  constructor(left: PunchthroughProvider, right: PunchthroughProvider) {
    this.name = `either(${left.name}, ${right.name})`;
    this.#left = left;
    this.#right = right;
  }

  get lifecycle(): Lifecycle | undefined {
    return this.#left.lifecycle;
  }

  get asLitebox(): boolean {
    return this.#left.asLitebox === true;
  }

  get abis(): readonly ("x86_64" | "i386")[] | undefined {
    return this.#left.abis;
  }

  guestCpu(thread: number): PlatformCpu | undefined {
    return this.#left.guestCpu?.(thread);
  }

  storedBase(thread: number): bigint | undefined {
    return this.#left.storedBase?.(thread);
  }

  getPunchthroughTokenFor(request: Request, asker: Asker): PunchthroughToken | undefined {
    const left = this.#left.getPunchthroughTokenFor(request, asker);
    if (left !== undefined) return new EitherToken("Left", left);
    const right = this.#right.getPunchthroughTokenFor(request, asker);
    return right === undefined ? undefined : new EitherToken("Right", right);
  }
}

class EitherToken implements PunchthroughToken {
  readonly #side: Side;
  readonly #inner: PunchthroughToken;

  constructor(side: Side, inner: PunchthroughToken) {
    this.#side = side;
    this.#inner = inner;
  }

  get provider(): string {
    return this.#inner.provider;
  }

  execute(): Result {
    const result = this.#inner.execute();
    return result.kind === "failure" ? { ...result, sides: [this.#side, ...(result.sides ?? [])] } : result;
  }
}
