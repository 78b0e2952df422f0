import type { LedgerRecord } from "./ledger.ts";
import type { PolicyFile } from "./policy-file.ts";
import type { Request } from "./requests.ts";

/**
 * The smallest policy that allows what a run did: everything is denied but the kinds of request that were carried out, each only
 * from the calls that made it. Kinds that came from the same calls share a rule. Addresses are not part of it, as another seed
 * gives others.
 */
export function suggestPolicy(records: readonly LedgerRecord[]): PolicyFile {
  const callsOf = new Map<Request["kind"], Set<string>>();
  for (const { request, call, outcome, verdict } of records) {
    if (verdict !== "granted" || outcome.kind === "misuse") continue;
    const calls = callsOf.get(request.kind) ?? new Set();
    callsOf.set(request.kind, calls.add(call));
  }
  const kindsOf = new Map<string, { request: Request["kind"][]; call: string[] }>();
  for (const [kind, calls] of callsOf) {
    const call = [...calls].sort();
    const key = JSON.stringify(call);
    const group = kindsOf.get(key) ?? { request: [], call };
    group.request.push(kind);
    kindsOf.set(key, group);
  }
  const rules = [...kindsOf.values()].map(({ request, call }) => ({
    action: "allow" as const,
    request: request.sort(),
    call,
  }));
  return { version: 1, default: "deny", rules };
}
