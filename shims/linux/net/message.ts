/** `struct msghdr` and its control messages, as each ABI lays them out (net/socket.c, net/compat.c, net/core/scm.c). */

import { Errno } from "../errno.ts";
import { address, i32, struct, u32, ulong } from "../kinds/structs.ts";
import { kernelId } from "../namespaces/user.ts";
import { Cap } from "../process/capabilities.ts";
import type { Task } from "../task.ts";
import { descriptorLimit, openFileOf } from "../vfs/call-context.ts";
import { fail } from "../vfs/error.ts";
import type { OpenFile } from "../vfs/open-file.ts";
import {
  IPPROTO_IP,
  IPPROTO_IPV6,
  MSG_CMSG_CLOEXEC,
  MSG_CTRUNC,
  SCM_CREDENTIALS,
  SCM_MAX_FD,
  SCM_RIGHTS,
  SOL_SOCKET,
} from "./constants.ts";
import type { Control, Incoming, SentControl, Ucred } from "./socket.ts";

export const msghdr = struct({
  msg_name: address,
  msg_namelen: i32,
  msg_iov: address,
  msg_iovlen: ulong,
  msg_control: address,
  msg_controllen: ulong,
  msg_flags: u32,
});
export type MsgHdr = ReturnType<typeof msghdr.read>;
export const mmsghdr = struct({ msg_hdr: msghdr, msg_len: u32 });

/** net.core.optmem_max. */
const MAX_CONTROL = 131_072;
const UCRED_BYTES = 12;

interface Sent {
  readonly rights: readonly OpenFile[];
  readonly creds: Ucred | undefined;
  readonly controls: readonly SentControl[];
}

/** Header bytes of a cmsghdr: a size_t and two ints. */
const headerBytes = (task: Task): number => task.abi.word + 8;
const aligned = (task: Task, bytes: number): number => Math.ceil(bytes / task.abi.word) * task.abi.word;

/** Reads the control messages of sendmsg. @param forUnix others take neither descriptors nor credentials, and ignore them */
export function readControl(task: Task, at: number, length: number, forUnix: boolean): Sent {
  const { memory, abi } = task;
  const rights: OpenFile[] = [];
  const controls: SentControl[] = [];
  let creds: Ucred | undefined;
  if (length > MAX_CONTROL) fail(Errno.ENOBUFS, "more control data than net.core.optmem_max");
  const header = headerBytes(task);
  for (let offset = 0; offset + header <= length; ) {
    const start = at + offset;
    const size = abi.word === 8 ? memory.num64(start) : memory.u32(start);
    if (size < header || offset + size > length) fail(Errno.EINVAL, "a control message with a wrong length");
    const level = memory.i32(start + abi.word);
    const type = memory.i32(start + abi.word + 4);
    if (level === SOL_SOCKET && forUnix) {
      const data = start + header;
      if (type === SCM_RIGHTS) rights.push(...readRights(task, data, size - header, rights.length));
      else if (type === SCM_CREDENTIALS) creds = readCreds(task, data, size - header);
      else fail(Errno.EINVAL, "an unknown control message");
    } else if (level === IPPROTO_IP || level === IPPROTO_IPV6) {
      controls.push({ level, type, data: memory.bytes(start + header, size - header) });
    }
    offset += aligned(task, size);
  }
  return { rights, creds, controls };
}

function readRights(task: Task, at: number, bytes: number, before: number): OpenFile[] {
  const count = Math.floor(bytes / 4);
  if (count + before > SCM_MAX_FD) fail(Errno.EINVAL, "more than 253 descriptors in one message");
  return Array.from({ length: count }, (_, index) => openFileOf(task, task.memory.i32(at + 4 * index)));
}

