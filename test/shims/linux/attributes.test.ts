// Extended attributes: names, values, namespaces, permissions.
import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("extended attributes as on Linux", "attributes.c");
