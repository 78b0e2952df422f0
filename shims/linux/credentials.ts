import { ALL_CAPS, type Cap, capSet, FS_CAPS, NO_CAPS, SecureBit } from "./capabilities.ts";
import type { Credentials as FileCredentials } from "./vfs/inode.ts";

/** Ids that a program brings with it. */
export interface SetIds {
  readonly uid?: number;
  readonly gid?: number;
}

/** Who a process is (credentials(7)) and what that lets it do. By default one unprivileged user, as on a personal machine. */
export class Credentials implements FileCredentials {
  ruid: number;
  euid: number;
  suid: number;
  rgid: number;
  egid: number;
  sgid: number;
  /** fsuid and fsgid: what file checks compare. */
  uid: number;
  gid: number;
  groups: readonly number[];
  permitted: bigint;
  inheritable = NO_CAPS;
  bounding = ALL_CAPS;
  ambient = NO_CAPS;
  /** SECBIT_*. */
  securebits = 0;
  effective: bigint;

  constructor(uid: number, gid: number, groups: readonly number[] = [gid]) {
    this.ruid = this.euid = this.suid = this.uid = uid;
    this.rgid = this.egid = this.sgid = this.gid = gid;
    this.groups = groups;
    this.permitted = uid === 0 ? ALL_CAPS : NO_CAPS;
    this.effective = this.permitted;
  }

  /** True when the capability is in effect. */
  capable(cap: Cap): boolean {
    return this.effective !== NO_CAPS && (this.effective & capSet(cap)) !== NO_CAPS;
  }

  /** Who access(2) asks for: the real ids, with the capabilities that belong to them (access_override_creds). */
  real(): Credentials {
    const fixed = (this.securebits & SecureBit.SECBIT_NO_SETUID_FIXUP) !== 0;
    const effective = fixed ? this.effective : this.ruid === 0 ? this.permitted : NO_CAPS;
    if (this.uid === this.ruid && this.gid === this.rgid && effective === this.effective) return this;
    const copy = this.clone();
    copy.uid = this.ruid;
    copy.gid = this.rgid;
    copy.effective = effective;
    return copy;
  }

  /** What becomes of capabilities when a user id has changed from what `old` has (cap_task_fix_setuid). */
  userChanged(old: Credentials): void {
    if ((this.securebits & SecureBit.SECBIT_NO_SETUID_FIXUP) !== 0) return;
    const hadRoot = old.ruid === 0 || old.euid === 0 || old.suid === 0;
    const hasRoot = this.ruid === 0 || this.euid === 0 || this.suid === 0;
    if (hadRoot && !hasRoot) {
      if ((this.securebits & SecureBit.SECBIT_KEEP_CAPS) === 0) {
        this.permitted = NO_CAPS;
        this.effective = NO_CAPS;
      }
      this.ambient = NO_CAPS;
    }
    if (old.euid === 0 && this.euid !== 0) this.effective = NO_CAPS;
    if (old.euid !== 0 && this.euid === 0) this.effective = this.permitted;
  }

  /** The same for setfsuid, which concerns the capabilities of files alone. */
  fileUserChanged(old: number): void {
    if ((this.securebits & SecureBit.SECBIT_NO_SETUID_FIXUP) !== 0) return;
    if (old === 0 && this.uid !== 0) this.effective &= ~FS_CAPS;
    if (old !== 0 && this.uid === 0) this.effective |= this.permitted & FS_CAPS;
  }

  /**
   * What a program starts with (bprm_fill_uid, cap_bprm_creds_from_file). File capabilities are not looked at.
   * @param ids of a set-user-ID or set-group-ID program
   * @returns true when it must not trust who started it (AT_SECURE)
   */
  execed(ids: SetIds): boolean {
    const { euid: oldUser, egid: oldGroup } = this;
    if (ids.uid !== undefined) this.euid = ids.uid;
    if (ids.gid !== undefined) this.egid = ids.gid;
    const isRoot = (this.securebits & SecureBit.SECBIT_NOROOT) === 0 && (this.euid === 0 || this.ruid === 0);
    this.permitted = (isRoot ? this.bounding | this.inheritable : NO_CAPS) | this.ambient;
    this.effective = isRoot && this.euid === 0 ? this.permitted : this.ambient;
    this.securebits &= ~SecureBit.SECBIT_KEEP_CAPS;
    this.suid = this.uid = this.euid;
    this.sgid = this.gid = this.egid;
    const changed = this.euid !== oldUser || (this.egid !== oldGroup && !this.groups.includes(this.egid));
    return changed || this.euid !== this.ruid || this.egid !== this.rgid;
  }

  clone(): Credentials {
    return Object.assign(new Credentials(this.ruid, this.rgid, this.groups), this);
  }
}
