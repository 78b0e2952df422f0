import type { GdtLayout } from "../emulator/descriptors.ts";
import type { PrivilegedState, SegmentName } from "../emulator/privileged.ts";

/** The part of the emulated CPU a platform works on. */
export interface PlatformCpu {
  readonly privileged: PrivilegedState;
  selector(segment: SegmentName): number;
}

/** What a provider is built over. */
export interface Platform {
  readonly cpu: PlatformCpu;
  readonly layout: GdtLayout;
}
