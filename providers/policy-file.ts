import { Ajv, type ErrorObject } from "ajv";
import { UserError } from "../emulator/errors.ts";
import { errnoNumber } from "./errno.ts";
import { isCanonical } from "./host.ts";
import { addressOf } from "./ledger-format.ts";
import schema from "./policy.schema.json" with { type: "json" };
import type { Decision, Policy } from "./policy.ts";
import type { Asker, Request } from "./requests.ts";

type Action = "allow" | "deny" | { readonly errno: string | number };
type Address = number | string;

interface Range<T> {
  readonly from?: T;
  readonly to?: T;
}

/** One rule of a policy file. A field that is missing fits everything. */
interface PolicyRule {
  readonly name?: string;
  readonly action: Action;
  readonly request?: readonly Request["kind"][];
  readonly thread?: { readonly id?: readonly number[]; readonly order?: readonly number[] };
  readonly call?: readonly string[];
  readonly symbol?: readonly string[];
  readonly address?: Range<Address> & {
    readonly canonical?: boolean;
    readonly mapped?: boolean;
    readonly mapping?: string;
  };
  readonly count?: Range<number>;
}

/** A policy file, as policy.schema.json describes it. */
export interface PolicyFile {
  readonly $schema?: string;
  readonly version: 1;
  readonly description?: string;
  readonly dryRun?: boolean;
  readonly default: Action;
  readonly rules?: readonly PolicyRule[];
}

/** What a policy asks of the shim. */
export interface PolicyWorld {
  /** Name of the mapping of a thread's address space that holds an address (empty for an anonymous one); undefined for none. */
  mappingAt(thread: number, address: bigint): string | undefined;
}

/** Reads policy files. Making one compiles the schema, which takes some ten milliseconds. */
export class PolicyParser {
  readonly #validate = new Ajv({ strictTypes: false }).compile<PolicyFile>(schema);

  /**
   * @param name of the file, for the message
   * @throws UserError with the JSON path of what is wrong
   */
  parse(text: string, name: string): PolicyFile {
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new UserError(`${name} is not JSON: ${why}`, 125);
    }
    const validate = this.#validate;
    if (!validate(value)) throw new UserError(`${name}: ${describe(validate.errors ?? [])}`, 125);
    checkValues(value, name);
    return value;
  }
}

/** The deepest complaint: the others are about the alternatives that contain it. */
function describe(errors: readonly ErrorObject[]): string {
  const depth = (error: ErrorObject): number => error.instancePath.split("/").length;
  const [first] = errors.toSorted((a, b) => depth(b) - depth(a));
  if (first === undefined) return "does not fit the schema";
  const path = first.instancePath === "" ? "/" : first.instancePath;
  const { additionalProperty, allowedValues } = first.params;
  if (typeof additionalProperty === "string") return `${path} has an unknown property "${additionalProperty}"`;
  const alternatives = errors.filter((error) => error.instancePath === first.instancePath);
  if (alternatives.length > 1) return `${path} ${alternatives.map(message).join(", or ")}`;
  return `${path} ${Array.isArray(allowedValues) ? `must be one of ${allowedValues.join(", ")}` : message(first)}`;
}

function message(error: ErrorObject): string {
  return error.message ?? error.keyword;
}

/** What a schema cannot say: errno names, and ranges that hold something. */
function checkValues(file: PolicyFile, name: string): void {
  const action = (value: Action, path: string): void => {
    if (typeof value === "string" || errnoNumber(String(value.errno)) !== undefined) return;
    throw new UserError(`${name}: ${path}/errno: there is no errno ${value.errno}`, 125);
  };
  const range = (low: bigint, high: bigint, path: string): void => {
    if (low > high) throw new UserError(`${name}: ${path} holds nothing: its end lies before its start`, 125);
  };
  action(file.default, "/default");
  for (const [index, rule] of (file.rules ?? []).entries()) {
    const path = `/rules/${index}`;
    action(rule.action, `${path}/action`);
    const { address, count } = rule;
    if (address?.from !== undefined && address.to !== undefined)
      range(BigInt(address.from) + 1n, BigInt(address.to), `${path}/address`);
    if (count?.from !== undefined && count.to !== undefined)
      range(BigInt(count.from), BigInt(count.to), `${path}/count`);
  }
}

