/** What threads have used so far (getrusage(2)); of a process also what its dead threads and its waited-for children have. */
export class Usage {
  /** CPU time, ns: virtual time that passed while the thread was in the CPU. */
  cpu = 0;
  /** The part of it that went by in the kernel. */
  system = 0;
  /** Turns that ended because the thread waited, and because others were to run. */
  voluntary = 0;
  involuntary = 0;
  /** Most bytes in place at a moment when somebody looked. */
  maxResident = 0;

  get user(): number {
    return Math.max(0, this.cpu - this.system);
  }

  add(other: Usage): void {
    this.cpu += other.cpu;
    this.system += other.system;
    this.voluntary += other.voluntary;
    this.involuntary += other.involuntary;
    this.maxResident = Math.max(this.maxResident, other.maxResident);
  }
}
