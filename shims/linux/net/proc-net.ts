/** /proc/net: the sockets of a run and its one interface, as the kernel's tables print them. */
import type { Kernel } from "../task.ts";
import type { FileSystem, Inode } from "../vfs/inode.ts";
import { fixedDirectory, ProcText } from "../vfs/proc/proc.ts";
import { type Ip, ipBytes } from "./address.ts";
import { AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP } from "./constants.ts";
import { InetSocket } from "./inet.ts";
import { NetlinkSocket } from "./netlink.ts";
import { NETSTAT, SNMP } from "./proc-snmp.ts";
import { Socket } from "./socket.ts";
import { UnixSocket } from "./unix.ts";

const LISTEN = 10;
const CLOSE = 7;
/** __SO_ACCEPTCON. */
const LISTENS = 0x1_0000;
const [SS_UNCONNECTED, SS_CONNECTED] = [1, 3];
/** Widths of the tables, without the newline (net/ipv4/tcp_ipv4.c, udp.c, ip_fib.c). */
const [TCP_WIDTH, UDP_WIDTH, ROUTE_WIDTH] = [149, 127, 127];

const hex = (value: number, digits: number): string => value.toString(16).toUpperCase().padStart(digits, "0");
const POINTER = "0".repeat(16);

/** Every socket that some process has open, by inode number. */
function openSockets(kernel: Kernel): Socket[] {
  const found = new Set<Socket>();
  for (const process of kernel.processes.values()) {
    const tables = new Set([process.commonFiles]);
    for (const { ownFiles } of process.tasks) if (ownFiles !== undefined) tables.add(ownFiles);
    for (const table of tables)
      for (const fd of table.numbers()) {
        const file = table.get(fd);
        if (file instanceof Socket) found.add(file);
      }
  }
  return [...found].sort((a, b) => a.inode.ino - b.inode.ino);
}

/** The words of an address, each in the byte order of the machine. */
function words(family: number, ip: Ip): string {
  const bytes = ipBytes(family, ip);
  let text = "";
  for (let at = 0; at < bytes.length; at += 4)
    text += [3, 2, 1, 0].map((index) => hex(bytes[at + index] ?? 0, 2)).join("");
  return text;
}

function endpoint(socket: InetSocket, remote: boolean): string {
  const { ip, port } = (remote ? socket.remote : socket.local) ?? { ip: "", port: 0 };
  const any = "0".repeat(socket.domain === AF_INET6 ? 32 : 8);
  return `${words(socket.domain, ip === "" ? any : ip)}:${hex(port, 4)}`;
}

function inetLines(kernel: Kernel, family: number, protocol: number): InetSocket[] {
  return openSockets(kernel)
    .filter((socket) => socket instanceof InetSocket)
    .filter((socket) => socket.domain === family && socket.protocol === protocol && socket.local.port !== 0);
}

/** What all lines of TCP and UDP begin with. */
function common(socket: InetSocket, index: string): string {
  const listens = socket.stateNumber === LISTEN;
  const queued = listens ? socket.waitingConnections : Math.max(socket.available() ?? 0, 0);
  const { uid, ino } = socket.inode;
  return (
    `${index}: ${endpoint(socket, false)} ${endpoint(socket, true)} ${hex(socket.stateNumber, 2)} ` +
    `${hex(0, 8)}:${hex(queued, 8)} 00:${hex(0, 8)} ${hex(0, 8)} ${String(uid).padStart(5)} ${"0".padStart(8)} ${ino}`
  );
}

function tcpText(kernel: Kernel, family: number): string {
  const wide = family === AF_INET6;
  const title = wide
    ? "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
    : "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
  const width = wide ? 0 : TCP_WIDTH;
  // A socket that is bound and does nothing yet is in no table.
  const sockets = inetLines(kernel, family, IPPROTO_TCP).filter(({ stateNumber }) => stateNumber !== CLOSE);
  const lines = sockets.map((socket, index) => {
    const tail = socket.stateNumber === LISTEN ? "100 0 0 10 0" : "20 4 30 10 -1";
    return `${common(socket, String(index).padStart(4))} 1 ${POINTER} ${tail}`;
  });
  return [title, ...lines].map((line) => `${line.padEnd(width)}\n`).join("");
}