function readCreds(task: Task, at: number, bytes: number): Ucred {
  if (bytes !== UCRED_BYTES) fail(Errno.EINVAL, "struct ucred has 12 bytes");
  const { memory, process } = task;
  const { cred } = process;
  const uid = kernelId(cred.userNamespace, "uid", memory.u32(at + 4)) ?? fail(Errno.EINVAL, "no such user");
  const gid = kernelId(cred.userNamespace, "gid", memory.u32(at + 8)) ?? fail(Errno.EINVAL, "no such group");
  const creds = { pid: memory.i32(at), uid, gid };
  const own = (id: number, ids: readonly number[], cap: Cap) => ids.includes(id) || cred.has(cap);
  const honest =
    own(creds.pid, [process.pid], Cap.CAP_SYS_ADMIN) &&
    own(creds.uid, [cred.ruid, cred.euid, cred.suid], Cap.CAP_SETUID) &&
    own(creds.gid, [cred.rgid, cred.egid, cred.sgid], Cap.CAP_SETGID);
  if (!honest) fail(Errno.EPERM, "credentials that are not the sender's own");
  return creds;
}

/** Writes control messages into the receiver's buffer. */
class ControlWriter {
  readonly #task: Task;
  #at: number;
  #left: number;
  #written = 0;
  truncated = false;

  constructor(task: Task, at: number, length: number) {
    this.#task = task;
    this.#at = at;
    this.#left = at === 0 ? 0 : length;
  }

  get written(): number {
    return this.#written;
  }

  /** Bytes of data that fit one more message. */
  get room(): number {
    return Math.max(this.#left - headerBytes(this.#task), 0);
  }

  put(level: number, type: number, data: Uint8Array): void {
    const header = headerBytes(this.#task);
    if (this.#left < header) {
      this.truncated = true;
      return;
    }
    const size = Math.min(header + data.length, this.#left);
    if (size < header + data.length) this.truncated = true;
    const { memory, abi } = this.#task;
    if (abi.word === 8) memory.setNum64(this.#at, size);
    else memory.setU32(this.#at, size);
    memory.setU32(this.#at + abi.word, level);
    memory.setU32(this.#at + abi.word + 4, type);
    memory.write(this.#at + header, data.subarray(0, size - header));
    const space = Math.min(aligned(this.#task, header + data.length), this.#left);
    this.#at += space;
    this.#left -= space;
    this.#written += space;
  }
}

function words(values: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(values.length * 4);
  const view = new DataView(bytes.buffer);
  for (const [index, value] of values.entries()) view.setInt32(4 * index, value | 0, true);
  return bytes;
}

function controlData(task: Task, data: Control["data"]): Uint8Array {
  if (data instanceof Uint8Array) return data;
  return words(task.abi.word === 4 ? data : data.flatMap((value) => [value | 0, Math.floor(value / 2 ** 32)]));
}

/** Gives the receiver its control messages. @returns what msg_flags gets, and the bytes used */
export function writeControl(
  task: Task,
  incoming: Incoming,
  at: number,
  length: number,
  flags: number,
): { flags: number; length: number } {
  const writer = new ControlWriter(task, at, length);
  for (const { level, type, data } of incoming.controls ?? []) writer.put(level, type, controlData(task, data));
  const { creds } = incoming;
  if (creds !== undefined) writer.put(SOL_SOCKET, SCM_CREDENTIALS, words([creds.pid, creds.uid, creds.gid]));
  if (incoming.rights !== undefined) giveRights(task, incoming.rights, writer, (flags & MSG_CMSG_CLOEXEC) !== 0);
  return { flags: writer.truncated ? MSG_CTRUNC : 0, length: writer.written };
}

/** scm_detach_fds: as many descriptors as fit the buffer and the table, the others are closed. */
function giveRights(task: Task, rights: readonly OpenFile[], writer: ControlWriter, closeOnExec: boolean): void {
  const given: number[] = [];
  const most = Math.floor(writer.room / 4);
  for (const file of rights) {
    const fd = given.length < most ? task.process.files.add(file, descriptorLimit(task), closeOnExec) : -1;
    if (fd >= 0 && given.length < most) given.push(fd);
    else writer.truncated = true;
    file.release();
  }
  if (given.length > 0) writer.put(SOL_SOCKET, SCM_RIGHTS, words(given));
}
