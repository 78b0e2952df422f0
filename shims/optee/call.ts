/** What a handler of a system call gets: who calls, and the TEE around it. */
import type { Instance } from "./instance.ts";
import type { LdelfContext } from "./ldelf.ts";
import type { TaMemory } from "./memory.ts";
import type { Session } from "./session.ts";
import type { Tee } from "./tee.ts";

export class Call {
  readonly tee: Tee;
  readonly instance: Instance;
  readonly memory: TaMemory;
  /** The session the TA was entered for; absent while it is loaded. */
  readonly session: Session | undefined;
  /** Present while ldelf runs. */
  readonly ldelf: LdelfContext | undefined;

  constructor(tee: Tee, instance: Instance, session: Session | undefined, ldelf?: LdelfContext) {
    this.tee = tee;
    this.instance = instance;
    this.memory = instance.memory;
    this.session = session;
    this.ldelf = ldelf;
  }
}