function udpText(kernel: Kernel, family: number): string {
  const wide = family === AF_INET6;
  const title = wide
    ? "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops"
    : "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops";
  const lines = inetLines(kernel, family, IPPROTO_UDP).map(
    (socket, index) => `${common(socket, String(index).padStart(5))} 2 ${POINTER} 0`,
  );
  return [title, ...lines].map((line) => `${line.padEnd(wide ? 0 : UDP_WIDTH)}\n`).join("");
}

function unixText(kernel: Kernel): string {
  let text = "Num       RefCount Protocol Flags    Type St Inode Path\n";
  for (const socket of openSockets(kernel)) {
    if (!(socket instanceof UnixSocket)) continue;
    const { isListening, type, inode } = socket;
    const state = socket.peerAddress === undefined ? SS_UNCONNECTED : SS_CONNECTED;
    const name = Buffer.from(socket.localAddress.subarray(2)).toString("latin1");
    // An abstract name begins with a NUL, and a path ends with one.
    const shown = name.startsWith("\0") ? name.replaceAll("\0", "@") : name.replace(/\0.*$/s, "");
    text +=
      `${POINTER}: ${hex(socket.references + 1, 8)} ${hex(0, 8)} ${hex(isListening ? LISTENS : 0, 8)} ${hex(type, 4)} ` +
      `${hex(state, 2)} ${String(inode.ino).padStart(5)}${shown === "" ? "" : ` ${shown}`}\n`;
  }
  return text;
}

function netlinkText(kernel: Kernel): string {
  let text = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n";
  for (const socket of openSockets(kernel)) {
    if (!(socket instanceof NetlinkSocket)) continue;
    const { protocol, localAddress, inode } = socket;
    const port = new DataView(localAddress.buffer, localAddress.byteOffset).getUint32(4, true);
    const pad = (value: number | string, width: number): string => String(value).padEnd(width);
    text += `${POINTER} ${pad(protocol, 3)} ${pad(port, 10)} ${hex(0, 8)} ${pad(0, 8)} ${pad(0, 8)} ${pad(0, 5)} ${pad(2, 8)} ${pad(0, 8)} ${pad(inode.ino, 8)}\n`;
  }
  return text;
}

function sockstatText(kernel: Kernel): string {
  const sockets = openSockets(kernel);
  const count = (family: number, protocol: number): number =>
    sockets.filter((one) => one.domain === family && one.protocol === protocol).length;
  return (
    `sockets: used ${sockets.length}\nTCP: inuse ${count(AF_INET, IPPROTO_TCP)} orphan 0 tw 0 alloc ${count(AF_INET, IPPROTO_TCP)} mem 0\n` +
    `UDP: inuse ${count(AF_INET, IPPROTO_UDP)} mem 0\nUDPLITE: inuse 0\nRAW: inuse 0\nFRAG: inuse 0 memory 0\n`
  );
}

/** With counters of what has passed the interface: none are kept. */
const DEV =
  "Inter-|   Receive                                                |  Transmit\n" +
  " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n" +
  "    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0\n";
const IF_INET6 = `${"0".repeat(31)}1 01 80 10 80       lo\n`;
const ROUTE = `${"Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT".padEnd(ROUTE_WIDTH)}\n`;
const none = "0".repeat(32);
const IPV6_ROUTE =
  `${"0".repeat(31)}1 80 ${none} 00 ${none} 00000000 00000002 00000000 80200001       lo\n` +
  `${none} 00 ${none} 00 ${none} ffffffff 00000001 00000000 00200200       lo\n`;
const ARP = "IP address       HW type     Flags       HW address            Mask     Device\n";
const RAW =
  "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n";
const PACKET = "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n";

/** The directory `net` of every process: all are in one network. */
export function procNet(fs: FileSystem, kernel: Kernel): Inode {
  const text = (content: () => string): Inode => new ProcText(fs, content);
  return fixedDirectory(fs, {
    arp: text(() => ARP),
    dev: text(() => DEV),
    if_inet6: text(() => IF_INET6),
    ipv6_route: text(() => IPV6_ROUTE),
    netlink: text(() => netlinkText(kernel)),
    netstat: text(() => NETSTAT),
    packet: text(() => PACKET),
    raw: text(() => RAW),
    route: text(() => ROUTE),
    snmp: text(() => SNMP),
    sockstat: text(() => sockstatText(kernel)),
    tcp: text(() => tcpText(kernel, AF_INET)),
    tcp6: text(() => tcpText(kernel, AF_INET6)),
    udp: text(() => udpText(kernel, AF_INET)),
    udp6: text(() => udpText(kernel, AF_INET6)),
    unix: text(() => unixText(kernel)),
  });
}
