/** /proc/sysvipc (ipc/msg.c, sem.c, shm.c: their seq_show functions). */
import type { IpcObject } from "../../ipc/table.ts";
import { PAGE } from "../../memory/pages.ts";
import type { Kernel } from "../../task.ts";
import type { Inode } from "../inode.ts";

const right = (value: number | string, width: number): string => String(value).padStart(width);
const name = ({ key, id, mode }: IpcObject): string =>
  `${right(key, 10)} ${right(id, 10)}  ${right(mode.toString(8), 4)}`;
const owners = ({ uid, gid, cuid, cgid }: IpcObject): string =>
  [uid, gid, cuid, cgid].map((id) => right(id, 5)).join(" ");
const times = (...all: number[]): string => all.map((time) => right(time, 10)).join(" ");

function messagesText(kernel: Kernel): string {
  let text =
    "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n";
  for (const queue of kernel.ipc.messages.table.values()) {
    const { bytes, messages, sendPid, receivePid, sendTime, receiveTime, changeTime } = queue;
    text +=
      `${name(queue)}  ${right(bytes, 10)} ${right(messages.length, 10)} ${right(sendPid, 5)} ${right(receivePid, 5)} ` +
      `${owners(queue)} ${times(sendTime, receiveTime, changeTime)}\n`;
  }
  return text;
}

function semaphoresText(kernel: Kernel): string {
  let text = "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n";
  for (const set of kernel.ipc.semaphores.table.values())
    text += `${name(set)} ${right(set.values.length, 10)} ${owners(set)} ${times(set.operationTime, set.changeTime)}\n`;
  return text;
}

function segmentsText(kernel: Kernel): string {
  let text =
    "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap\n";
  const { sharedMemory } = kernel.ipc;
  for (const segment of sharedMemory.table.values()) {
    const { pages, size, makerPid, lastPid, attachTime, detachTime, changeTime } = segment;
    const rss = pages.frameCount * PAGE;
    text +=
      `${name(segment)} ${right(size, 21)} ${right(makerPid, 5)} ${right(lastPid, 5)}  ${right(sharedMemory.attached(segment), 5)} ` +
      `${owners(segment)} ${times(attachTime, detachTime, changeTime)} ${right(rss, 21)} ${right(0, 21)}\n`;
  }
  return text;
}

/** @param file makes a file whose text is made up when it is read */
export function sysvipc(kernel: Kernel, file: (content: () => string) => Inode): Readonly<Record<string, Inode>> {
  return {
    msg: file(() => messagesText(kernel)),
    sem: file(() => semaphoresText(kernel)),
    shm: file(() => segmentsText(kernel)),
  };
}
