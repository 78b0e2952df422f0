import { S_IFLNK } from "../flags.ts";
import { type FileSystem, LinkInode } from "../inode.ts";

/** A symbolic link kept in memory. */
export class TextLink extends LinkInode {
  readonly #target: string;

  constructor(fs: FileSystem, target: string, uid: number, gid: number) {
    super(fs, S_IFLNK | 0o777, uid, gid);
    this.#target = target;
  }

  override get size(): number {
    return this.#target.length;
  }

  target(): string {
    return this.#target;
  }
}
