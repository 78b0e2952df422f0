/** The part of @alexaltea/capstone-js 5.0.9 that we call. The package ships no types. */
declare module "@alexaltea/capstone-js" {
  interface CapstoneInstruction {
    /** 0 for data that was skipped because it is no instruction. */
    readonly id: number;
    readonly address: bigint;
    readonly size: number;
    readonly bytes: readonly number[];
    readonly mnemonic: string;
    readonly op_str: string;
  }

  interface CapstoneHandle {
    option(option: number, value: number): void;
    /** Calls back for each instruction until `false` comes back or one cannot be decoded; returns how many there were. */
    disasm_iter(
      bytes: ArrayLike<number>,
      address: number | bigint,
      callback: (instruction: CapstoneInstruction) => boolean | undefined,
    ): number;
    close(): void;
  }

  interface CapstoneModule {
    readonly ARCH_X86: number;
    readonly MODE_32: number;
    readonly MODE_64: number;
    readonly OPT_SKIPDATA: number;
    readonly OPT_ON: number;
    readonly Capstone: new (arch: number, mode: number) => CapstoneHandle;
  }

  export default function MCapstone(): Promise<CapstoneModule>;
}
