// The rules that keep the rooms apart, checked on the syntax trees of all sources. Each rule is first shown to catch a
// sample that breaks it and to let pass one that does not: a rule that finds nothing proves nothing by itself.

import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, posix } from "node:path";
import { fileURLToPath } from "node:url";
import { parseSync } from "oxc-parser";
import { describe, expect, it } from "vitest";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
/** Each room may import from itself and from those before it. */
const ROOMS = ["emulator", "providers", "shims", "cli"] as const;
const MAX_LINES = 500;

interface Source {
  /** Relative to the root, with forward slashes. */
  path: string;
  text: string;
}

interface Node {
  type: string;
  start: number;
  [key: string]: unknown;
}

type Rule = (source: Source) => string[];

function isNode(value: unknown): value is Node {
  return typeof value === "object" && value !== null && "type" in value && typeof value.type === "string";
}

function programOf(source: Source): Node {
  const parsed = parseSync(source.path, source.text);
  const program: unknown = parsed.program;
  if (parsed.errors.length > 0 || !isNode(program)) {
    throw new Error(`${source.path} does not parse: ${parsed.errors[0]?.message}`);
  }
  return program;
}

function* nodesOf(node: Node): Generator<Node> {
  yield node;
  for (const child of Object.values(node)) {
    for (const item of Array.isArray(child) ? child : [child]) if (isNode(item)) yield* nodesOf(item);
  }
}

function at(source: Source, node: Node, message: string): string {
  return `${source.path}:${source.text.slice(0, node.start).split("\n").length}: ${message}`;
}

/** The text of an identifier, a string literal or a plain template. */
function nameOf(value: unknown): string | undefined {
  if (isNode(value) && value.type === "Identifier" && typeof value.name === "string") return value.name;
  return textOf(value);
}

/** The text of a string literal or a plain template. */
function textOf(value: unknown): string | undefined {
  if (!isNode(value)) return undefined;
  if (value.type === "Literal" && typeof value.value === "string") return value.value;
  if (value.type === "TemplateElement" && isCooked(value.value)) return value.value.cooked;
  if (value.type === "TemplateLiteral" && Array.isArray(value.quasis) && value.quasis.length === 1) {
    return textOf(value.quasis[0]);
  }
  return undefined;
}

function isCooked(value: unknown): value is { cooked: string } {
  return typeof value === "object" && value !== null && "cooked" in value && typeof value.cooked === "string";
}

const IMPORTING = new Set(["ImportDeclaration", "ExportNamedDeclaration", "ExportAllDeclaration", "ImportExpression"]);

/** Every module this source names: import, export from, import(), import type, import("…").T. */
function importsOf(source: Source): { node: Node; specifier: string | undefined }[] {
  const found: { node: Node; specifier: string | undefined }[] = [];
  for (const node of nodesOf(programOf(source))) {
    if (IMPORTING.has(node.type) && node.source) found.push({ node, specifier: textOf(node.source) });
    if (node.type === "TSImportType") found.push({ node, specifier: textOf(node.source) ?? textOf(node.argument) });
  }
  return found;
}

const importDirections: Rule = (source) => {
  const [room = "", wing = ""] = source.path.split("/");
  const allowed: readonly string[] = ROOMS.slice(0, (ROOMS as readonly string[]).indexOf(room) + 1);
  return importsOf(source).flatMap(({ node, specifier }) => {
    if (specifier === undefined) return [at(source, node, "imports a module whose name is not written out")];
    if (specifier === "shimbed" || specifier.startsWith("shimbed/"))
      return [at(source, node, "imports its own package")];
    if (!specifier.startsWith(".") && !specifier.startsWith("/")) return [];
    const target = posix.join(posix.dirname(source.path), specifier);
    const [targetRoom = "", targetWing = ""] = target.split("/");
    // The scripts in plain JavaScript start what was compiled.
    if (targetRoom === "dist" && source.path.endsWith(".mjs")) return [];
    if (!allowed.includes(targetRoom)) return [at(source, node, `${room} must not import ${target}`)];
    // A file directly in shims/ belongs to no shim.
    const betweenShims = room === "shims" && targetRoom === "shims" && target.split("/").length > 2;
    if (betweenShims && wing !== targetWing) return [at(source, node, `${room}/${wing} must not import ${target}`)];
    return [];
  });
};

