/** Reads command files: JSON, the schema, then what a schema cannot say. Errors name the place by its JSON path. */
import { Ajv, type ErrorObject } from "ajv";
import { UserError } from "../../../emulator/errors.ts";
import type { TaParam } from "../client.ts";
import { resultOf } from "../results.ts";
import type { Identity } from "../session.ts";
import { NIL_UUID } from "../uuid.ts";
import { commandSchema } from "./schema.ts";

/** What a parameter is expected to hold afterwards. */
interface ExpectedOutput {
  readonly a?: bigint | undefined;
  readonly b?: bigint | undefined;
  readonly data?: Uint8Array | undefined;
  readonly size?: number | undefined;
}

export interface Expectation {
  readonly result?: number | undefined;
  readonly origin?: number | undefined;
  readonly args: readonly (ExpectedOutput | undefined)[];
  /** Part of the sentence that says how the TA died. */
  readonly panic?: string | undefined;
}

interface Common {
  /** Where it stands in the file: `/commands/3`. */
  readonly path: string;
  readonly session: string;
  /** Success is expected where nothing is said. */
  readonly expect: Expectation | undefined;
}

export type Command =
  | (Common & {
      readonly kind: "open_session";
      /** A UUID, or the name of a file. */
      readonly ta: string | undefined;
      readonly client: Identity | undefined;
      readonly params: readonly TaParam[];
      readonly timeout: number | undefined;
    })
  | (Common & {
      readonly kind: "invoke_command";
      readonly command: number;
      readonly params: readonly TaParam[];
      readonly timeout: number | undefined;
    })
  | (Common & { readonly kind: "close_session" | "request_cancellation" })
  | { readonly kind: "repeat"; readonly path: string; readonly count: number; readonly commands: readonly Command[] };

export interface CommandFile {
  /** More TAs and libraries, as the file names them. */
  readonly tas: readonly string[];
  readonly commands: readonly Command[];
}

/** The shapes that the schema has checked. */
interface RawData {
  readonly data_base64?: string;
  readonly data_hex?: string;
  readonly data_text?: string;
}
type RawWord = number | string;
interface RawParam extends RawData {
  readonly param_type: TaParam["type"];
  readonly value_a?: RawWord;
  readonly value_b?: RawWord;
  readonly buffer_size?: number;
}
interface RawOutput extends RawData {
  readonly value_a?: RawWord;
  readonly value_b?: RawWord;
  readonly size?: number;
}
interface RawExpect {
  readonly result?: number | string;
  readonly origin?: keyof typeof origins;
  readonly args?: readonly (RawOutput | null)[];
  readonly panic?: string;
}
interface RawCommand {
  readonly func_id: Command["kind"];
  readonly cmd_id?: number;
  readonly args?: readonly RawParam[];
  readonly session?: string;
  readonly ta?: string;
  readonly client?: { readonly login?: number; readonly uuid?: string };
  readonly timeout_ms?: number;
  readonly expect?: RawExpect;
  readonly count?: number;
  readonly commands?: readonly RawCommand[];
}
type RawFile = readonly RawCommand[] | { readonly tas?: readonly string[]; readonly commands: readonly RawCommand[] };

const origins = { api: 1, comms: 2, tee: 3, trusted_app: 4 } as const;
/** The schema itself is tested: neither it is checked against its own, nor is code improved that runs once. */
const VALIDATION = {
  discriminator: true,
  allErrors: false,
  strict: false,
  meta: false,
  validateSchema: false,
  code: { optimize: false },
} as const;
/** TEE_LOGIN_USER, as LiteBox' client says. */
const LOGIN_USER = 1;

/**
 * @param text the file's content
 * @param name how messages call it
 * @throws UserError naming the file, the JSON path and what is wrong there
 */
export function parseCommands(text: string, name: string): CommandFile {
  let json: unknown;
  try {
    json = JSON.parse(withExactNumbers(text));
  } catch (error) {
    throw new UserError(`cannot read the commands in ${name}: ${error instanceof Error ? error.message : error}`, 125);
  }
  const validate = new Ajv(VALIDATION).compile<RawFile>(commandSchema);
  if (!validate(json)) throw new UserError(`${name}: ${describe(validate.errors ?? [])}`, 125);
  const list = "commands" in json ? json.commands : json;
  const start = "commands" in json ? "/commands" : "";
  const reader = new Reader(name);
  return { tas: "commands" in json ? (json.tas ?? []) : [], commands: reader.list(list, start) };
}

/**
 * Numbers of 16 digits and more become strings: JSON's are exact to 2^53 only, and LiteBox' values have 64 bits. Strings are matched
 * too, so that nothing within them is changed.
 */
function withExactNumbers(text: string): string {
  return text.replace(/"(?:[^"\\]|\\.)*"|[-+.\w]+/g, (token) => (/^\d{16,}$/.test(token) ? `"${token}"` : token));
}

/** Of the alternatives that did not fit, the one that came deepest is the one that was meant. */
function describe(errors: readonly ErrorObject[]): string {
  const depth = ({ instancePath }: ErrorObject): number => (instancePath === "" ? 0 : instancePath.split("/").length);
  const [best] = [...errors].sort((a, b) => depth(b) - depth(a) || rank(a) - rank(b));
  if (best === undefined || depth(best) === 0)
    return 'neither an array of commands nor an object with "commands" that is one';
  return `at ${best.instancePath}: ${message(best)}`;
}

