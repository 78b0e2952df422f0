// npx tsx test/shims/optee/fuzz.ts CALLS SEED…
//
// Random words in every argument of every system call, from the hostile TA: CALLS of them for each seed, each seed in a TEE of its own.
// Fails when the TEE does, when the TA does not come back within a minute, or when an answer is no TEE_Result. The table at the
// end says how often each call was made and how often it reported success.
import { uteeCalls } from "../../../shims/optee/calls/all.ts";
import { invokeCommand, openSession } from "../../../shims/optee/client.ts";
import { resultName, Tee } from "../../../shims/optee/results.ts";
import { teeWith } from "./ta-files.ts";

const TIMEOUT_MS = 60_000;
const [count, ...seeds] = process.argv.slice(2).map(Number);
if (count === undefined || !Number.isInteger(count) || seeds.length === 0 || !seeds.every(Number.isInteger)) {
  process.stderr.write("usage: fuzz.ts CALLS SEED…\n");
  process.exit(2);
}

interface Seen {
  calls: number;
  good: number;
  readonly results: Set<number>;
}
const seen = new Map<string, Seen>();

for (const seed of seeds) {
  const from = process.cpuUsage();
  const host = teeWith(["hostile", "counter"], {
    timeoutMs: TIMEOUT_MS,
    watch: (event) => {
      if (event.kind !== "call" || event.result === undefined) return;
      const call = seen.get(event.name) ?? { calls: 0, good: 0, results: new Set() };
      seen.set(event.name, call);
      call.calls++;
      if (event.result === Tee.SUCCESS) call.good++;
      else if (event.result < 0x8000_0000) throw new Error(`${event.name} answers ${event.result}`);
      call.results.add(event.result);
    },
  });
  const { session } = openSession(host.tee, host.main.uuid, []);
  if (session === undefined) throw new Error("the hostile TA did not open");
  const answer = invokeCommand(host.tee, session, 1, [
    { type: "value_input", a: seed, b: count },
    { type: "value_output" },
  ]);
  const [, made] = answer.outputs;
  const { user, system } = process.cpuUsage(from);
  const figures = made?.kind === "value" ? `${made.a} calls, ${made.b} successes` : "no figures";
  process.stdout.write(
    `seed ${seed}: ${resultName(answer.result)} ${answer.reason ?? ""}${figures}, ${((user + system) / 1e6).toFixed(1)} s of CPU\n`,
  );
  host.close();
  if (answer.result !== Tee.SUCCESS) process.exitCode = 1;
}

for (const { name } of uteeCalls.rows) {
  const { calls = 0, good = 0, results = new Set<number>() } = seen.get(name) ?? {};
  const names = [...results].sort().map((result) => resultName(result).replace("TEE_", ""));
  process.stdout.write(
    `${name.padEnd(28)}${String(calls).padStart(8)}${String(good).padStart(8)}  ${names.join(" ")}\n`,
  );
}
