/** How steps and events read: LiteBox' output lines as text, and one JSON object per line. */

import type { LedgerRecord } from "../../../providers/ledger.ts";
import { formatRecord, recordToJson } from "../../../providers/ledger-format.ts";
import type { TaOutput } from "../client.ts";
import type { CallEvent, TeeEvent } from "../events.ts";
import { formatPanic } from "../panic.ts";
import { originName, resultName } from "../results.ts";
import type { Step } from "./run.ts";

type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

/** What the TEE does, and the tokens it takes for that. */
export type ShownEvent = TeeEvent | { readonly kind: "token"; readonly record: LedgerRecord };

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;
/** LiteBox shows that many bytes of a buffer. */
const SHOWN = 16;

function outputText(output: TaOutput, index: number): string | undefined {
  if (output === undefined) return undefined;
  if (output.kind === "value") return `output (index: ${index}): ${hex(output.a)} ${hex(output.b)}`;
  const { data } = output;
  // Up to twice as many, whole.
  const some = data.length > 2 * SHOWN;
  const shown = Buffer.from(some ? data.subarray(0, SHOWN) : data).toString("hex") + (some ? "…" : "");
  return `output (index: ${index}): ${shown} (${output.size} bytes)`;
}

/** One step as text, without its newline; the panic's lines come by themselves, as an event. */
export function formatStep(step: Step): string {
  const { answer, func, session, command, path, failures } = step;
  const name = session === "default" ? "" : ` "${session}"`;
  const lines = [`${func}${name}${command === undefined ? "" : ` ${command}`}`];
  if (answer !== undefined) {
    const from = answer.result === 0 ? "" : ` from ${originName(answer.origin)}`;
    const why = answer.reason === undefined || answer.result === 0 ? "" : ` (${answer.reason})`;
    lines[0] += `: ${resultName(answer.result)}${from}${why}`;
    answer.outputs.forEach((output, index) => {
      const text = outputText(output, index);
      if (text !== undefined) lines.push(`  ${text}`);
    });
  }
  for (const failure of failures) lines.push(`  not as expected at ${path}: ${failure}`);
  return lines.join("\n");
}

/** One step as an object for JSON: 64-bit values as "0x…", bytes in hex. */
export function stepToJson(step: Step): Json {
  const { answer, path, func, session, command, failures } = step;
  return {
    event: "step",
    path,
    func,
    session,
    ...(command === undefined ? {} : { command }),
    ...(answer === undefined
      ? {}
      : {
          result: resultName(answer.result),
          origin: originName(answer.origin),
          ...(answer.reason === undefined ? {} : { reason: answer.reason }),
          outputs: answer.outputs.map(outputJson),
        }),
    ok: failures.length === 0,
    failures: [...failures],
  };
}

function outputJson(output: TaOutput): Json {
  if (output === undefined) return null;
  if (output.kind === "value") return { a: hex(output.a), b: hex(output.b) };
  return { size: output.size, data: Buffer.from(output.data).toString("hex") };
}

/** A call as strace writes one: `utee_cipher_init(state=1, …) = TEE_SUCCESS`. */
function formatCall(event: CallEvent): string {
  const args = event.args.map(({ name, text }) => `${name}=${text}`).join(", ");
  const result = event.result === undefined ? "?" : resultName(event.result);
  const reason = event.reason === undefined ? "" : ` (${event.reason})`;
  return `[${event.instance}] ${event.table}_${event.name}(${args}) = ${result}${reason}`;
}

/** An event as text, without its newline. `instruction` is what stands where a TA died, where somebody decoded it. */
export function formatEvent(event: ShownEvent, instruction?: string): string {
  switch (event.kind) {
    case "token":
      return `    ${formatRecord(event.record)}`;
    case "call":
      return formatCall(event);
    case "log":
      return event.text.replace(/\n$/, "");
    case "enter":
      return `[${event.instance}] ${event.entry}(session=${event.session}${event.entry === "invoke_command" ? `, command=${event.command}` : ""}) {`;
    case "leave":
      return `[${event.instance}] } = ${resultName(Number(BigInt.asUintN(32, event.result)))}`;
    case "panic":
      return formatPanic(event.report, instruction);
  }
}

/** An event as an object for JSON. */
export function eventToJson(event: ShownEvent, instruction?: string): Json {
  if (event.kind === "token") return { event: "token", record: recordToJson(event.record) };
  const who = { event: event.kind, instance: event.instance, uuid: event.uuid };
  switch (event.kind) {
    case "call":
      return {
        ...who,
        table: event.table,
        number: event.number,
        name: event.name,
        args: Object.fromEntries(event.args.map(({ name, text }) => [name, text])),
        result: event.result === undefined ? null : resultName(event.result),
        ...(event.reason === undefined ? {} : { reason: event.reason }),
      };
    case "log":
      return { ...who, text: event.text };
    case "enter":
      return { ...who, entry: event.entry, session: event.session, command: event.command };
    case "leave":
      return {
        ...who,
        entry: event.entry,
        session: event.session,
        result: resultName(Number(BigInt.asUintN(32, event.result))),
      };
    case "panic": {
      const { report } = event;
      return {
        ...who,
        reason: report.reason,
        code: report.code === undefined ? null : hex(report.code),
        pc: hex(report.pc),
        offset: report.offset === undefined ? null : hex(report.offset),
        symbol: report.symbol ?? null,
        instruction: instruction ?? null,
        bytes: Buffer.from(report.bytes).toString("hex"),
        fs_base: report.fsBase === undefined ? null : hex(report.fsBase),
        fs_expected: hex(report.fsExpected),
        fs_set_by: report.fsSetBy,
      };
    }
  }
}
