/**
 * Trusted applications from tests and scripts:
 *
 *     await using session = await ta.open("hello-ta.elf");
 *     const answer = await session.invoke(0, [{ type: "value_inout", a: 100, b: 0 }]);
 */
import { invokeCommand, type OperationOptions, openSession, type TaAnswer, type TaParam } from "./client.ts";
import { TeeHost, type TeeHostOptions } from "./host.ts";
import { resultName } from "./results.ts";
import type { Session } from "./session.ts";

export interface OpenOptions extends OperationOptions, Omit<TeeHostOptions, "tas"> {
  /** Other TAs and libraries. */
  readonly tas?: readonly TeeHostOptions["tas"][number][] | undefined;
}

/** A session could not be opened; `answer` says why. */
export class TaOpenError extends Error {
  override readonly name = "TaOpenError";
  readonly answer: TaAnswer;

  constructor(uuid: string, answer: TaAnswer) {
    const why = answer.reason === undefined ? "" : `: ${answer.reason}`;
    super(`${uuid} could not be opened: ${resultName(answer.result)}${why}`);
    this.answer = answer;
  }
}

/** An open session. Disposing of it closes it, and the TEE that was made for it. */
export class TaSession implements AsyncDisposable {
  readonly host: TeeHost;
  readonly #session: Session;
  readonly #owns: boolean;
  #open = true;

  constructor(host: TeeHost, session: Session, owns: boolean) {
    this.host = host;
    this.#session = session;
    this.#owns = owns;
  }

  /** Runs a command. What the TA answers is a result, never an exception. */
  async invoke(command: number, params: readonly TaParam[] = [], options: OperationOptions = {}): Promise<TaAnswer> {
    return invokeCommand(this.host.tee, this.#session, command, params, options);
  }

  /** Asks for cancellation of the next command. */
  requestCancellation(): void {
    this.#session.cancelled = true;
  }

  /** A second session, of this TA or of another one the TEE knows. */
  async openAnother(
    params: readonly TaParam[] = [],
    options: OperationOptions & { readonly uuid?: string } = {},
  ): Promise<TaSession> {
    return open(this.host, options.uuid ?? this.host.main.uuid, params, options, false);
  }

  async close(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    this.host.tee.sessions.close(this.#session);
    if (this.#owns) this.host.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function open(
  host: TeeHost,
  uuid: string,
  params: readonly TaParam[],
  options: OperationOptions,
  owns: boolean,
): TaSession {
  const { answer, session } = openSession(host.tee, uuid, params, options);
  if (session !== undefined) return new TaSession(host, session, owns);
  if (owns) host.close();
  throw new TaOpenError(uuid, answer);
}

export const ta = Object.freeze({
  /**
   * Opens a session to the TA in a file.
   * @throws TaOpenError when the TA or the TEE refuses, UserError when the file is no TA
   */
  async open(file: string, params: readonly TaParam[] = [], options: OpenOptions = {}): Promise<TaSession> {
    const host = new TeeHost({ ...options, tas: [file, ...(options.tas ?? [])] });
    return open(host, host.main.uuid, params, options, true);
  },
});