/** That one of the data forms is missing says less than that exactly one is needed, and that less than anything else. */
function rank({ keyword, params }: ErrorObject): number {
  if (keyword === "required" && String(params.missingProperty).startsWith("data_")) return 2;
  return keyword === "oneOf" ? 1 : 0;
}

function message(error: ErrorObject): string {
  const { keyword, params } = error;
  switch (keyword) {
    case "additionalProperties":
      return `unknown property "${params.additionalProperty}"`;
    case "discriminator":
      return `"${params.tag}" is ${JSON.stringify(params.tagValue)}, which is none there is`;
    case "const":
      return `must be ${JSON.stringify(params.allowedValue)}`;
    case "enum":
      return `must be one of ${JSON.stringify(params.allowedValues)}`;
    case "oneOf":
      return "exactly one of data_base64, data_hex, data_text is to be given";
    default:
      return error.message ?? keyword;
  }
}

class Reader {
  readonly #name: string;

  constructor(name: string) {
    this.#name = name;
  }

  #wrong(path: string, why: string): never {
    throw new UserError(`${this.#name}: at ${path}: ${why}`, 125);
  }

  list(list: readonly RawCommand[], path: string): Command[] {
    return list.map((raw, index) => this.#command(raw, `${path}/${index}`));
  }

  #command(raw: RawCommand, path: string): Command {
    const params = (raw.args ?? []).map((param, index) => this.#param(param, `${path}/args/${index}`));
    const common = {
      path,
      session: raw.session ?? "default",
      expect: raw.expect === undefined ? undefined : this.#expect(raw.expect, `${path}/expect`),
    };
    const timeout = raw.timeout_ms;
    switch (raw.func_id) {
      case "open_session": {
        const client =
          raw.client === undefined
            ? undefined
            : { login: raw.client.login ?? LOGIN_USER, uuid: raw.client.uuid?.toLowerCase() ?? NIL_UUID };
        return { kind: raw.func_id, ...common, ta: raw.ta, client, params, timeout };
      }
      case "invoke_command":
        return { kind: raw.func_id, ...common, command: raw.cmd_id ?? 0, params, timeout };
      case "close_session":
      case "request_cancellation":
        return { kind: raw.func_id, ...common };
      case "repeat":
        return {
          kind: "repeat",
          path,
          count: raw.count ?? 0,
          commands: this.list(raw.commands ?? [], `${path}/commands`),
        };
    }
  }

  #param(raw: RawParam, path: string): TaParam {
    switch (raw.param_type) {
      case "none":
      case "value_output":
        return { type: raw.param_type };
      case "value_input":
      case "value_inout":
        return {
          type: raw.param_type,
          a: this.#word(raw.value_a ?? 0, `${path}/value_a`),
          b: this.#word(raw.value_b ?? 0, `${path}/value_b`),
        };
      case "memref_input":
        return { type: raw.param_type, data: this.#data(raw) ?? new Uint8Array(0) };
      case "memref_output":
        return { type: raw.param_type, size: raw.buffer_size ?? 0 };
      case "memref_inout": {
        const data = this.#data(raw) ?? new Uint8Array(0);
        const size = raw.buffer_size;
        if (size !== undefined && size < data.length)
          this.#wrong(`${path}/buffer_size`, `${size} bytes do not hold the ${data.length} bytes of data`);
        return { type: raw.param_type, data, size };
      }
    }
  }

  #word(raw: RawWord, path: string): bigint {
    if (typeof raw === "number" && !Number.isSafeInteger(raw))
      this.#wrong(path, "JSON numbers are exact up to 2^53; write a larger one as a string");
    const value = BigInt(raw);
    return value < 1n << 64n ? value : this.#wrong(path, "more than 64 bits");
  }

  #data(raw: RawData): Uint8Array | undefined {
    if (raw.data_base64 !== undefined) return Buffer.from(raw.data_base64, "base64");
    if (raw.data_hex !== undefined) return Buffer.from(raw.data_hex.replace(/[ :]/g, ""), "hex");
    return raw.data_text === undefined ? undefined : Buffer.from(raw.data_text, "utf8");
  }

  #expect(raw: RawExpect, path: string): Expectation {
    let result: number | undefined;
    if (typeof raw.result === "number") result = raw.result;
    else if (raw.result !== undefined) {
      result = resultOf(raw.result) ?? Number(raw.result);
      if (!Number.isInteger(result)) this.#wrong(`${path}/result`, `there is no result ${raw.result}`);
    }
    return {
      result,
      origin: raw.origin === undefined ? undefined : origins[raw.origin],
      args: (raw.args ?? []).map((output, index) => {
        if (output === null) return undefined;
        const at = `${path}/args/${index}`;
        return {
          a: output.value_a === undefined ? undefined : this.#word(output.value_a, `${at}/value_a`),
          b: output.value_b === undefined ? undefined : this.#word(output.value_b, `${at}/value_b`),
          data: this.#data(output),
          size: output.size,
        };
      }),
      panic: raw.panic,
    };
  }
}
