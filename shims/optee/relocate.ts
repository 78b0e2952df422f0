/** Applies the relocations of one module (x86-64 psABI, table 4.9). */
import type { Relocation } from "./dynamic.ts";
import type { LoadedModule } from "./loader.ts";
import type { TaMemory } from "./memory.ts";
import { fail, Tee } from "./results.ts";

const Type = {
  NONE: 0,
  DIRECT64: 1,
  GLOB_DAT: 6,
  JUMP_SLOT: 7,
  RELATIVE: 8,
  DTPMOD64: 16,
  DTPOFF64: 17,
  TPOFF64: 18,
} as const;

interface Definition {
  readonly module: LoadedModule;
  /** As the defining file has it. */
  readonly value: number;
}

/** @param modules the search order for symbols, the TA first */
export function relocate(memory: TaMemory, module: LoadedModule, modules: readonly LoadedModule[]): void {
  const { dynamic, bias } = module;
  for (const address of dynamic.relative) {
    const at = address + bias;
    memory.guest.setU64(at, BigInt.asUintN(64, memory.guest.u64(at) + BigInt(bias)));
  }
  for (const relocation of dynamic.relocations) {
    const at = relocation.offset + bias;
    if (at < module.start || at + 8 > module.end)
      fail(Tee.ERROR_BAD_FORMAT, `${module.binary.name}: a relocation lies outside the module`);
    const value = wordOf(relocation, module, modules);
    if (value !== undefined) memory.guest.setU64(at, BigInt.asUintN(64, value));
  }
}

function wordOf(relocation: Relocation, module: LoadedModule, modules: readonly LoadedModule[]): bigint | undefined {
  const { type, addend } = relocation;
  switch (type) {
    case Type.NONE:
      return undefined;
    case Type.RELATIVE:
      return BigInt(module.bias) + addend;
    case Type.DIRECT64: {
      const found = resolve(relocation, module, modules);
      return found === undefined ? addend : BigInt(found.value + found.module.bias) + addend;
    }
    case Type.GLOB_DAT:
    case Type.JUMP_SLOT: {
      const found = resolve(relocation, module, modules);
      return found === undefined ? 0n : BigInt(found.value + found.module.bias);
    }
    case Type.DTPMOD64:
      return BigInt(
        (relocation.symbol === 0 ? module : (resolve(relocation, module, modules)?.module ?? module)).tlsId,
      );
    case Type.DTPOFF64:
      return BigInt(resolve(relocation, module, modules)?.value ?? 0) + addend;
    case Type.TPOFF64: {
      const found = relocation.symbol === 0 ? { module, value: 0 } : resolve(relocation, module, modules);
      return found === undefined ? addend : BigInt(found.module.tlsOffset + found.value) + addend;
    }
    default:
      return fail(Tee.ERROR_NOT_SUPPORTED, `${module.binary.name}: relocation type ${type} is not supported`);
  }
}

/** The first module that defines the symbol; undefined for a weak one that nobody does. */
function resolve(
  relocation: Relocation,
  module: LoadedModule,
  modules: readonly LoadedModule[],
): Definition | undefined {
  const symbol = module.dynamic.symbol(relocation.symbol);
  if (symbol === undefined) return fail(Tee.ERROR_BAD_FORMAT, `${module.binary.name}: a relocation names no symbol`);
  for (const candidate of modules) {
    const value = candidate.dynamic.defined.get(symbol.name);
    if (value !== undefined) return { module: candidate, value };
  }
  if (symbol.value !== undefined) return { module, value: symbol.value };
  if (symbol.weak) return undefined;
  return fail(Tee.ERROR_ITEM_NOT_FOUND, `${module.binary.name}: nothing defines ${symbol.name}`);
}
