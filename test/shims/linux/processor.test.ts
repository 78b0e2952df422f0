// The processor as programs find it.
import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("/proc/cpuinfo and the auxiliary vector as CPUID", "processor.c");
