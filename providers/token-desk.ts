import { TestbedError } from "../emulator/errors.ts";
import type { PunchthroughToken } from "./punchthrough.ts";
import type { Asker, Request, Result } from "./requests.ts";

/**
 * How a token can be misused. Rust forbids `reused` by moving the value; the others it leaves to the reader.
 * - `reused`: executed a second time
 * - `stale`: executed after its thread went on
 * - `wrong-thread`: executed by a thread it was not given to
 * - `dropped`: its thread went on, or ended, without executing it
 */
export type MisuseKind = "reused" | "stale" | "wrong-thread" | "dropped";

/** Thrown by `execute` on a misused token. The platform was not touched. */
export class TokenMisuse extends TestbedError {
  readonly misuse: MisuseKind;

  constructor(misuse: MisuseKind, message: string) {
    super(message);
    this.misuse = misuse;
  }
}

/** Told of each misuse as it is found. `by` is the thread that misused the token. */
export type MisuseListener = (misuse: MisuseKind, token: DeskToken, by: number) => void;

/** Hands out tokens and keeps their rules: one execution, by the thread it was given to, before that thread goes on. */
export class TokenDesk {
  readonly #open: DeskToken[] = [];
  readonly #onMisuse: MisuseListener;

  constructor(onMisuse: MisuseListener) {
    this.#onMisuse = onMisuse;
  }

  /** Puts a provider's token under the desk's rules, for the thread of `asker`. */
  issue(inner: PunchthroughToken, request: Request, asker: Asker): DeskToken {
    const token = new DeskToken(this, inner, request, asker);
    this.#open.push(token);
    return token;
  }

  /** A guest thread is about to run again, or has ended: the tokens it still holds are dropped. */
  goesOn(thread: number): void {
    if (this.#open.length === 0) return;
    for (const token of this.#open.filter((open) => open.asker.thread === thread)) {
      this.close(token);
      token.expire();
      this.#onMisuse("dropped", token, thread);
    }
  }

  /** Called by a token that is no longer open. */
  close(token: DeskToken): void {
    // In the one ordinary case the token given last is the one that ends.
    if (this.#open.at(-1) === token) this.#open.pop();
    else this.#open.splice(this.#open.indexOf(token), 1);
  }

  /** Called by a token: reports the misuse, and throws it. */
  refuse(misuse: MisuseKind, token: DeskToken, by: number): never {
    this.#onMisuse(misuse, token, by);
    const owner = `thread ${token.asker.thread}`;
    throw new TokenMisuse(misuse, `${misuse} token: ${token.request.kind} of ${owner}, executed by thread ${by}`);
  }
}

/** A token under the rules of its desk. */
export class DeskToken {
  readonly request: Request;
  readonly asker: Asker;
  readonly provider: string;
  readonly #desk: TokenDesk;
  readonly #inner: PunchthroughToken;
  #state: "open" | "executed" | "expired" = "open";

  constructor(desk: TokenDesk, inner: PunchthroughToken, request: Request, asker: Asker) {
    this.request = request;
    this.asker = asker;
    this.provider = inner.provider;
    this.#desk = desk;
    this.#inner = inner;
  }

  /**
   * Executes the request on the platform.
   * @param by the guest thread that executes
   * @param inner what is executed in its place, by a fault injector
   * @throws TokenMisuse when a rule is broken; nothing is executed then
   */
  execute(by: number, inner: Pick<PunchthroughToken, "execute"> = this.#inner): Result {
    if (by !== this.asker.thread) return this.#desk.refuse("wrong-thread", this, by);
    if (this.#state !== "open") return this.#desk.refuse(this.#state === "executed" ? "reused" : "stale", this, by);
    this.#state = "executed";
    this.#desk.close(this);
    return inner.execute();
  }

  /** Called by the desk when the thread goes on. */
  expire(): void {
    this.#state = "expired";
  }
}
