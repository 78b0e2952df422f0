/** Manifests of `shimbed test`: found, checked against their schema, and made into single runs. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import path from "node:path";
import { Ajv, type ErrorObject, type ValidateFunction } from "ajv";
import { UserError } from "../../emulator/errors.ts";
import type { Processor } from "../../emulator/machine.ts";
import { type FindingKind, findingKinds } from "../../providers/findings.ts";
import { parseInjectRule } from "../../providers/inject-rule.ts";
import { providerInfos, providerNames } from "../../providers/registry.ts";
import { reason } from "../output.ts";
import type { RequestKind } from "./checks.ts";
import { testError } from "./execute.ts";
import schema from "./manifest.schema.json" with { type: "json" };

export const MANIFEST_NAME = "shimbed.json";

type Arch = "x86_64" | "i386";
type Text = string | { readonly match: string };

/** What is expected of a run. */
export interface Expectation {
  readonly exit?: number;
  readonly signal?: string;
  readonly stdout?: Text;
  readonly stderr?: Text;
  readonly tokens?: readonly (RequestKind | "...")[] | Readonly<Partial<Record<RequestKind, number>>>;
  readonly trace?: readonly string[];
  /** Kinds that are allowed; none if left out. */
  readonly findings?: readonly FindingKind[] | "any";
}

interface Matrix {
  readonly provider?: readonly string[];
  readonly arch?: readonly Arch[];
  readonly seed?: readonly number[];
  readonly inject?: readonly (string | readonly string[])[];
}

interface Settings {
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string;
  readonly timeout?: number;
  readonly cpu?: Processor;
  readonly strictSegments?: boolean;
  readonly matrix?: Matrix;
  readonly findings?: readonly FindingKind[] | "any";
}

interface Exception extends Expectation {
  readonly provider?: readonly string[];
  readonly arch?: readonly Arch[];
  readonly seed?: readonly number[];
  readonly inject?: readonly string[];
  readonly skip?: string;
}

interface ManifestTest extends Settings, Expectation {
  readonly name: string;
  readonly file: string | Readonly<Partial<Record<Arch, string>>>;
  readonly flags?: readonly string[];
  readonly root?: string;
  readonly golden?: string;
  readonly except?: readonly Exception[];
}

interface Manifest {
  readonly version: 1;
  readonly defaults?: Settings;
  readonly tests: readonly ManifestTest[];
}

/** One run with what is expected of it; plain data, so that it can go to another process. */
export interface Case {
  /** Unique: the manifest's directory, the test's name, and the run's place in the matrix. */
  readonly id: string;
  /** Absolute. */
  readonly directory: string;
  /** As the manifest says. */
  readonly file: string;
  readonly flags: readonly string[];
  readonly root: string | undefined;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly input: string;
  readonly timeout: number;
  readonly provider: string;
  readonly arch: Arch;
  readonly seed: number;
  readonly inject: readonly string[];
  readonly cpu: Processor;
  readonly strictSegments: boolean;
  readonly expected: Expectation;
  /** Absolute. */
  readonly golden: string | undefined;
  /** Why it is left out. */
  readonly skip: string | undefined;
}

const TIMEOUT_SECONDS = 10;
/** Directories that hold no tests of the user's. */
const NOT_LOOKED_INTO = new Set(["node_modules", ".git"]);

/**
 * The cases of all manifests in these directories and beneath, in a fixed order.
 * @param places directories, or manifests themselves
 * @throws UserError that lists everything wrong in any of them
 */
export function readCases(places: readonly string[]): Case[] {
  const files = [...new Set(places.flatMap(findManifests))];
  if (files.length === 0) throw testError(`there is no ${MANIFEST_NAME} in ${places.join(", ")}, nor beneath`);
  const validate = new Ajv({ strictTypes: false, allErrors: true }).compile<Manifest>(schema);
  const problems: string[] = [];
  const cases: Case[] = [];
  for (const file of files) {
    try {
      cases.push(...casesOf(readManifest(file, validate), file));
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      problems.push(error.message);
    }
  }
  const ids = new Set<string>();
  for (const { id } of cases) {
    if (ids.has(id)) problems.push(`there are two tests of the name ${id}`);
    ids.add(id);
  }
  if (problems.length > 0) throw testError(problems.join("\n"));
  return cases;
}

