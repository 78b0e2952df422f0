/** Process groups that nobody is left to continue (setpgid(2), kernel/exit.c). */
import { sendToProcess } from "../signals/send.ts";
import { SigInfo } from "../signals/siginfo.ts";
import type { Process } from "../task.ts";

const SIGHUP = 1;
const SIGCONT = 18;

/**
 * When a process ends, or loses its parent, its group may become orphaned: its stopped members are hung up and continued, as no
 * shell will (kill_orphaned_pgrp).
 * @param lost the parent that has ended, of a child that has just been given to another
 */
export function hangUpOrphans(process: Process, lost?: Process): void {
  const { kernel, pgid, sid } = process;
  const above = lost ?? process.parent;
  // Only a link out of the group, within the session, can have been the last one.
  if (above === undefined || above.pgid === pgid || above.sid !== sid) return;
  const members: Process[] = [];
  for (const member of kernel.processes.values()) {
    if (member.pgid !== pgid || member.ended || (lost === undefined && member === process)) continue;
    const { parent } = member;
    if (parent !== undefined && parent.pgid !== pgid && parent.sid === sid) return;
    members.push(member);
  }
  if (!members.some((member) => member.signals.stoppedBy !== 0)) return;
  for (const signal of [SIGHUP, SIGCONT]) {
    for (const member of members) sendToProcess(member, SigInfo.sent(signal, 0x80, 0, 0));
  }
}
