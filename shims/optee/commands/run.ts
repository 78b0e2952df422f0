/** Runs the commands of a file and compares what comes back with what is expected. */
import { UserError } from "../../../emulator/errors.ts";
import { invokeCommand, openSession, type TaAnswer, type TaOutput } from "../client.ts";
import { originName, resultName, Tee as TeeResult } from "../results.ts";
import type { Session } from "../session.ts";
import type { Tee } from "../tee.ts";
import { normalizeUuid } from "../uuid.ts";
import type { Command, CommandFile, Expectation } from "./parse.ts";

/** What became of one command. */
export interface Step {
  /** Where it stands in the file: `/commands/3`. */
  readonly path: string;
  readonly func: Command["kind"];
  readonly session: string;
  /** Of `invoke_command`. */
  readonly command: number | undefined;
  /** Undefined for what has no result: closing, asking for cancellation. */
  readonly answer: TaAnswer | undefined;
  /** A sentence for each expectation that was not met. */
  readonly failures: readonly string[];
}

/** Runs all commands in order; each is handed out as soon as it is done. The first that fails does not end the run. */
export function* runSteps(tee: Tee, file: CommandFile, mainUuid: string): Generator<Step> {
  const runner = new StepRunner(tee, mainUuid);
  try {
    yield* runner.run(file.commands);
  } finally {
    runner.closeAll();
  }
}

class StepRunner {
  readonly #tee: Tee;
  readonly #mainUuid: string;
  readonly #sessions = new Map<string, Session>();
  /** Names of sessions that were not let in. */
  readonly #refused = new Set<string>();

  constructor(tee: Tee, mainUuid: string) {
    this.#tee = tee;
    this.#mainUuid = mainUuid;
  }

  *run(commands: readonly Command[]): Generator<Step> {
    for (const command of commands) {
      if (command.kind === "repeat") for (let n = 0; n < command.count; n++) yield* this.run(command.commands);
      else yield this.#step(command);
    }
  }

  closeAll(): void {
    for (const session of this.#sessions.values()) this.#tee.sessions.close(session);
    this.#sessions.clear();
  }

  #step(command: Exclude<Command, { kind: "repeat" }>): Step {
    const { path, session: name, kind } = command;
    const number = command.kind === "invoke_command" ? command.command : undefined;
    const step = { path, func: kind, session: name, command: number };
    if (kind !== "open_session" && this.#refused.has(name)) {
      // Closing what is not open is what a client does that closes whatever happened.
      const failures = kind === "close_session" ? [] : ["it was not tried, as the session did not open"];
      return { ...step, answer: undefined, failures };
    }
    let answer: TaAnswer | undefined;
    switch (command.kind) {
      case "open_session": {
        // LiteBox leaves sessions open where its files close and open them again.
        if (this.#sessions.has(name))
          throw new UserError(`at ${path}: session "${name}" is open already; close it or give another name`, 125);
        const { params, client, timeout } = command;
        const opened = openSession(this.#tee, this.#uuidOf(command.ta, path), params, { client, timeout });
        this.#refused.delete(name);
        if (opened.session === undefined) this.#refused.add(name);
        else this.#sessions.set(name, opened.session);
        answer = opened.answer;
        break;
      }
      case "invoke_command": {
        const { params, timeout } = command;
        answer = invokeCommand(this.#tee, this.#session(command), command.command, params, { timeout });
        break;
      }
      case "close_session":
        this.#tee.sessions.close(this.#session(command));
        this.#sessions.delete(name);
        break;
      case "request_cancellation":
        this.#session(command).cancelled = true;
        break;
    }
    const failures = answer === undefined ? [] : compare(answer, command.expect);
    return { ...step, answer, failures };
  }

  #session({ session, path }: { readonly session: string; readonly path: string }): Session {
    const found = this.#sessions.get(session);
    if (found === undefined) throw new UserError(`at ${path}: session "${session}" is not open`, 125);
    return found;
  }

  #uuidOf(ta: string | undefined, path: string): string {
    if (ta === undefined) return this.#mainUuid;
    const uuid = normalizeUuid(ta);
    if (uuid !== undefined) return uuid;
    const found = this.#tee.binaries.filter(({ name }) => name === ta || name.endsWith(`/${ta}`));
    const [binary] = found;
    if (binary === undefined || found.length > 1)
      throw new UserError(
        `at ${path}/ta: ${ta} is ${found.length > 1 ? "several files" : "neither a UUID nor a TA given"}`,
        125,
      );
    return binary.uuid;
  }
}

function compare(answer: TaAnswer, expect: Expectation | undefined): string[] {
  const failures: string[] = [];
  const differ = (what: string, found: string, wanted: string): void => {
    failures.push(`${what} is ${found}, and ${wanted} was expected`);
  };
  const wanted = expect?.result ?? (expect?.panic === undefined ? TeeResult.SUCCESS : TeeResult.ERROR_TARGET_DEAD);
  if (answer.result !== wanted) differ("the result", resultName(answer.result), resultName(wanted));
  if (expect?.origin !== undefined && answer.origin !== expect.origin)
    differ("the origin", originName(answer.origin), originName(expect.origin));
  if (expect?.panic !== undefined && !answer.panic?.reason.includes(expect.panic))
    differ("the panic", answer.panic === undefined ? "none" : `"${answer.panic.reason}"`, `"${expect.panic}"`);
  expect?.args.forEach((wantedOutput, index) => {
    if (wantedOutput === undefined) return;
    const output: TaOutput = answer.outputs[index];
    const name = `parameter ${index}`;
    if (output === undefined) differ(name, "no output", "one");
    else if (output.kind === "value") {
      for (const half of ["a", "b"] as const) {
        const value = wantedOutput[half];
        if (value !== undefined && output[half] !== value) differ(`${name} ${half}`, hex(output[half]), hex(value));
      }
    } else {
      const { data, size } = wantedOutput;
      if (size !== undefined && output.size !== size) differ(`the size of ${name}`, `${output.size}`, `${size}`);
      if (data !== undefined && Buffer.compare(data, output.data) !== 0)
        differ(name, Buffer.from(output.data).toString("hex"), Buffer.from(data).toString("hex"));
    }
  });
  return failures;
}

const hex = (value: bigint): string => `0x${value.toString(16)}`;
