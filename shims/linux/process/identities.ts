/** An order of kernel objects for kcmp(2), which Linux takes from scrambled addresses: here the order of first being asked for. */
export class Identities {
  readonly #numbers = new WeakMap<object, number>();
  #last = 0;

  /** 0 when both are one, 1 when the first is less, 2 when it is greater. */
  compare(first: object | undefined, second: object | undefined): 0 | 1 | 2 {
    const [a, b] = [this.#of(first), this.#of(second)];
    return a === b ? 0 : a < b ? 1 : 2;
  }

  #of(object: object | undefined): number {
    if (object === undefined) return 0;
    const known = this.#numbers.get(object);
    if (known !== undefined) return known;
    this.#numbers.set(object, ++this.#last);
    return this.#last;
  }
}