const MUTABLE_BUILTINS =
  /^(Map|Set|WeakMap|WeakSet|ArrayBuffer|SharedArrayBuffer|DataView|(Big)?(Ui|I)nt\d+(Clamped)?Array|Float\d+Array)$/;

/** Whether a module-level constant starts as something that only makes sense when it is changed later. */
function holdsState(declarator: Node): boolean {
  const { id, init } = declarator;
  if (!isNode(init)) return false;
  if (isNode(id) && isNode(id.typeAnnotation) && isNode(id.typeAnnotation.typeAnnotation)) {
    const type = id.typeAnnotation.typeAnnotation;
    if (type.type === "TSTypeOperator" && type.operator === "readonly") return false;
    if (type.type === "TSTypeReference" && nameOf(type.typeName)?.startsWith("Readonly")) return false;
  }
  const content: unknown[] = [init.elements, init.properties, init.arguments].find(Array.isArray) ?? [];
  if (init.type === "ArrayExpression" || init.type === "ObjectExpression") return content.length === 0;
  if (init.type !== "NewExpression" || !MUTABLE_BUILTINS.test(nameOf(init.callee) ?? "")) return false;
  // Filled from a list written out: a table.
  const [first] = content;
  return !(isNode(first) && first.type === "ArrayExpression");
}

const noModuleState: Rule = (source) => {
  const program = programOf(source);
  const body = Array.isArray(program.body) ? program.body.filter(isNode) : [];
  const declarations = body
    .map((statement) => (isNode(statement.declaration) ? statement.declaration : statement))
    .filter((statement) => statement.type === "VariableDeclaration" && statement.declare !== true);
  const found = declarations.flatMap((declaration) => {
    if (declaration.kind !== "const") return [at(source, declaration, `module-level ${declaration.kind}`)];
    const declarators = Array.isArray(declaration.declarations) ? declaration.declarations.filter(isNode) : [];
    return declarators.filter(holdsState).map((node) => at(source, node, `module-level state ${nameOf(node.id)}`));
  });
  const statics = [...nodesOf(program)].filter(
    (node) => node.type === "PropertyDefinition" && node.static === true && node.readonly !== true,
  );
  return [...found, ...statics.map((node) => at(source, node, "a static property that can change"))];
};

const noAny: Rule = (source) =>
  [...nodesOf(programOf(source))].filter((node) => node.type === "TSAnyKeyword").map((node) => at(source, node, "any"));

/** Places that reach the CPU state which only a token may change. */
const touchesPrivileged: Rule = (source) =>
  [...nodesOf(programOf(source))]
    .filter((node) => {
      if (node.type === "MemberExpression") return nameOf(node.property) === "privileged";
      if (node.type === "ObjectPattern" && Array.isArray(node.properties)) {
        return node.properties.some((property) => isNode(property) && nameOf(property.key) === "privileged");
      }
      if (node.type === "ImportSpecifier") return nameOf(node.imported) === "PrivilegedState";
      if (node.type !== "TSIndexedAccessType" || !isNode(node.indexType)) return false;
      return nameOf(node.indexType.literal) === "privileged";
    })
    .map((node) => at(source, node, "reaches privileged CPU state past the gate"));

/** Places that load a native addon. */
const loadsAddon: Rule = (source) =>
  [...nodesOf(programOf(source))]
    .filter((node) => {
      if (node.type === "MemberExpression") return nameOf(node.property) === "dlopen";
      if (node.type !== "Literal" && node.type !== "TemplateElement") return false;
      return /shimbed_native|\.node$/.test(nameOf(node) ?? "");
    })
    .map((node) => at(source, node, "names the native addon"));

