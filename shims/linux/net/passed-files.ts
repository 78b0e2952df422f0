/** Files in messages that nobody has read: a socket in a message to itself is only ever closed by who looks for such. */
import type { OpenFile } from "../vfs/open-file.ts";

/** A socket whose queue may hold files. */
interface Holder extends OpenFile {
  readonly inbox: readonly { readonly rights: readonly OpenFile[] | undefined }[];
  /** Throws away what was not read. */
  purge(): void;
}

/** Holders before the first look for such that nobody can reach. */
const FIRST_LOOK = 64;

/** The sockets of a run that hold files in their queues, and the end of those that only each other refer to (net/unix/garbage.c). */
export class PassedFiles {
  readonly #holders = new Set<Holder>();
  #limit = FIRST_LOOK;

  /** Files were sent to `holder`. */
  sent(holder: Holder): void {
    this.#holders.add(holder);
    if (this.#holders.size < this.#limit) return;
    this.#collect();
    this.#limit = Math.max(FIRST_LOOK, 2 * this.#holders.size);
  }

  #collect(): void {
    const inMessages = this.#inMessages();
    // Those that every reference to comes from a message.
    const lost = new Set<OpenFile>();
    const reached: Holder[] = [];
    for (const holder of this.#holders) {
      if (inMessages.has(holder) && inMessages.get(holder) === holder.references) lost.add(holder);
      else reached.push(holder);
    }
    for (let holder = reached.pop(); holder !== undefined; holder = reached.pop()) {
      for (const { rights = [] } of holder.inbox) {
        for (const file of rights) if (lost.delete(file) && this.#isHolder(file)) reached.push(file);
      }
    }
    for (const holder of this.#holders) {
      if (!lost.has(holder)) continue;
      this.#holders.delete(holder);
      holder.purge();
    }
  }

  /** How often each file is in a message. Who holds none any more is forgotten. */
  #inMessages(): Map<OpenFile, number> {
    const found = new Map<OpenFile, number>();
    for (const holder of this.#holders) {
      let holds = false;
      for (const { rights = [] } of holder.inbox) {
        for (const file of rights) found.set(file, (found.get(file) ?? 0) + 1);
        holds ||= rights.length > 0;
      }
      if (!holds) this.#holders.delete(holder);
    }
    return found;
  }

  #isHolder(file: OpenFile): file is Holder {
    const holders: ReadonlySet<OpenFile> = this.#holders;
    return holders.has(file);
  }
}
