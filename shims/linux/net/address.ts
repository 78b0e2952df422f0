/** `struct sockaddr` in its forms: read from guest bytes, made for the guest, printed as strace does. */
import { quoteBytes } from "../kinds/memory.ts";
import { AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, AF_UNSPEC } from "./constants.ts";

/**
 * An IP address as hexadecimal digits of its bytes: 8 digits for IPv4, 32 for IPv6. IPv4 addresses inside IPv6 (::ffff:a.b.c.d) are
 * kept as IPv4, because that is what they mean.
 */
export type Ip = string;

export const ANY4: Ip = "00000000";
export const ANY6: Ip = "0".repeat(32);
export const LOOPBACK4: Ip = "7f000001";
export const LOOPBACK6: Ip = `${"0".repeat(31)}1`;
const MAPPED = "00000000000000000000ffff";

export interface Endpoint {
  readonly ip: Ip;
  readonly port: number;
}

export const isV4 = (ip: Ip): boolean => ip.length === 8;
export const isAny = (ip: Ip): boolean => ip === ANY4 || ip === ANY6;
export const isLoopback = (ip: Ip): boolean => (isV4(ip) ? ip.startsWith("7f") : ip === LOOPBACK6);
export const isMulticast = (ip: Ip): boolean =>
  isV4(ip) ? "ef".includes(ip[0] ?? "") && ip[0] === "e" : ip.startsWith("ff");
export const isBroadcast = (ip: Ip): boolean => ip === "ffffffff";

export const SOCKADDR_IN = 16;
const SOCKADDR_IN6 = 28;
/** Without sin6_scope_id (RFC 2133), which Linux still takes. */
export const SOCKADDR_IN6_SHORT = 24;
export const SOCKADDR_UN = 110;
/** Largest address the kernel takes (sockaddr_storage). */
export const SOCKADDR_MAX = 128;

export function familyOf(address: Uint8Array): number {
  return address.length < 2 ? AF_UNSPEC : (address[0] ?? 0) | ((address[1] ?? 0) << 8);
}

const digits = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

/** From sockaddr_in or sockaddr_in6; the lengths are the caller's to check. */
export function endpointOf(address: Uint8Array): Endpoint {
  const port = ((address[2] ?? 0) << 8) | (address[3] ?? 0);
  if (familyOf(address) === AF_INET) return { ip: digits(address.subarray(4, 8)), port };
  const ip = digits(address.subarray(8, 24));
  return { ip: ip.startsWith(MAPPED) ? ip.slice(24) : ip, port };
}

/** As a socket of `family` tells it: on AF_INET6 an IPv4 address comes mapped. */
export function addressOf(family: number, { ip, port }: Endpoint): Uint8Array {
  const v6 = family === AF_INET6;
  const address = new Uint8Array(v6 ? SOCKADDR_IN6 : SOCKADDR_IN);
  address[0] = family;
  address[2] = port >> 8;
  address[3] = port & 0xff;
  address.set(ipBytes(family, ip), v6 ? 8 : 4);
  return address;
}

export function ipBytes(family: number, ip: Ip): Uint8Array {
  if (family === AF_INET) return Buffer.from(isV4(ip) ? ip : ANY4, "hex");
  if (!isV4(ip)) return Buffer.from(ip, "hex");
  return Buffer.from(ip === ANY4 ? ANY6 : MAPPED + ip, "hex");
}

/** `127.0.0.1`, `::1`. */
export function ipText(ip: Ip): string {
  const bytes = Buffer.from(ip, "hex");
  if (isV4(ip)) return bytes.join(".");
  const groups = (ip.match(/.{4}/g) ?? []).map((group) => Number.parseInt(group, 16).toString(16));
  // The longest run of zero groups becomes `::` (RFC 5952).
  const text = groups.join(":");
  const runs = [...text.matchAll(/(?:^|:)0(?::0)+(?=:|$)/g)].sort((a, b) => b[0].length - a[0].length);
  const longest = runs[0];
  if (longest === undefined) return text;
  const before = text.slice(0, longest.index);
  const after = text.slice(longest.index + longest[0].length);
  return `${before}::${after.replace(/^:/, "")}`;
}

/** sun_path: up to its NUL where it is a path, all bytes where it is abstract. */
function unixPathText(path: Uint8Array): string {
  if (path[0] === 0 && path.length > 0) return `@${quoteBytes(path.subarray(1))}`;
  const end = path.indexOf(0);
  return quoteBytes(end < 0 ? path : path.subarray(0, end));
}

const FAMILY_NAMES: ReadonlyMap<number, string> = new Map([
  [AF_UNSPEC, "AF_UNSPEC"],
  [AF_UNIX, "AF_UNIX"],
  [AF_INET, "AF_INET"],
  [AF_INET6, "AF_INET6"],
  [AF_NETLINK, "AF_NETLINK"],
  [17, "AF_PACKET"],
  [38, "AF_ALG"],
  [40, "AF_VSOCK"],
]);

export function familyText(family: number): string {
  return FAMILY_NAMES.get(family) ?? `0x${(family >>> 0).toString(16)} /* AF_??? */`;
}

export function addressText(address: Uint8Array): string {
  const family = familyOf(address);
  const head = `sa_family=${familyText(family)}`;
  if (family === AF_UNIX) {
    const path = address.subarray(2);
    return path.length === 0 ? `{${head}}` : `{${head}, sun_path=${unixPathText(path)}}`;
  }
  if (family === AF_INET && address.length >= SOCKADDR_IN) {
    const { ip, port } = endpointOf(address);
    return `{${head}, sin_port=htons(${port}), sin_addr=inet_addr("${ipText(ip)}")}`;
  }
  if (family === AF_INET6 && address.length >= SOCKADDR_IN6_SHORT) {
    const port = ((address[2] ?? 0) << 8) | (address[3] ?? 0);
    return `{${head}, sin6_port=htons(${port}), inet_pton(AF_INET6, "${ipText(digits(address.subarray(8, 24)))}")}`;
  }
  if (family === AF_NETLINK && address.length >= 12) {
    const view = new DataView(address.buffer, address.byteOffset);
    return `{${head}, nl_pid=${view.getUint32(4, true)}, nl_groups=${view.getUint32(8, true)}}`;
  }
  return `{${head}}`;
}
