/** Puts a TEE together: machine, provider, gate, files, storage. */
import { readFileSync } from "node:fs";
import { UserError } from "../../emulator/errors.ts";
import { Machine, type Processor } from "../../emulator/machine.ts";
import { assembleGate, type GateAssembly } from "../../providers/assembly.ts";
import { Gate, type GateOptions } from "../../providers/gate.ts";
import type { HostEvents } from "../../providers/host-events.ts";
import { createProvider } from "../../providers/registry.ts";
import { readTa, type TaBinary } from "./binary.ts";
import { HostTeeClock, VirtualTeeClock } from "./clock.ts";
import type { TeeWatcher } from "./events.ts";
import { readLdelf } from "./ldelf.ts";
import { HostEntropy, SeededEntropy } from "./random.ts";
import { FileStore } from "./storage/file-store.ts";
import { defaultHuk, Tee } from "./tee.ts";
import { TeeWorld } from "./tee-world.ts";

export interface TeeHostOptions {
  /** The TA, then whatever else may be loaded: other TAs, and libraries named by their UUID. Files or their content. */
  readonly tas: readonly [string | TaBinary, ...(string | TaBinary)[]];
  /** File of a real ldelf; our own loader when left out. */
  readonly ldelf?: string | undefined;
  /** `direct` when left out. */
  readonly provider?: string | undefined;
  readonly asLitebox?: boolean | undefined;
  /** What else the gate is made with: policy, ledger, faults. */
  readonly gate?: Partial<GateOptions> | undefined;
  /** What stands around the provider, where there is no `gate`: policy, faults. */
  readonly around?: Pick<GateAssembly, "policy" | "inject" | "audit" | "ledger" | "asLitebox"> | undefined;
  /** What `around` knows of TAs, where it had to be made before. */
  readonly world?: TeeWorld | undefined;
  readonly hostEvents?: HostEvents | undefined;
  /** 0 when left out. */
  readonly seed?: number | undefined;
  /** `virtual` when left out. */
  readonly clock?: "virtual" | "host" | undefined;
  /** Where random numbers come from: the seed when left out. */
  readonly random?: "seed" | "host" | undefined;
  /** File of the secure storage; in memory when left out. */
  readonly storage?: string | undefined;
  /** Hardware unique key, 32 bytes. */
  readonly huk?: Uint8Array | undefined;
  readonly watch?: TeeWatcher | undefined;
  /** Wall-clock milliseconds that one command may take. */
  readonly timeoutMs?: number | undefined;
  /** Most guest memory, in bytes. */
  readonly maxMemory?: number | undefined;
  /** x86-64-v2 if left out. */
  readonly processor?: Processor | undefined;
  /** Lets SIGINT and SIGTERM end the run. */
  readonly catchSignals?: boolean | undefined;
}

const HUK_BYTES = 32;

/** A TEE with the machine it runs on. */
export class TeeHost {
  readonly tee: Tee;
  /** The first TA. */
  readonly main: TaBinary;
  /** Why nothing of the storage can be trusted, where that is so. */
  readonly storageDamage: string | undefined;
  readonly #machine: Machine;

  /** @throws UserError when a file or an option does not fit */
  constructor(options: TeeHostOptions) {
    const [first, ...rest] = options.tas;
    this.main = load(first);
    if (this.main.library)
      throw new UserError(
        `cannot run ${this.main.name}: it is a library for trusted applications, not one itself`,
        126,
      );
    const binaries = [this.main, ...rest.map(load)];
    checkUuids(binaries);
    const { huk = defaultHuk(), seed = 0, timeoutMs, maxMemory, processor } = options;
    if (huk.length !== HUK_BYTES)
      throw new UserError(`a hardware unique key has ${HUK_BYTES} bytes, and --huk has ${huk.length}`, 125);
    const store = options.storage === undefined ? undefined : new FileStore(options.storage, huk);
    this.storageDamage = store?.damage;
    const ldelf = options.ldelf === undefined ? undefined : readLdelf(readFile(options.ldelf), options.ldelf);
    this.#machine = new Machine({
      ...(maxMemory === undefined ? {} : { maxMemory }),
      ...(processor === undefined ? {} : { processor }),
    });
    try {
      const platform = { cpu: this.#machine.cpu, layout: "x86_64" } as const;
      const { asLitebox = false, provider = "direct" } = options;
      const { world = new TeeWorld() } = options;
      const gate =
        options.gate === undefined
          ? assemble({ asLitebox, ...options.around, platform, provider, shim: "optee", world })
          : new Gate({
              platform,
              provider: createProvider(provider, platform, { shim: "optee", asLitebox }),
              ...options.gate,
            });
      this.tee = new Tee({
        machine: this.#machine,
        gate,
        binaries,
        ldelf,
        clock: options.clock === "host" ? new HostTeeClock() : new VirtualTeeClock(),
        entropy: options.random === "host" ? new HostEntropy() : new SeededEntropy(String(seed)),
        store,
        huk,
        watch: options.watch,
        timeoutMs,
        hostEvents: options.hostEvents,
        injectCall: world.injector?.call,
        catchSignals: options.catchSignals,
      });
      world.tee = this.tee;
    } catch (error) {
      this.#machine.close();
      throw error;
    }
  }

  close(): void {
    this.tee.close();
    this.#machine.close();
  }
}

/** A gate with all that stands around it; the world is told of that. */
function assemble(options: GateAssembly & { readonly world: TeeWorld }): Gate {
  const { gate, injector, findings } = assembleGate(options);
  options.world.injector = injector;
  options.world.findings = findings;
  return gate;
}

function load(given: string | TaBinary): TaBinary {
  return typeof given === "string" ? readTa(readFile(given), given) : given;
}

function readFile(path: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : error;
    throw new UserError(`cannot read ${path}: ${code}`, code === "ENOENT" ? 127 : 126);
  }
}

function checkUuids(binaries: readonly TaBinary[]): void {
  const seen = new Map<string, TaBinary>();
  for (const binary of binaries) {
    const other = seen.get(binary.uuid);
    if (other !== undefined)
      throw new UserError(`${other.name} and ${binary.name} have the same UUID ${binary.uuid}; give one of them`, 125);
    seen.set(binary.uuid, binary);
  }
}
