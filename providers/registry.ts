import { UserError } from "../emulator/errors.ts";
import { DirectProvider } from "./direct.ts";
import type { Platform } from "./platform.ts";
import type { PunchthroughProvider } from "./punchthrough.ts";

/** What a user may want to know of a provider before choosing it. */
export interface ProviderInfo {
  readonly name: string;
  readonly description: string;
  /** Guest word sizes and shims it serves. */
  readonly abis: readonly ("x86_64" | "i386")[];
  readonly shims: readonly ("linux" | "optee")[];
}

interface Row extends ProviderInfo {
  create(platform: Platform): PunchthroughProvider;
}

const rows: readonly Row[] = [
  {
    name: "direct",
    description: "a Linux kernel on the bare CPU: exactly Linux's semantics, everything granted",
    abis: ["x86_64", "i386"],
    shims: ["linux", "optee"],
    create: (platform) => new DirectProvider(platform),
  },
];

/** Every provider there is; the first is the default. */
export const providerInfos: readonly ProviderInfo[] = rows;

export const providerNames: readonly string[] = rows.map((row) => row.name);

/**
 * Makes a provider for one machine.
 * @throws UserError when there is none of that name
 */
export function createProvider(name: string, platform: Platform): PunchthroughProvider {
  const row = rows.find((candidate) => candidate.name === name);
  if (row === undefined)
    throw new UserError(`unknown provider "${name}": choose one of ${providerNames.join(", ")}`, 125);
  return row.create(platform);
}
