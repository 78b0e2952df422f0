// Instructions that libunicorn alone carries out otherwise, against this machine's processor.
import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("floating point as on the processor", "float.c");
listAsOnLinux("compare and exchange as on the processor", "cmpxchg.c");
