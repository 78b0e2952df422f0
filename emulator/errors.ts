/**
 * The three errors that cross rooms. Each has one reader: the guest (as EFAULT), the user (one paragraph), or us.
 */

/** Guest memory could not be read or written; inside a system call the guest gets EFAULT. */
export class MemoryFault extends Error {
  override readonly name = "MemoryFault";
  /** The first guest address that could not be reached. */
  readonly address: number;
  readonly access: "read" | "write";

  constructor(address: number, access: "read" | "write") {
    super(`cannot ${access} guest memory at 0x${address.toString(16)}`);
    this.address = address;
    this.access = access;
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
