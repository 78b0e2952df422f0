// The processor as programs find it, and its AVX state in signal frames, for both models.
import { loadNative } from "../../../emulator/native.ts";
import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("/proc/cpuinfo and the auxiliary vector as CPUID", "processor.c");
// On a machine without AVX2 there is no such processor to be had, and nothing to compare with.
if (loadNative().lacksForV3().length === 0) {
  const v3 = ["--cpu", "x86-64-v3"];
  listAsOnLinux("x86-64-v3: /proc/cpuinfo and the auxiliary vector as CPUID", "processor.c", v3);
  listAsOnLinux("x86-64-v3: the state of AVX in signal frames, threads and programs", "xstate.c", v3);
}
