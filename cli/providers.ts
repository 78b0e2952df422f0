/** `shimbed providers`. */
import { UserError } from "../emulator/errors.ts";
import { type ProviderInfo, providerInfos, providerNames } from "../providers/registry.ts";
import { print } from "./output.ts";

/** Prints the table of providers, or all that is known of one. */
export function listProviders(name: string | undefined, options: { readonly json?: boolean }): number {
  if (name === undefined) {
    print(options.json ? `${JSON.stringify(providerInfos, undefined, 2)}\n` : table());
    return 0;
  }
  const info = providerInfos.find((candidate) => candidate.name === name);
  if (info === undefined) {
    throw new UserError(`there is no provider "${name}": choose one of ${providerNames.join(", ")}`, 125);
  }
  print(options.json ? `${JSON.stringify(info, undefined, 2)}\n` : details(info));
  return 0;
}

function table(): string {
  const width = Math.max(...providerNames.map((name) => name.length));
  const lines = providerInfos.map(
    ({ name, description }, index) => `${name.padEnd(width)}  ${description}${index === 0 ? " (default)" : ""}`,
  );
  return `${lines.join("\n")}\n\nChoose one with -p NAME; \`shimbed providers NAME\` tells more of it.\n`;
}

function details(info: ProviderInfo): string {
  const { name, description, abis, shims, hostEvents, differences, taDifferences } = info;
  const lines = [name, `  stands for   ${description}`, `  guests       ${abis.join(", ")}`];
  lines.push(`  shims        ${shims.join(", ")}`, `  host events  ${hostEvents.join(", ") || "none"}`);
  for (const abi of abis) {
    const found = differences[abi] ?? [];
    if (found.length > 0) lines.push("", `What LiteBox answers unlike Linux, ${abi} guests:`);
    for (const { topic, linux, litebox, source } of found)
      lines.push(`  ${topic}`, `    Linux    ${linux}`, `    LiteBox  ${litebox}  (${source})`);
  }
  if (taDifferences.length > 0) lines.push("", "What LiteBox does unlike direct, trusted applications:");
  for (const { topic, direct, litebox, source } of taDifferences)
    lines.push(`  ${topic}`, `    direct   ${direct}`, `    LiteBox  ${litebox}  (${source})`);
  const guest = shims.includes("linux") ? "-e tls -P" : "ta.elf --commands commands.json";
  lines.push("", `Try: shimbed trace -p ${name} ${guest}${shims.includes("linux") ? " ./a.out" : ""}`);
  return `${lines.join("\n")}\n`;
}
