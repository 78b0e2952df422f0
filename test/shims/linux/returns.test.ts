import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("sigreturn to other code segments, and a vDSO that has moved or is stepped", "returns.c");