function findManifests(place: string): string[] {
  const absolute = path.resolve(place);
  const stat = statSync(absolute, { throwIfNoEntry: false });
  if (stat === undefined) throw testError(`there is no ${place}`);
  if (!stat.isDirectory()) return [absolute];
  const found: string[] = [];
  const look = (directory: string): void => {
    const entries = readdirSync(directory, { withFileTypes: true });
    for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      const name = path.join(directory, entry.name);
      if (entry.isDirectory() && !NOT_LOOKED_INTO.has(entry.name)) look(name);
      else if (entry.name === MANIFEST_NAME) found.push(name);
    }
  };
  look(absolute);
  return found;
}

function readManifest(file: string, validate: ValidateFunction<Manifest>): Manifest {
  const name = path.relative("", file);
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(file, "utf8"));
  } catch (error) {
    throw testError(`${name}: ${error instanceof SyntaxError ? `is no JSON: ${error.message}` : reason(error)}`);
  }
  if (validate(value)) return value;
  const [first] = mostTelling(validate.errors ?? []);
  throw testError(`${name}: ${first === undefined ? "does not fit the schema" : complaint(first)}`);
}

/** Of alternatives that all failed, the one that says most stands deepest in the file. */
function mostTelling(errors: readonly ErrorObject[]): ErrorObject[] {
  const depth = (error: ErrorObject): number => error.instancePath.split("/").length;
  const rank = (error: ErrorObject): number => (error.keyword === "oneOf" ? 1 : 0);
  return [...errors].sort((a, b) => depth(b) - depth(a) || rank(a) - rank(b));
}

function complaint({ instancePath, message, params }: ErrorObject): string {
  const where = instancePath === "" ? "the manifest" : instancePath.slice(1).replaceAll("/", ".");
  if ("additionalProperty" in params) return `${where} has an unknown field "${params.additionalProperty}"`;
  if ("allowedValues" in params && Array.isArray(params.allowedValues))
    return `${where} must be one of ${params.allowedValues.join(", ")}`;
  if ("allowedValue" in params) return `${where} must be ${JSON.stringify(params.allowedValue)}`;
  return `${where} ${message ?? "is wrong"}`;
}

function casesOf(manifest: Manifest, file: string): Case[] {
  const { defaults = {}, tests } = manifest;
  const name = path.relative("", file);
  const wrong = (test: ManifestTest, message: string): never => {
    throw testError(`${name}: test "${test.name}": ${message}`);
  };
  return tests.flatMap((test) => {
    checkWords(test, defaults, (message) => wrong(test, message));
    return variants(test, { ...defaults.matrix, ...test.matrix }).map((variant) =>
      makeCase(test, defaults, variant, path.dirname(file)),
    );
  });
}

interface Variant {
  readonly provider: string;
  readonly arch: Arch;
  readonly seed: number;
  readonly inject: readonly string[];
}

function variants(test: ManifestTest, matrix: Matrix): Variant[] {
  const { file } = test;
  const own = typeof file === "string" ? undefined : (["x86_64", "i386"] as const).filter((arch) => arch in file);
  const arches =
    own === undefined ? (matrix.arch ?? ["x86_64"]) : own.filter((arch) => matrix.arch?.includes(arch) ?? true);
  const list: Variant[] = [];
  for (const provider of matrix.provider ?? ["direct"])
    for (const arch of arches)
      for (const seed of matrix.seed ?? [0])
        for (const inject of matrix.inject ?? [[]])
          list.push({ provider, arch, seed, inject: typeof inject === "string" ? [inject] : inject });
  return list;
}

