/** The ioctl requests about network interfaces (netdevice(7)): there is one, `lo`. */

import { Errno } from "../errno.ts";
import { Cap } from "../process/capabilities.ts";
import type { Task } from "../task.ts";
import { addressOf, LOOPBACK4 } from "./address.ts";
import {
  AF_INET,
  SIOCGIFADDR,
  SIOCGIFCONF,
  SIOCGIFFLAGS,
  SIOCGIFHWADDR,
  SIOCGIFINDEX,
  SIOCGIFMTU,
  SIOCGIFNAME,
  SIOCGIFNETMASK,
  SIOCSIFADDR,
  SIOCSIFFLAGS,
  SIOCSIFNETMASK,
} from "./constants.ts";
import { ARPHRD_LOOPBACK, LO_FLAGS, LO_INDEX, LO_MTU } from "./netlink.ts";

const IFNAMSIZ = 16;
const NETMASK = "ff000000";

const name = (): Uint8Array => {
  const bytes = new Uint8Array(IFNAMSIZ);
  bytes.set(Buffer.from("lo", "latin1"));
  return bytes;
};

/** A result, or undefined for a request that is none of these. */
export function interfaceRequest(task: Task, request: number, at: number): number | undefined {
  const { memory, abi } = task;
  const value = at + IFNAMSIZ;
  if (request === SIOCGIFCONF) {
    const list = abi.word === 8 ? memory.num64(at + 8) : memory.u32(at + 4);
    const bytes = abi.word === 8 ? 40 : 32;
    const room = memory.i32(at);
    const fits = list === 0 || room >= bytes;
    if (list !== 0 && fits) {
      const entry = new Uint8Array(bytes);
      entry.set(name());
      entry.set(addressOf(AF_INET, { ip: LOOPBACK4, port: 0 }), IFNAMSIZ);
      memory.write(list, entry);
    }
    memory.setU32(at, fits ? bytes : 0);
    return 0;
  }
  if (request === SIOCGIFNAME) {
    if (memory.i32(value) !== LO_INDEX) return task.fail(Errno.ENODEV, "there is only interface 1, lo");
    memory.write(at, name());
    return 0;
  }
  if (request === SIOCSIFFLAGS || request === SIOCSIFADDR || request === SIOCSIFNETMASK) {
    const named = Buffer.from(memory.bytes(at, abi.word === 8 ? 40 : 32)).toString("latin1", 0, IFNAMSIZ);
    if (!task.process.cred.capable(Cap.CAP_NET_ADMIN)) return task.fail(Errno.EPERM, "needs CAP_NET_ADMIN");
    if (named.replace(/\0.*$/s, "") !== "lo") return task.fail(Errno.ENODEV, "there is only the interface lo");
    // It is as it is: what asks for just that is content.
    return 0;
  }
  const answers: ReadonlyMap<number, () => void> = new Map([
    [SIOCGIFFLAGS, () => memory.setU16(value, LO_FLAGS)],
    [SIOCGIFADDR, () => memory.write(value, addressOf(AF_INET, { ip: LOOPBACK4, port: 0 }))],
    [SIOCGIFNETMASK, () => memory.write(value, addressOf(AF_INET, { ip: NETMASK, port: 0 }))],
    [SIOCGIFMTU, () => memory.setU32(value, LO_MTU)],
    [SIOCGIFINDEX, () => memory.setU32(value, LO_INDEX)],
    [
      SIOCGIFHWADDR,
      () => memory.write(value, Uint8Array.from([ARPHRD_LOOPBACK & 0xff, ARPHRD_LOOPBACK >> 8, 0, 0, 0, 0, 0, 0])),
    ],
  ]);
  const answer = answers.get(request);
  if (answer === undefined) return undefined;
  if (memory.cstring(at, IFNAMSIZ) !== "lo") return task.fail(Errno.ENODEV, "there is only the interface lo");
  answer();
  return 0;
}
