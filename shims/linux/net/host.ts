/**
 * The host's network, as far as Node gives it to programs. Without `--net host` there is none of this. What Node does is told by
 * callbacks, so a call that must know how it went waits for one; what goes on between calls wakes whoever waits on the socket.
 */
import type dgram from "node:dgram";
import type net from "node:net";
import { Errno } from "../errno.ts";
import { hostErrno } from "../vfs/error.ts";
import { type Endpoint, type Ip, ipText, isV4 } from "./address.ts";
import { AF_INET6 } from "./constants.ts";

/** How long a run that has ended goes on sending what its sockets still have, ms. */
const PATIENCE_MS = 2000;

export class HostNetwork {
  readonly net: typeof net;
  readonly dgram: typeof dgram;
  readonly #closing = new Set<net.Socket>();
  /** Ports of TCP sockets that are bound and do not listen, which the host does not know: a connection there is refused. */
  readonly silent = new Set<number>();
  /** Sockets of the host that are open: while there are any, turns have an end. */
  active = 0;

  constructor(modules: { readonly net: typeof net; readonly dgram: typeof dgram }) {
    this.net = modules.net;
    this.dgram = modules.dgram;
  }

  /** Sends what is left and closes. */
  finish(socket: net.Socket): void {
    this.#closing.add(socket);
    socket.once("close", () => this.#closing.delete(socket));
    socket.destroySoon();
  }

  /** The run has ended: waits until all is sent, or for two seconds. */
  async settle(): Promise<void> {
    if (this.#closing.size === 0) return;
    const closed = [...this.#closing].map(
      (socket) => new Promise<void>((resolve) => socket.once("close", () => resolve())),
    );
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, PATIENCE_MS);
    });
    await Promise.race([Promise.all(closed), late]);
    clearTimeout(timer);
    for (const socket of this.#closing) socket.destroy();
  }
}

/** An address as the host's functions take it. An AF_INET6 socket reaches IPv4 by mapped addresses. */
export function hostAddress(domain: number, ip: Ip): string {
  const text = ipText(ip);
  return domain === AF_INET6 && isV4(ip) ? `::ffff:${text}` : text;
}

/** From what Node says: `127.0.0.1`, `::1`, `::ffff:127.0.0.1`, `fe80::1%eth0`. */
export function hostEndpoint(address: string, port: number): Endpoint {
  const [text = ""] = address.split("%");
  const last = text.slice(text.lastIndexOf(":") + 1);
  const v4 = last.includes(".") ? hexBytes(last.split(".").map(Number), 2) : undefined;
  if (v4 !== undefined) return { ip: v4, port };
  const [head = "", tail] = text.split("::");
  const groups = (part: string): number[] =>
    part === "" ? [] : part.split(":").map((group) => Number.parseInt(group, 16));
  const before = groups(head);
  const after = tail === undefined ? [] : groups(tail);
  const zeroes = Array.from({ length: 8 - before.length - after.length }, () => 0);
  return { ip: hexBytes([...before, ...zeroes, ...after], 4), port };
}

function hexBytes(numbers: readonly number[], digits: number): string {
  return numbers.map((number) => number.toString(16).padStart(digits, "0")).join("");
}

/** A failure of the host's network as an errno; those without a name of Linux's are EIO. */
export function networkErrno(error: unknown): number {
  return hostErrno(error) ?? Errno.EIO;
}