function makeCase(test: ManifestTest, defaults: Settings, variant: Variant, directory: string): Case {
  const { provider, arch, seed, inject } = variant;
  const { name, file, flags = [], root, golden, except = [] } = test;
  const exceptions = except.filter((one) => applies(one, variant));
  const place = [path.relative("", directory).replaceAll("\\", "/"), name].filter((part) => part !== "").join("/");
  const faults = inject.length === 0 ? "" : ` inject=${inject.join("+")}`;
  return {
    id: `${place} [provider=${provider} arch=${arch} seed=${seed}${faults}]`,
    directory,
    file: typeof file === "string" ? file : (file[arch] ?? ""),
    flags,
    root,
    args: test.args ?? defaults.args ?? [],
    env: { ...defaults.env, ...test.env },
    input: test.input ?? defaults.input ?? "",
    timeout: test.timeout ?? defaults.timeout ?? TIMEOUT_SECONDS,
    provider,
    arch,
    seed,
    inject,
    cpu: test.cpu ?? defaults.cpu ?? "x86-64-v2",
    strictSegments: test.strictSegments ?? defaults.strictSegments ?? false,
    expected: exceptions.reduce<Expectation>(overridden, expectationOf(test, defaults)),
    golden:
      golden === undefined
        ? undefined
        : path.resolve(
            directory,
            golden.replaceAll("{provider}", provider).replaceAll("{arch}", arch).replaceAll("{seed}", String(seed)),
          ),
    skip: exceptions.find((one) => one.skip !== undefined)?.skip ?? unserved(provider, arch),
  };
}

/** A matrix may have pairs that there are not. */
function unserved(provider: string, arch: Arch): string | undefined {
  const info = providerInfos.find(({ name }) => name === provider);
  if (info?.shims.includes("linux") === false) return `provider ${provider} runs no Linux`;
  return info?.abis.includes(arch) === false ? `provider ${provider} runs no ${arch} guests` : undefined;
}

function expectationOf(test: ManifestTest, defaults: Settings): Expectation {
  const { exit, signal, stdout, stderr, tokens, trace } = test;
  const findings = test.findings ?? defaults.findings ?? [];
  return {
    ...(signal === undefined ? { exit: exit ?? 0 } : { signal }),
    ...(stdout === undefined ? {} : { stdout }),
    ...(stderr === undefined ? {} : { stderr }),
    ...(tokens === undefined ? {} : { tokens }),
    ...(trace === undefined ? {} : { trace }),
    findings,
  };
}

/** An exception's own end takes the place of the other kind of end too. */
function overridden(before: Expectation, exception: Exception): Expectation {
  const { provider: _p, arch: _a, seed: _s, inject: _i, skip: _k, ...own } = exception;
  const { exit, signal, ...rest } = before;
  const end = own.exit !== undefined || own.signal !== undefined ? {} : { exit, signal };
  const kept = Object.fromEntries(Object.entries(end).filter(([, value]) => value !== undefined));
  return { ...rest, ...kept, ...own };
}

function applies(exception: Exception, { provider, arch, seed, inject }: Variant): boolean {
  return (
    (exception.provider?.includes(provider) ?? true) &&
    (exception.arch?.includes(arch) ?? true) &&
    (exception.seed?.includes(seed) ?? true) &&
    (exception.inject?.some((rule) => inject.includes(rule)) ?? true)
  );
}

/** What a schema cannot say: names that the program knows, rules, expressions. */
function checkWords(test: ManifestTest, defaults: Settings, wrong: (message: string) => never): void {
  const { except = [] } = test;
  const expectations: readonly Expectation[] = [test, ...except];
  const matrix = { ...defaults.matrix, ...test.matrix };
  for (const name of [...(matrix.provider ?? []), ...except.flatMap(({ provider = [] }) => provider)])
    if (!providerNames.includes(name)) wrong(`unknown provider "${name}": choose from ${providerNames.join(", ")}`);
  for (const rule of (matrix.inject ?? []).flat()) parsed(() => parseInjectRule(rule), wrong);
  for (const { findings = [], stdout, stderr } of [...expectations, defaults as Expectation]) {
    for (const kind of findings === "any" ? [] : findings)
      if (!(kind in findingKinds))
        wrong(`unknown finding "${kind}": choose from ${Object.keys(findingKinds).join(", ")}`);
    for (const text of [stdout, stderr])
      if (typeof text === "object")
        parsed(
          () => new RegExp(text.match),
          (message) => wrong(message),
        );
  }
  for (const expectation of expectations)
    if (expectation.exit !== undefined && expectation.signal !== undefined)
      wrong("it cannot both exit and be killed: leave exit or signal out");
}

function parsed(parse: () => unknown, wrong: (message: string) => never): void {
  try {
    parse();
  } catch (error) {
    if (error instanceof UserError || error instanceof SyntaxError) wrong(error.message);
    throw error;
  }
}
