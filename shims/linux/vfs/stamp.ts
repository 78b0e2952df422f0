/** A file time: whole seconds since 1970 and nanoseconds. */
export class Stamp {
  sec = 0;
  nsec = 0;

  setMs(ms: number): void {
    this.sec = Math.floor(ms / 1000);
    this.nsec = Math.floor(ms % 1000) * 1_000_000;
  }

  set(sec: number, nsec: number): void {
    this.sec = sec;
    this.nsec = nsec;
  }

  copy(from: Stamp): void {
    this.sec = from.sec;
    this.nsec = from.nsec;
  }

  notAfter(other: Stamp): boolean {
    return this.sec < other.sec || (this.sec === other.sec && this.nsec <= other.nsec);
  }
}
