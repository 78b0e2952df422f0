/** Sessions and instances: who may open what, entries into TAs, and their end (OP-TEE's tee_ta_manager.c). */

import { MemoryFault } from "../../emulator/errors.ts";
import type { TaBinary } from "./binary.ts";
import { TaFlag } from "./binary.ts";
import { Call } from "./call.ts";
import { uteeCalls } from "./calls/all.ts";
import { Instance } from "./instance.ts";
import { isOutput, PARAM_COUNT, type Params, paramTypes, UTEE_PARAMS_BYTES } from "./params.ts";
import { type PseudoBuffer, PseudoCall, type PseudoTa } from "./pta/pseudo.ts";
import { fail, Origin, TeeError, Tee as TeeResult } from "./results.ts";
import { type Answer, type Identity, type Operation, Session } from "./session.ts";
import type { Tee } from "./tee.ts";

/** enum utee_entry_func. */
const Entry = { open_session: 0, close_session: 1, invoke_command: 2 } as const;
type EntryName = keyof typeof Entry;

/** CFG_CORE_MAX_SYSCALL_RECURSION: TAs that call each other. */
const DEPTH_MAX = 4;
/** LiteBox' limit: ids from 1 to this are given out lowest first. */
const SESSION_MAX = 65536;

export interface Opened extends Answer {
  /** Present when the result is TEE_SUCCESS. */
  readonly session: Session | undefined;
}

export class SessionManager {
  readonly #tee: Tee;
  readonly #sessions = new Map<number, Session>();

  constructor(tee: Tee) {
    this.#tee = tee;
  }

  get(id: number): Session | undefined {
    return this.#sessions.get(id);
  }

  /** Opens a session to a TA or pseudo-TA. The outputs are in `operation.params`. */
  open(uuid: string, operation: Operation): Opened {
    const pseudo = this.#tee.pseudoTas.find((candidate) => candidate.uuid === uuid);
    try {
      return pseudo === undefined ? this.#openTa(uuid, operation) : this.#openPseudo(pseudo, operation);
    } catch (error) {
      if (!(error instanceof TeeError)) throw error;
      return { session: undefined, result: error.result, origin: Origin.TEE, reason: error.message || undefined };
    }
  }

