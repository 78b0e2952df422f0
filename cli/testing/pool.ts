/** Spreads cases over worker processes, replaces those that die or hang, and gives the results in the order of the cases. */
import { type ChildProcess, spawn } from "node:child_process";
import type { Case } from "./manifest.ts";
import type { CaseOptions, CaseResult } from "./run-case.ts";
import type { WorkerMessage, WorkerTask } from "./worker.ts";

export interface PoolOptions extends CaseOptions {
  readonly workers: number;
  /** Called as results come in. */
  readonly progress: (result: CaseResult) => void;
  /** The words that start a worker; this program's own if left out. */
  readonly command?: readonly [string, ...string[]];
  /** Milliseconds beyond a case's own timeout, after which its worker is killed; 10 s if left out. */
  readonly grace?: number;
}

/** Beyond a case's own timeout: its start, and for C the compiler. */
const GRACE_MS = 10_000;
const COMPILE_MS = 60_000;
/** Lines of a dead worker's standard error that are worth showing. */
const LAST_LINES = 8;

interface Slot {
  readonly child: ChildProcess;
  index: number | undefined;
  started: number;
  timer: NodeJS.Timeout | undefined;
  killed: boolean;
  said: string;
}

export function runPool(cases: readonly Case[], options: PoolOptions): Promise<CaseResult[]> {
  return new Pool(cases, options).run();
}

class Pool {
  readonly #cases: readonly Case[];
  readonly #options: PoolOptions;
  readonly #results: (CaseResult | undefined)[];
  readonly #slots = new Set<Slot>();
  #next = 0;
  #left: number;
  /** Workers that ended before they were ready; too many and there is no use in more. */
  #stillborn = 0;
  #done: ((results: CaseResult[]) => void) | undefined;
  #failed: ((error: Error) => void) | undefined;

  constructor(cases: readonly Case[], options: PoolOptions) {
    this.#cases = cases;
    this.#options = options;
    this.#left = cases.length;
    this.#results = cases.map(() => undefined);
  }

  run(): Promise<CaseResult[]> {
    if (this.#left === 0) return Promise.resolve([]);
    return new Promise((resolve, reject) => {
      this.#done = resolve;
      this.#failed = reject;
      const count = Math.min(this.#options.workers, this.#cases.length);
      for (let i = 0; i < count; i++) this.#start();
    });
  }

  #start(): void {
    const [program, ...words] = this.#options.command ?? ownCommand();
    const child = spawn(program, words, { stdio: ["ignore", "inherit", "pipe", "ipc"] });
    const slot: Slot = { child, index: undefined, started: 0, timer: undefined, killed: false, said: "" };
    this.#slots.add(slot);
    let ready = false;
    child.stderr?.on("data", (bytes: Buffer) => {
      slot.said = (slot.said + bytes.toString("utf8")).slice(-65_536);
    });
    child.on("message", (message: WorkerMessage) => {
      ready = true;
      this.#message(slot, message);
    });
    child.once("error", (error) => this.#failed?.(error));
    child.once("close", (code, signal) => {
      this.#slots.delete(slot);
      clearTimeout(slot.timer);
      if (!ready && ++this.#stillborn > this.#options.workers) {
        this.#failed?.(new Error(`workers end before they begin: ${lastLines(slot.said)}`));
        return;
      }
      this.#ended(slot, signal === null ? `status ${code}` : signal);
    });
  }

  #message(slot: Slot, message: WorkerMessage): void {
    if (message.kind === "result") this.#finish(slot, message.result);
    if (message.kind === "broken")
      this.#finish(slot, {
        id: message.id,
        status: "error",
        ms: performance.now() - slot.started,
        message: `a mistake in shimbed: ${message.message}`,
        digest: "",
        updated: false,
      });
    this.#give(slot);
  }

  /** The next case for a worker that has none, or its end. */
  #give(slot: Slot): void {
    const index = this.#next;
    const one = this.#cases[index];
    if (one === undefined) {
      slot.child.disconnect();
      return;
    }
    this.#next++;
    slot.index = index;
    slot.started = performance.now();
    const { repeat, update, grace = GRACE_MS } = this.#options;
    const patience = one.timeout * 1000 * repeat + grace + (one.file.endsWith(".c") ? COMPILE_MS : 0);
    slot.timer = setTimeout(() => {
      slot.killed = true;
      slot.child.kill("SIGKILL");
    }, patience);
    const task: WorkerTask = { one, options: { repeat, update } };
    slot.child.send(task);
  }

  #finish(slot: Slot, result: CaseResult): void {
    clearTimeout(slot.timer);
    const { index } = slot;
    if (index === undefined) return;
    slot.index = undefined;
    this.#results[index] = result;
    this.#options.progress(result);
    if (--this.#left === 0) this.#done?.(this.#results.filter((one) => one !== undefined));
  }

  /** A worker is gone. What it was at is lost; the others go on, with a new one in its place. */
  #ended(slot: Slot, how: string): void {
    const one = slot.index === undefined ? undefined : this.#cases[slot.index];
    if (one !== undefined) {
      const said = lastLines(slot.said);
      this.#finish(slot, {
        id: one.id,
        status: slot.killed ? "hung" : "error",
        ms: performance.now() - slot.started,
        message: slot.killed
          ? `it hung: it neither ended nor let itself be stopped ${one.timeout} s after its start, and was killed`
          : `its worker ended with ${how}${said === "" ? "" : `:\n${said}`}`,
        digest: "",
        updated: false,
      });
    }
    if (this.#next < this.#cases.length && this.#left > 0) this.#start();
  }
}

function lastLines(text: string): string {
  return text.trimEnd().split("\n").slice(-LAST_LINES).join("\n");
}

/** This very program, started again: also from sources, with the options that Node was given. */
function ownCommand(): [string, ...string[]] {
  return [process.execPath, ...process.execArgv, process.argv[1] ?? "", "test", "--worker"];
}
