/** How much of something each user has, over all processes. */
export class UserCounts {
  readonly #counts = new Map<number, number>();

  of(uid: number): number {
    return this.#counts.get(uid) ?? 0;
  }

  change(uid: number, by: number): void {
    this.#counts.set(uid, this.of(uid) + by);
  }
}
