/** `shimbed demo`, what `npm start` shows: shipped guests and a program of this machine, with traces and ledgers. */
import { existsSync } from "node:fs";
import path from "node:path";
import { formatRecord } from "../providers/ledger-format.ts";
import { TextTrace } from "../shims/linux/trace/trace-text.ts";
import { endLines, runToEnd } from "./guest-run.ts";
import { type GuestOptions, plainOptions } from "./options.ts";
import { print } from "./output.ts";
import { fixturesDirectory, shippedFiles } from "./shipped.ts";

const KEPT_RECORDS = 1000;
const SECONDS = 60;

interface Showing {
  readonly guest: string;
  readonly args: readonly string[];
  readonly why: string;
  readonly bind?: GuestOptions["bind"];
}

/** Runs everything there is to show. Status 0 when every guest ended well, else the first other status. */
export async function demo(): Promise<number> {
  const showings = [...shippedShowings(), ...ownShowings()];
  let status = 0;
  for (const showing of showings) {
    const ended = await show(showing);
    if (status === 0) status = ended;
  }
  print("\nNow try a program of yours: npx shimbed trace -e tls -P ./a.out   (npx shimbed --help tells the rest)\n");
  return status;
}

function shippedShowings(): Showing[] {
  return shippedFiles()
    .filter(({ name }) => name.startsWith("bin/"))
    .map(({ file, name }) => ({
      guest: path.relative("", file),
      args: [],
      why: name.endsWith("i386")
        ? "a shipped 32-bit guest, which sets up its thread-local storage with set_thread_area"
        : "a shipped 64-bit guest, which sets up its thread-local storage with arch_prctl",
    }));
}

/** The machine's own `ls`, where it is a program for Linux on x86. */
function ownShowings(): Showing[] {
  const ls = "/bin/ls";
  if (process.platform !== "linux" || process.arch !== "x64" || !existsSync(ls)) return [];
  const host = path.join(fixturesDirectory(), "bin");
  const bind = [{ host, guest: "/shown", writable: false }];
  return [{ guest: ls, args: ["-l", "/shown"], bind, why: "this machine's own ls, with the libraries that it needs" }];
}

async function show({ guest, args, why, bind }: Showing): Promise<number> {
  const binds = (bind ?? []).map((one) => `--bind ${path.relative("", one.host)}:${one.guest} `).join("");
  print(`\n# ${why}\n$ shimbed trace -e tls -P ${binds}${guest}${args.map((word) => ` ${word}`).join("")}\n`);
  const options: GuestOptions = { ...plainOptions(SECONDS), ...(bind === undefined ? {} : { bind }) };
  const write = (line: string): void => print(`${line}\n`);
  const filter = { admits: ({ family }: { family: string | undefined }) => family === "tls", status: "all" } as const;
  const trace = { consumer: new TextTrace({ write, tokens: true }), filter };
  const report = await runToEnd({ guest, args, options, keptRecords: KEPT_RECORDS, trace });
  for (const line of endLines(report, options)) write(line);
  print(`Ledger of provider direct, ${report.records.length} tokens:\n`);
  for (const record of report.records) {
    const place = `0x${record.pc.toString(16)}`;
    write(
      `  ${String(record.sequence).padStart(3)}  thread ${record.thread} at ${place} in ${record.call}: ${formatRecord(record)}`,
    );
  }
  return report.status;
}