  #openPseudo(pseudo: PseudoTa, operation: Operation): Opened {
    const result = pseudo.open(operation.owner);
    if (result !== TeeResult.SUCCESS)
      return { session: undefined, result, origin: Origin.TEE, reason: `${pseudo.name} does not serve this caller` };
    const session = this.#newSession(operation.client, pseudo, operation.owner);
    return { session, result, origin: Origin.TEE, reason: undefined };
  }

  #openTa(uuid: string, operation: Operation): Opened {
    const instance = this.#find(uuid) ?? this.#tee.load(this.#known(uuid));
    const session = this.#newSession(operation.client, instance, operation.owner);
    instance.sessions.add(session);
    const answer = this.#operate(session, instance, "open_session", 0, operation);
    if (answer.result === TeeResult.SUCCESS) return { ...answer, session };
    this.close(session);
    return { ...answer, session: undefined };
  }

  #known(uuid: string): TaBinary {
    return this.#tee.binary(uuid) ?? fail(TeeResult.ERROR_ITEM_NOT_FOUND, `there is no TA ${uuid}`);
  }

  /** The single instance that serves this UUID, if there is one; ends the call when it cannot take another session. */
  #find(uuid: string): Instance | undefined {
    for (const instance of this.#tee.instances) {
      if (instance.uuid !== uuid || !instance.has(TaFlag.SINGLE_INSTANCE)) continue;
      // In OP-TEE's order: a session that is left open into a dead one keeps others out, too.
      if (!instance.has(TaFlag.MULTI_SESSION) && instance.sessions.size > 0)
        return fail(TeeResult.ERROR_BUSY, "it is a single instance with one session at most");
      if (instance.panicked !== undefined)
        return fail(TeeResult.ERROR_TARGET_DEAD, "it panicked before, and its flags keep it dead");
      if (instance.busy) return fail(TeeResult.ERROR_BUSY, "it waits for this very call");
      return instance;
    }
    return undefined;
  }

  #newSession(client: Identity, target: Instance | PseudoTa, owner: Instance | undefined): Session {
    let id = 1;
    while (this.#sessions.has(id)) id++;
    if (id > SESSION_MAX) fail(TeeResult.ERROR_OVERFLOW, `${SESSION_MAX} sessions are open`);
    const session = new Session(id, client, target, owner);
    this.#sessions.set(id, session);
    owner?.opened.set(id, session);
    return session;
  }

  /** Runs a command. The outputs are in `operation.params`. */
  invoke(session: Session, command: number, operation: Operation, buffers: readonly PseudoBuffer[] = []): Answer {
    const { target } = session;
    if (target instanceof Instance) return this.#operate(session, target, "invoke_command", command, operation);
    try {
      const result = target.invoke(new PseudoCall(this.#tee, operation.owner, command, operation.params, buffers));
      return { result, origin: Origin.TRUSTED_APP, reason: undefined };
    } catch (error) {
      if (error instanceof TeeError)
        return { result: error.result, origin: Origin.TRUSTED_APP, reason: error.message || undefined };
      if (error instanceof MemoryFault)
        return { result: TeeResult.ERROR_ACCESS_DENIED, origin: Origin.TEE, reason: error.message };
      throw error;
    }
  }

  #operate(session: Session, instance: Instance, entry: EntryName, command: number, operation: Operation): Answer {
    const dead = { result: TeeResult.ERROR_TARGET_DEAD, origin: Origin.TEE };
    if (instance.panicked !== undefined) return { ...dead, reason: instance.panicked.reason };
    if (instance.busy)
      return { result: TeeResult.ERROR_BUSY, origin: Origin.TEE, reason: "it waits for this very call" };
    if (operation.timeout < 0xffff_ffff) session.cancelAt = this.#tee.clock.now() + operation.timeout;
    let value: number | undefined;
    try {
      value = this.#enter(session, instance, entry, command, operation.params);
    } catch (error) {
      if (!(error instanceof TeeError)) throw error;
      return { result: error.result, origin: Origin.TEE, reason: error.message || undefined };
    } finally {
      session.endOperation();
    }
    if (value === undefined) return { ...dead, reason: this.#tee.deaths.at(-1)?.reason };
    return { result: value, origin: Origin.TRUSTED_APP, reason: undefined };
  }

  /** One entry into a TA. Undefined when it panicked: it is dead then, and what it held is freed. */
  #enter(session: Session, instance: Instance, entry: EntryName, command: number, params: Params): number | undefined {
    const tee = this.#tee;
    if (tee.userMode.depth >= DEPTH_MAX)
      return fail(TeeResult.ERROR_OUT_OF_MEMORY, `at most ${DEPTH_MAX} TAs wait for each other`);
    const { id, uuid } = instance;
    const { stackTop } = instance;
    const at = stackTop - Math.ceil(UTEE_PARAMS_BYTES / 16) * 16;
    const shown = this.#passParams(instance, at, params);
    const start = { rip: instance.entry, rsp: at, rdi: Entry[entry], rsi: session.id, rdx: at, rcx: command };
    tee.tell({ kind: "enter", instance: id, uuid, entry, session: session.id, command });
    instance.busy = true;
    const ended = tee.userMode.enter(new Call(tee, instance, session), start, uteeCalls, entry);
    instance.busy = false;
    if (ended.kind === "panicked") {
      tee.died(instance, ended.report);
      const keep = TaFlag.SINGLE_INSTANCE | TaFlag.INSTANCE_KEEP_ALIVE | TaFlag.INSTANCE_KEEP_CRASHED;
      if ((instance.flags & keep) !== keep) tee.instances.delete(instance);
      this.release(instance);
      return undefined;
    }
    this.#takeParams(instance, at, params);
    for (const [start, length] of shown) instance.memory.remove(start, length);
    tee.tell({ kind: "leave", instance: id, uuid, entry, session: session.id, result: ended.value });
    return Number(BigInt.asUintN(32, ended.value));
  }

  /** Writes struct utee_params and shows the memory parameters; the page ranges that were mapped for them. */
  #passParams(instance: Instance, at: number, params: Params): [number, number][] {
    const { memory } = instance;
    const { guest } = memory;
    const shown: [number, number][] = [];
    guest.fill(at, UTEE_PARAMS_BYTES, 0);
    guest.setU64(at, BigInt(paramTypes(params)));
    try {
      for (let index = 0; index < PARAM_COUNT; index++) {
        const param = params[index];
        const slot = at + 8 + 16 * index;
        if (param?.kind === "value") {
          guest.setU64(slot, param.a);
          guest.setU64(slot + 8, param.b);
        } else if (param !== undefined) {
          guest.setNum64(slot + 8, param.size);
          if (param.area === undefined || param.size === 0) continue;
          const address = memory.showShared(param.area, param.offset, param.size);
          const start = address - (address % 4096);
          shown.push([start, Math.ceil((address + param.size - start) / 4096) * 4096]);
          guest.setNum64(slot, address);
        }
      }
    } catch (error) {
      for (const [start, length] of shown) memory.remove(start, length);
      throw error;
    }
    return shown;
  }

  #takeParams(instance: Instance, at: number, params: Params): void {
    const { guest } = instance.memory;
    params.forEach((param, index) => {
      if (param === undefined || !isOutput(param.type)) return;
      const slot = at + 8 + 16 * index;
      if (param.kind === "value") {
        param.a = guest.u64(slot);
        param.b = guest.u64(slot + 8);
      } else param.size = guest.num64(slot + 8);
    });
  }

  /** Ends a session. The TA is entered even when opening failed: its stubs then destroy the instance (tee_ta_manager.c). */
  close(session: Session): void {
    const { target, owner } = session;
    if (target instanceof Instance) {
      if (target.panicked === undefined && !target.busy) {
        try {
          this.#enter(session, target, "close_session", 0, []);
        } catch (error) {
          // Nobody is there to hear of it: the session ends in any case.
          if (!(error instanceof TeeError)) throw error;
        }
      }
      target.sessions.delete(session);
      const keeps = target.has(TaFlag.SINGLE_INSTANCE) && target.has(TaFlag.INSTANCE_KEEP_ALIVE);
      if (target.sessions.size === 0 && !keeps && target.panicked === undefined) {
        this.#tee.instances.delete(target);
        this.release(target);
      }
    }
    this.#sessions.delete(session.id);
    owner?.opened.delete(session.id);
  }

  /** Frees what an instance holds. Sessions into it stay, and find it dead or gone. */
  release(instance: Instance): void {
    if (instance.released) return;
    instance.released = true;
    for (const session of [...instance.opened.values()]) this.close(session);
    for (const [, object] of instance.objects.entries()) object.shared?.release();
    instance.memory.close();
  }
}
