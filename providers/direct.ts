import { executeAsLinux } from "./linux-tls.ts";
import type { Platform } from "./platform.ts";
import type { PunchthroughProvider, PunchthroughToken } from "./punchthrough.ts";
import type { Request } from "./requests.ts";

/** A Linux kernel on the bare CPU: grants everything and answers as Linux does. */
export class DirectProvider implements PunchthroughProvider {
  readonly name = "direct";
  readonly bareLinux = true;
  readonly #platform: Platform;

  constructor(platform: Platform) {
    this.#platform = platform;
  }

  getPunchthroughTokenFor(request: Request): PunchthroughToken {
    const { cpu, layout } = this.#platform;
    return { provider: this.name, execute: () => executeAsLinux(cpu, layout, request) };
  }
}
