/** The part of @alexaltea/keystone-js 0.9.2 that we call. The package ships no types. */
declare module "@alexaltea/keystone-js" {
  /** Pointers are offsets into the WASM memory, which only `setValue` and `getValue` reach. */
  interface KeystoneModule {
    readonly ARCH_X86: number;
    readonly MODE_32: number;
    readonly MODE_64: number;
    readonly OPT_SYNTAX: number;
    readonly OPT_SYNTAX_ATT: number;
    readonly ERR_OK: number;
    /** The text for a `ks_err`, such as `Invalid operand (KS_ERR_ASM_INVALIDOPERAND)`. */
    strerror(code: number): string;
    setValue(pointer: number, value: number, type: "i8" | "i32"): void;
    getValue(pointer: number, type: "i8" | "i32"): number;
    _malloc(size: number): number;
    _free(pointer: number): void;
    _ks_open(arch: number, mode: number, handleOut: number): number;
    _ks_close(handle: number): number;
    _ks_errno(handle: number): number;
    _ks_option(handle: number, option: number, value: number): number;
    _ks_asm(
      handle: number,
      source: number,
      address: bigint,
      encodingOut: number,
      sizeOut: number,
      countOut: number,
    ): number;
    _ks_free(pointer: number): void;
  }

  export default function MKeystone(options?: {
    print?: (line: string) => void;
    printErr?: (line: string) => void;
  }): Promise<KeystoneModule>;
}