/** A rule made ready. */
interface Matcher {
  readonly name: string;
  readonly decision: Decision;
  fits(request: Request, asker: Asker, order: number): boolean;
}

/** The policy of a file. In a dry run everything is allowed, and what would have been denied is told. */
export class FilePolicy implements Policy {
  readonly #matchers: readonly Matcher[];
  readonly #otherwise: Decision;
  readonly #onDryRun: ((rule: string, request: Request, asker: Asker) => void) | undefined;
  readonly #dryRun: boolean;
  /** Threads in the order in which they first asked. */
  readonly #threads: number[] = [];

  /** @param onDryRun told of each denial of a dry run */
  constructor(
    file: PolicyFile,
    world: PolicyWorld,
    onDryRun?: (rule: string, request: Request, asker: Asker) => void,
    dryRun = file.dryRun === true,
  ) {
    this.#matchers = (file.rules ?? []).map((rule, index) => matcher(rule, index, world));
    this.#otherwise = decision(file.default, "default");
    this.#onDryRun = onDryRun;
    this.#dryRun = dryRun;
  }

  decide(request: Request, asker: Asker): Decision {
    if (!this.#threads.includes(asker.thread)) this.#threads.push(asker.thread);
    const order = this.#threads.indexOf(asker.thread) + 1;
    const found = this.#matchers.find((candidate) => candidate.fits(request, asker, order));
    const decided = found?.decision ?? this.#otherwise;
    if (decided.allow || !this.#dryRun) return decided;
    this.#onDryRun?.(decided.rule, request, asker);
    return { allow: true, rule: `${decided.rule} (dry run)` };
  }
}

function decision(action: Action, rule: string): Decision {
  if (action === "allow") return { allow: true, rule };
  if (action === "deny") return { allow: false, rule };
  return { allow: false, rule, errno: errnoNumber(String(action.errno)) ?? 1 };
}

function matcher(rule: PolicyRule, index: number, world: PolicyWorld): Matcher {
  const name = rule.name ?? `rule ${index}`;
  const symbols = rule.symbol?.map(pattern);
  const { request: kinds, thread, call: calls, address, count } = rule;
  const within = address === undefined ? undefined : addressTest(address, world);
  let seen = 0;
  return {
    name,
    decision: decision(rule.action, name),
    fits(request, asker, order) {
      if (kinds !== undefined && !kinds.includes(request.kind)) return false;
      if (thread?.id !== undefined && !thread.id.includes(asker.thread)) return false;
      if (thread?.order !== undefined && !thread.order.includes(order)) return false;
      if (calls !== undefined && !calls.includes(asker.call)) return false;
      if (symbols !== undefined && !symbols.some((one) => one.test(asker.symbol?.replace(/\+0x.*$/, "") ?? "")))
        return false;
      if (within !== undefined && !within(request, asker)) return false;
      if (count === undefined) return true;
      seen++;
      return seen >= (count.from ?? 1) && seen <= (count.to ?? Number.POSITIVE_INFINITY);
    },
  };
}

function addressTest(
  rule: NonNullable<PolicyRule["address"]>,
  world: PolicyWorld,
): (request: Request, asker: Asker) => boolean {
  const low = BigInt(rule.from ?? 0);
  const high = rule.to === undefined ? 1n << 64n : BigInt(rule.to);
  const mapping = rule.mapping === undefined ? undefined : pattern(rule.mapping);
  return (request, asker) => {
    const address = addressOf(request);
    if (address === undefined || address < low || address >= high) return false;
    if (rule.canonical !== undefined && rule.canonical !== isCanonical(address)) return false;
    if (rule.mapped === undefined && mapping === undefined) return true;
    const inside = world.mappingAt(asker.thread, address);
    if (rule.mapped !== undefined && rule.mapped !== (inside !== undefined)) return false;
    return mapping === undefined || (inside !== undefined && mapping.test(inside));
  };
}

/** `*` stands for any text; everything else for itself. */
function pattern(text: string): RegExp {
  const literal = (part: string): string => part.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
  return new RegExp(`^${text.split("*").map(literal).join(".*")}$`, "s");
}
