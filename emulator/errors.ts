/**
 * The three errors that cross rooms. Each has one reader: the guest (as EFAULT), the user (one paragraph), or us.
 */

/** An address below a small stack pointer is negative here, and wraps around in the guest. */
function addressText(address: number): string {
  return `0x${(address < 0 ? BigInt.asUintN(64, BigInt(address)) : address).toString(16)}`;
}

/** Guest memory could not be read or written; inside a system call the guest gets EFAULT. */
export class MemoryFault extends Error {
  override readonly name = "MemoryFault";
  /** The first guest address that could not be reached. */
  readonly address: number;
  readonly access: "read" | "write";

  constructor(address: number, access: "read" | "write") {
    super(`cannot ${access} guest memory at ${addressText(address)}`);
    this.address = address;
    this.access = access;
  }

  /** The address as one prints it: 0x and hexadecimal digits. */
  get place(): string {
    return addressText(this.address);
  }
}

/**
 * The user's input is wrong. The message is one paragraph that starts in lower case and is printed after `shimbed: `.
 * Exit codes follow env(1): 125 the testbed itself was asked wrongly, 126 the guest cannot be run, 127 there is no such guest.
 */
export class UserError extends Error {
  override readonly name: string = "UserError";
  readonly exitCode: number;

  constructor(message: string, exitCode: number) {
    super(message);
    this.exitCode = exitCode;
  }
}

/** A bug of ours. It never reaches the guest as an errno and ends the run with exit code 125. */
export class TestbedError extends Error {
  override readonly name = "TestbedError";
}
