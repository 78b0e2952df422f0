import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("a program that measures its own computing", "measures.c");
