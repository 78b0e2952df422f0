/** /proc/pid/map_files: a link to each file that is mapped, by the range where it is (fs/proc/base.c). */
import { PROT_WRITE, type Region } from "../../../../emulator/memory.ts";
import { Errno } from "../../errno.ts";
import { Cap } from "../../process/capabilities.ts";
import type { Process } from "../../task.ts";
import { fail } from "../error.ts";
import { FileInode, type FileSystem, type Inode } from "../inode.ts";
import { MagicLink, ProcDirectory } from "./proc.ts";

const rangeOf = ({ start, end }: Region): string => `${start.toString(16)}-${end.toString(16)}`;

/** The file that a mapping shows; none for what the kernel makes. */
function fileOf({ backing }: Region): FileInode | undefined {
  return backing !== undefined && "file" in backing && backing.file instanceof FileInode ? backing.file : undefined;
}

export function mapFiles(fs: FileSystem, process: Process): ProcDirectory {
  const { euid, egid } = process.cred;
  const links = new Map<string, { readonly file: FileInode; readonly link: Inode }>();
  const regions = (): Region[] => (process.ended ? [] : [...process.space.regions()].filter((r) => fileOf(r)));
  const linkOf = (region: Region, file: FileInode): Inode => {
    const name = region.backing?.name ?? "";
    const jump = () => {
      const cred = process.kernel.current?.process.cred;
      if (!cred?.capable(Cap.CAP_SYS_ADMIN) && !cred?.capable(Cap.CAP_CHECKPOINT_RESTORE))
        fail(Errno.EPERM, "for privileged processes");
      return process.kernel.vfs.anonymousEntry(file, name);
    };
    const mode = 0o400 | (region.shared && region.prot & PROT_WRITE ? 0o200 : 0);
    return new MagicLink(fs, () => name, jump, mode, euid, egid);
  };
  const contents = {
    names: () => regions().map(rangeOf),
    lookup: (name: string) => {
      const region = regions().find((one) => rangeOf(one) === name);
      const file = region && fileOf(region);
      if (region === undefined || file === undefined) return undefined;
      const known = links.get(name);
      if (known?.file === file) return known.link;
      const link = linkOf(region, file);
      links.set(name, { file, link });
      return link;
    },
  };
  return new ProcDirectory(fs, contents, euid, egid, 0o500);
}