const fitsTheEye: Rule = (source) => {
  const lines = source.text.replace(/\n$/, "").split("\n").length;
  return lines > MAX_LINES ? [`${source.path}: ${lines} lines, at most ${MAX_LINES}`] : [];
};

const namedForItsContent: Rule = (source) =>
  /^(utils?|helpers?|misc|common)\./.test(posix.basename(source.path))
    ? [`${source.path}: says nothing of its content`]
    : [];

function sourcesIn(rooms: readonly string[], pattern: RegExp): Source[] {
  return rooms.flatMap((room) =>
    readdirSync(join(ROOT, room), { recursive: true, encoding: "utf8" })
      .map((name) => `${room}/${name.replaceAll("\\", "/")}`)
      .filter((path) => pattern.test(path) && !path.startsWith("emulator/native/build/"))
      .map((path) => ({ path, text: readFileSync(join(ROOT, path), "utf8") })),
  );
}

const PROGRAM = sourcesIn(ROOMS, /\.(ts|mjs)$/);

interface Case {
  rule: Rule;
  bad: [path: string, text: string][];
  good: [path: string, text: string][];
}

const CASES: Record<string, Case> = {
  "imports go one way, and shims do not know each other": {
    rule: importDirections,
    bad: [
      ["emulator/a.ts", `import { b } from "../providers/b.ts";`],
      ["emulator/a.ts", `import type { B } from "../cli/b.ts";`],
      ["providers/a.ts", `export * from "../shims/linux/b.ts";`],
      ["providers/a.ts", `export { b } from "../shims/linux/b.ts";`],
      ["shims/linux/a.ts", `const b = await import("../../cli/b.ts");`],
      ["shims/linux/a.ts", `const b = await import(name);`],
      ["shims/linux/calls/a.ts", `import { b } from "../../optee/b.ts";`],
      ["shims/linux/a.ts", `let b: import("../optee/b.ts").B;`],
      ["cli/a.ts", `import { b } from "../test/b.ts";`],
      ["cli/a.ts", `import b from "../fixtures/b.json";`],
      ["cli/a.ts", `import b from "../../elsewhere/b.ts";`],
      ["cli/a.ts", `import b from "../dist/cli/b.js";`],
      ["cli/a.ts", `import b from "shimbed";`],
    ],
    good: [
      ["cli/a.ts", `import { b } from "../emulator/b.ts"; import { c } from "../shims/optee/c.ts"; import "node:fs";`],
      ["shims/linux/calls/a.ts", `import { b } from "../b.ts"; import type { G } from "../../../providers/gate.ts";`],
      ["shims/optee/a.ts", `import { b } from "../b.ts";`],
      ["emulator/a.ts", `// import "../cli/b.ts"\nconst text = 'import "../cli/b.ts"';`],
    ],
  },
  "no state at module level": {
    rule: noModuleState,
    bad: [
      ["cli/a.ts", `let count = 0;`],
      ["cli/a.ts", `export let count = 0;`],
      ["cli/a.ts", `var count = 0;`],
      ["cli/a.ts", `const seen = new Set<string>();`],
      ["cli/a.ts", `export const cache = new Map();`],
      ["cli/a.ts", `const scratch = new Uint8Array(16);`],
      ["cli/a.ts", `const list: string[] = [];`],
      ["cli/a.ts", `const byName: Record<string, number> = {};`],
      ["cli/a.ts", `class A { static count = 0; }`],
    ],
    good: [
      ["cli/a.ts", `function f() { let count = 0; var b = new Map(); return [count, b]; }`],
      [
        "cli/a.ts",
        `const names = new Map([[1, "a"]]); const table = new Uint8Array([1, 2]); const list = ["a"] as const;`,
      ],
      ["cli/a.ts", `const names: ReadonlyMap<number, string> = new Map(rows.map((row) => [row.number, row.name]));`],
      ["cli/a.ts", `const none: readonly string[] = []; class A { static readonly zero = 0; count = 0; }`],
      ["cli/a.ts", `for (let i = 0; i < 3; i++) { let b = i; f(b); }`],
    ],
  },
  "no any": {
    rule: noAny,
    bad: [
      ["cli/a.ts", `function f(value: any) {}`],
      ["cli/a.ts", `const a = b as any;`],
      ["cli/a.ts", `type A = Map<string, any[]>;`],
    ],
    good: [["cli/a.ts", `const any = "any"; // any\nfunction f(value: unknown) { return any; }`]],
  },
  "the addon is named": {
    rule: loadsAddon,
    bad: [
      ["cli/a.ts", `const addon = require("../emulator/native/build/Release/shimbed_native.node");`],
      ["cli/a.ts", `process.dlopen(module, path);`],
      ["cli/a.ts", "const path = `$" + "{root}/other.node`;"],
    ],
    good: [["cli/a.ts", `import { join } from "node:path"; // shimbed_native.node\nconst kind = "node";`]],
  },
  "privileged CPU state stays behind the gate": {
    rule: touchesPrivileged,
    bad: [
      ["shims/linux/a.ts", `cpu.privileged.fsBase = 1n;`],
      ["shims/linux/a.ts", `cpu?.["privileged"].fsBase;`],
      ["shims/linux/a.ts", "cpu[`privileged`];"],
      ["shims/linux/a.ts", `const { privileged: state } = task.cpu;`],
      ["shims/linux/a.ts", `import type { PrivilegedState } from "../../emulator/cpu.ts";`],
      ["shims/linux/a.ts", `let state: Cpu["privileged"];`],
    ],
    good: [["shims/linux/a.ts", `// cpu.privileged\nconst privileged = true; cpu.reg(Reg.rax);`]],
  },
  "a file fits the eye": {
    rule: fitsTheEye,
    bad: [["cli/a.ts", "f();\n".repeat(MAX_LINES + 1)]],
    good: [["cli/a.ts", "f();\n".repeat(MAX_LINES)]],
  },
  "a file is named for its content": {
    rule: namedForItsContent,
    bad: [
      ["cli/utils.ts", ""],
      ["shims/linux/helpers.ts", ""],
    ],
    good: [["cli/output.ts", ""]],
  },
};

