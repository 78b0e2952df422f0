/** Bytes on their way through a pipe or a connection: a ring that grows as needed. */
export class ByteQueue {
  #ring = new Uint8Array(4096);
  #head = 0;
  #length = 0;

  get length(): number {
    return this.#length;
  }

  push(bytes: Uint8Array): void {
    this.#reserve(this.#length + bytes.length);
    this.#copyIn((this.#head + this.#length) % this.#ring.length, bytes);
    this.#length += bytes.length;
  }

  /** Puts bytes in front of all others. */
  unshift(bytes: Uint8Array): void {
    this.#reserve(this.#length + bytes.length);
    this.#head = (this.#head - bytes.length + this.#ring.length) % this.#ring.length;
    this.#copyIn(this.#head, bytes);
    this.#length += bytes.length;
  }

  /** Copies without taking away. @returns how many */
  peek(into: Uint8Array): number {
    const count = Math.min(into.length, this.#length);
    const first = Math.min(count, this.#ring.length - this.#head);
    into.set(this.#ring.subarray(this.#head, this.#head + first));
    if (first < count) into.set(this.#ring.subarray(0, count - first), first);
    return count;
  }

  drop(count: number): void {
    this.#head = (this.#head + count) % this.#ring.length;
    this.#length -= count;
  }

  #copyIn(at: number, bytes: Uint8Array): void {
    const first = Math.min(bytes.length, this.#ring.length - at);
    this.#ring.set(first === bytes.length ? bytes : bytes.subarray(0, first), at);
    if (first < bytes.length) this.#ring.set(bytes.subarray(first), 0);
  }

  #reserve(length: number): void {
    if (length <= this.#ring.length) return;
    let size = this.#ring.length;
    while (size < length) size *= 2;
    const ring = new Uint8Array(size);
    this.peek(ring);
    this.#ring = ring;
    this.#head = 0;
  }
}
