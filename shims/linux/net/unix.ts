import { Errno } from "../errno.ts";
import type { Task } from "../task.ts";
import { contextOf } from "../vfs/call-context.ts";
import { make } from "../vfs/change.ts";
import { fail, VfsError } from "../vfs/error.ts";
import { S_IFSOCK, W_OK } from "../vfs/flags.ts";
import { demand, type Inode } from "../vfs/inode.ts";
import type { OpenFile } from "../vfs/open-file.ts";
import { find } from "../vfs/walk.ts";
import { familyOf, SOCKADDR_UN } from "./address.ts";
import { AF_UNIX, MSG_PEEK, SOL_SOCKET } from "./constants.ts";
import { So } from "./options.ts";
import { type Outgoing, Socket, type Ucred } from "./socket.ts";

const UNNAMED = Uint8Array.of(AF_UNIX, 0);
/** sun_path begins here. */
const PATH = 2;
/** What a receiver with SO_PASSCRED sees of a message that carries no credentials (overflowuid). */
const NOBODY: Ucred = { pid: 0, uid: 65534, gid: 65534 };

/** A message, or a piece of a stream, in the receiver's queue. */
export interface UnixPacket {
  readonly bytes: Uint8Array;
  /** Bytes a stream's reader has taken. */
  taken: number;
  /** Charged to the sender until it is read. */
  readonly cost: number;
  readonly sender: UnixSocket;
  rights: readonly OpenFile[] | undefined;
  readonly creds: Ucred | undefined;
}

/** The names of AF_UNIX sockets of one run: abstract ones by type and bytes, others by the inode of their file. */
export class UnixNames {
  readonly #abstract = new Map<string, UnixSocket>();
  readonly #files = new WeakMap<Inode, UnixSocket>();
  #autobind: number;

  constructor(firstName: number) {
    this.#autobind = firstName;
  }

  abstract(type: number, name: Uint8Array): UnixSocket | undefined {
    return this.#abstract.get(keyOf(type, name));
  }

  file(inode: Inode): UnixSocket | undefined {
    return this.#files.get(inode);
  }

  /** @returns false when the name is taken */
  addAbstract(name: Uint8Array, socket: UnixSocket): boolean {
    const key = keyOf(socket.type, name);
    if (this.#abstract.has(key)) return false;
    this.#abstract.set(key, socket);
    return true;
  }

  addFile(inode: Inode, socket: UnixSocket): void {
    this.#files.set(inode, socket);
  }

  remove(type: number, name: Uint8Array): void {
    this.#abstract.delete(keyOf(type, name));
  }

  /** The next name of five digits for a socket that does not care (unix(7), autobind). */
  next(): Uint8Array {
    this.#autobind = (this.#autobind + 1) & 0xfffff;
    return Buffer.from(`\0${this.#autobind.toString(16).padStart(5, "0")}`, "latin1");
  }
}

const keyOf = (type: number, name: Uint8Array): string => `${type}${latin1(name)}`;

const latin1 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");

/** sun_path as a path of the VFS: up to its NUL. */
function pathOf(address: Uint8Array): string {
  const path = address.subarray(PATH);
  const end = path.indexOf(0);
  return latin1(end < 0 ? path : path.subarray(0, end));
}

function withFamily(path: Uint8Array): Uint8Array {
  const address = new Uint8Array(PATH + path.length);
  address[0] = AF_UNIX;
  address.set(path, PATH);
  return address;
}

/** What all AF_UNIX sockets share: names, the queue of what was sent to them, and what they may have under way. */
export abstract class UnixSocket extends Socket {
  /** Its name as getsockname tells it. */
  protected name: Uint8Array = UNNAMED;
  /** What waits to be read. */
  readonly inbox: UnixPacket[] = [];
  /** Cost of what it has sent and nobody has read. */
  protected inFlight = 0;
  dead = false;
  #boundAbstract = false;
  #boundInode: Inode | undefined;

  get localAddress(): Uint8Array {
    return this.name;
  }

  get isBound(): boolean {
    return this.name.length > PATH;
  }

  bind(task: Task, address: Uint8Array): number {
    if (familyOf(address) !== AF_UNIX || address.length > SOCKADDR_UN) return -Errno.EINVAL;
    if (address.length === PATH) return this.isBound ? 0 : this.autobind();
    if (this.isBound) return -Errno.EINVAL;
    if (address[PATH] === 0) return this.#bindAbstract(address.slice());
    const path = pathOf(address);
    const context = contextOf(task);
    try {
      const mode = S_IFSOCK | (0o777 & ~task.process.fs.umask);
      const { inode } = make(context, context.cwd, path, mode);
      this.network.unixNames.addFile(inode, this);
      this.#boundInode = inode;
      inode.hold();
    } catch (error) {
      if (error instanceof VfsError && error.errno === Errno.EEXIST)
        fail(Errno.EADDRINUSE, `"${path}" is there already`);
      throw error;
    }
    this.name = withFamily(Buffer.from(`${path}\0`, "latin1"));
    return 0;
  }