describe.each(Object.entries(CASES))("%s", (_, { rule, bad, good }) => {
  it.each(bad)("catches %s: %s", (path, text) => {
    expect(rule({ path, text })).not.toEqual([]);
  });
  it.each(good)("lets pass %s: %s", (path, text) => {
    expect(rule({ path, text })).toEqual([]);
  });
});

describe("the sources keep the rules", () => {
  it("finds sources", () => {
    expect(PROGRAM.length).toBeGreaterThan(3);
  });

  it.each([
    ["import directions", importDirections],
    ["no module-level state", noModuleState],
    ["no any", noAny],
  ])("%s", (_, rule) => {
    expect(PROGRAM.flatMap(rule)).toEqual([]);
  });

  it("privileged CPU state only in emulator and providers", () => {
    const outside = PROGRAM.filter((source) => /^(shims|cli)\//.test(source.path));
    expect(outside.flatMap(touchesPrivileged)).toEqual([]);
  });

  it("one file loads the addon, and it is the emulator's", () => {
    const files = PROGRAM.filter((source) => source.path.endsWith(".ts") && loadsAddon(source).length > 0);
    expect(files.map((source) => source.path)).toEqual([expect.stringMatching(/^emulator\//)]);
  });

  it("file sizes and names, of tests and native code too", () => {
    const all = sourcesIn([...ROOMS, "test"], /\.(ts|mjs|cc|h)$/);
    expect([...all.flatMap(fitsTheEye), ...all.flatMap(namedForItsContent)]).toEqual([]);
  });
});
