// npx tsx test/shims/optee/litebox.ts DIR
//
// Runs LiteBox' own trusted applications (DIR is the folder litebox_runner_optee_on_linux_userland/tests of
// https://github.com/microsoft/litebox) with their command files as they are: each with LiteBox' ldelf and with our own loader, on every
// provider that serves OP-TEE. Status 1 when a result is another than it should be.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseCommands } from "../../../shims/optee/commands/parse.ts";
import { runSteps, type Step } from "../../../shims/optee/commands/run.ts";
import { TeeHost } from "../../../shims/optee/host.ts";

const [directory] = process.argv.slice(2);
if (directory === undefined) {
  process.stderr.write("usage: litebox.ts DIR\n");
  process.exit(2);
}

const PROVIDERS = ["direct", "linux-userland", "lvbs"] as const;
/** The outputs of all commands, a value or the first bytes of a buffer each; undefined for random bytes. */
const EXPECTED: Readonly<Record<string, readonly (string | undefined)[]>> = {
  "hello-ta": ["0x65 0x0", "0xc7 0x0"],
  "random-ta": [undefined],
  "aes-ta": ["4ccc41d75eb8e3b316fdf0eaa358384366f8d878e040f448bf695dd37ae40068"],
  "kmpp-ta": ["0x4 0x1", "040002000700000001000000", "0x4 0x1", "040002000700000001000000"],
};

function outputs(step: Step): string[] {
  return (step.answer?.outputs ?? []).flatMap((output) => {
    if (output === undefined) return [];
    if (output.kind === "value") return [`0x${output.a.toString(16)} 0x${output.b.toString(16)}`];
    return [Buffer.from(output.data).toString("hex")];
  });
}

for (const [name, expected] of Object.entries(EXPECTED)) {
  for (const ldelf of [undefined, join(directory, "ldelf.elf")]) {
    for (const provider of PROVIDERS) {
      const from = process.cpuUsage();
      const commands = join(directory, `${name}-cmds.json`);
      const host = new TeeHost({ tas: [join(directory, `${name}.elf`)], ldelf, provider });
      const steps = [...runSteps(host.tee, parseCommands(readFileSync(commands, "utf8"), commands), host.main.uuid)];
      host.close();
      const { user, system } = process.cpuUsage(from);
      const found = steps.flatMap(outputs);
      const failures = steps.flatMap((step) => step.failures);
      if (found.length !== expected.length) failures.push(`${found.length} outputs instead of ${expected.length}`);
      expected.forEach((wanted, index) => {
        if (wanted !== undefined && !found[index]?.startsWith(wanted))
          failures.push(`output ${index} is ${found[index]}, and ${wanted} was expected`);
      });
      const way = `${name} ${ldelf === undefined ? "own loader" : "ldelf"}, ${provider}`;
      const end =
        failures.length === 0 ? `${steps.length} commands, ${found.length} outputs as expected` : failures.join("; ");
      process.stdout.write(`${way.padEnd(40)}${end} (${((user + system) / 1000).toFixed(0)} ms)\n`);
      if (failures.length > 0) process.exitCode = 1;
    }
  }
}