  #bindAbstract(address: Uint8Array): number {
    if (!this.network.unixNames.addAbstract(address.subarray(PATH), this)) return -Errno.EADDRINUSE;
    this.#boundAbstract = true;
    this.name = address;
    return 0;
  }

  /** Gives the socket an abstract name that nobody has. */
  protected autobind(): number {
    for (let attempt = 0; attempt < 0x100000; attempt++) {
      if (this.#bindAbstract(withFamily(this.network.unixNames.next())) === 0) return 0;
    }
    return -Errno.ENOSPC;
  }

  /** A receiver that asks for credentials gets a name to answer to. */
  protected autobindForCredentials(): void {
    if (this.passesCreds && !this.isBound) this.autobind();
  }

  get passesCreds(): boolean {
    return this.options.has(SOL_SOCKET, So.SO_PASSCRED);
  }

  /** The socket a name stands for. ECONNREFUSED where nobody listens to it, EPROTOTYPE for one of another type. */
  protected findPeer(task: Task, address: Uint8Array): UnixSocket {
    if (familyOf(address) !== AF_UNIX || address.length <= PATH || address.length > SOCKADDR_UN) {
      return fail(Errno.EINVAL, "no AF_UNIX address");
    }
    const names = this.network.unixNames;
    let found: UnixSocket | undefined;
    if (address[PATH] === 0) found = names.abstract(this.type, address.subarray(PATH));
    else {
      const context = contextOf(task);
      const { inode } = find(context, context.cwd, pathOf(address), true);
      demand(inode, context.creds, W_OK);
      found = inode.kind === S_IFSOCK ? names.file(inode) : undefined;
    }
    if (found === undefined || found.dead) return fail(Errno.ECONNREFUSED, "no socket of this run has that name");
    if (found.type !== this.type) return fail(Errno.EPROTOTYPE, "that socket has another type");
    return found;
  }

  /** unix_writable: what poll calls writable leaves three quarters of the buffer. */
  protected get hasRoom(): boolean {
    return this.inFlight * 4 <= this.options.sendBuffer;
  }

  /** True when nothing more may be sent until somebody reads. */
  protected get isFull(): boolean {
    return this.inFlight >= this.options.sendBuffer;
  }

  /** Queues a message at `to`. */
  protected deliver(to: UnixSocket, bytes: Uint8Array, cost: number, out: Outgoing, given = out.rights): void {
    const rights = given !== undefined && given.length > 0 ? given : undefined;
    if (rights !== undefined) for (const file of rights) file.retain();
    const creds = out.creds ?? (this.passesCreds || to.passesCreds ? this.network.senderCreds() : undefined);
    to.inbox.push({ bytes: bytes.slice(), taken: 0, cost, sender: this, rights, creds });
    this.inFlight += cost;
    if (rights !== undefined) this.network.passedFiles.sent(to);
    to.readQueue.wake();
  }

  /** The packet leaves the queue. */
  protected consumed(packet: UnixPacket): void {
    const { sender } = packet;
    sender.inFlight -= packet.cost;
    if (sender.hasRoom) sender.writeQueue.wake();
  }

  /** The descriptors of a packet, for the receiver; with MSG_PEEK they also stay. */
  protected takeRights(packet: UnixPacket, flags: number): readonly OpenFile[] | undefined {
    const { rights } = packet;
    if (rights === undefined) return undefined;
    if (flags & MSG_PEEK) for (const file of rights) file.retain();
    else packet.rights = undefined;
    return rights;
  }

  /** What SCM_CREDENTIALS tells the receiver; undefined where it did not ask. */
  protected credsFor(packet: UnixPacket): Ucred | undefined {
    return this.passesCreds ? (packet.creds ?? NOBODY) : undefined;
  }

  /** Throws away what was not read. */
  purge(): void {
    for (const packet of this.inbox.splice(0)) {
      for (const file of packet.rights ?? []) file.release();
      this.consumed(packet);
    }
  }

  /** Gives the name up. */
  protected unbind(): void {
    this.dead = true;
    if (this.#boundAbstract) this.network.unixNames.remove(this.type, this.name.subarray(PATH));
    this.#boundInode?.drop();
    this.#boundInode = undefined;
  }
}
