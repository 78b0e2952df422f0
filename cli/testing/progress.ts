import { isFailure } from "./results.ts";
import type { CaseResult } from "./run-case.ts";

const WIDTH = 30;
const INTERVAL_MS = 100;

/** A bar on a terminal; nothing elsewhere. */
export class Progress {
  readonly #total: number;
  readonly #stream: { readonly isTTY?: boolean; write(text: string): unknown };
  readonly #start = performance.now();
  #done = 0;
  #failed = 0;
  #shown = 0;

  constructor(total: number, stream: { readonly isTTY?: boolean; write(text: string): unknown }) {
    this.#total = total;
    this.#stream = stream;
  }

  add(result: CaseResult): void {
    this.#done++;
    if (isFailure(result)) this.#failed++;
    const now = performance.now();
    if (this.#stream.isTTY !== true || now - this.#shown < INTERVAL_MS) return;
    this.#shown = now;
    const filled = Math.round((WIDTH * this.#done) / this.#total);
    const bar = "=".repeat(filled).padEnd(WIDTH);
    const rate = Math.round((1000 * this.#done) / (now - this.#start));
    this.#stream.write(`\r\x1b[K[${bar}] ${this.#done}/${this.#total}, ${this.#failed} failed, ${rate}/s`);
  }

  /** Takes the bar away. */
  end(): void {
    if (this.#stream.isTTY === true) this.#stream.write("\r\x1b[K");
  }
}
