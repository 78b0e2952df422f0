/** What a worker process of `shimbed test` does: runs the cases it is sent, one after another, and sends back the results. */
import { GuestFiles } from "./guest-files.ts";
import type { Case } from "./manifest.ts";
import { type CaseOptions, type CaseResult, runCase } from "./run-case.ts";

/** From the parent: a case to run. */
export interface WorkerTask {
  readonly one: Case;
  readonly options: CaseOptions;
}

/** To the parent. `ready` comes once. */
export type WorkerMessage =
  | { readonly kind: "ready" }
  | { readonly kind: "result"; readonly result: CaseResult }
  /** A mistake in shimbed itself. */
  | { readonly kind: "broken"; readonly id: string; readonly message: string };

/** Runs until the parent closes the channel. */
export async function work(): Promise<number> {
  const files = new GuestFiles();
  const send = (message: WorkerMessage): void => {
    process.send?.(message);
  };
  process.on("message", (task: WorkerTask) => {
    runCase(task.one, files, task.options).then(
      (result) => send({ kind: "result", result }),
      (error: unknown) =>
        send({
          kind: "broken",
          id: task.one.id,
          message: error instanceof Error ? (error.stack ?? error.message) : String(error),
        }),
    );
  });
  const closed = new Promise<void>((resolve) => process.once("disconnect", () => resolve()));
  send({ kind: "ready" });
  await closed;
  return 0;
}
