import { kernelId, ownId, type UserNamespace } from "../namespaces/user.ts";
import type { Credentials as FileCredentials } from "../vfs/inode.ts";
import { ALL_CAPS, type Cap, capSet, FS_CAPS, NO_CAPS, SecureBit } from "./capabilities.ts";

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
  /** Undefined for the first one. Ids above are in the terms of that. */
  userNamespace: UserNamespace | undefined;
  effective: bigint;

  constructor(uid: number, gid: number, groups: readonly number[] = [gid]) {
    this.ruid = this.euid = this.suid = this.uid = uid;
    this.rgid = this.egid = this.sgid = this.gid = gid;
    this.groups = groups;
    this.permitted = uid === 0 ? ALL_CAPS : NO_CAPS;
    this.effective = this.permitted;
  }

  /** True when the capability is in effect, whatever namespace it is about. */
  has(cap: Cap): boolean {
    return this.effective !== NO_CAPS && (this.effective & capSet(cap)) !== NO_CAPS;
  }

  /** True when the capability is in effect over the machine: in the first user namespace. */
  capable(cap: Cap): boolean {
    return this.userNamespace === undefined && this.has(cap);
  }

  /** cap_capable: the capability within a user namespace, which whoever made it has all of. */
  capableIn(namespace: UserNamespace | undefined, cap: Cap): boolean {
    const own = this.userNamespace;
    for (let at = namespace; ; at = at.parent) {
      if (at === own) return this.has(cap);
      if (at === undefined) return false;
      if (at.parent === own && at.owner === this.euid) return true;
    }
  }

  /** capable_wrt_inode_uidgid: only over files whose owners have names within. */
  capableOver({ uid, gid }: { readonly uid: number; readonly gid: number }, cap: Cap): boolean {
    if (!this.has(cap)) return false;
    const own = this.userNamespace;
    return own === undefined || (ownId(own, "uid", uid) !== undefined && ownId(own, "gid", gid) !== undefined);
  }

  /** Root of its user namespace; undefined where nobody is. */
  get root(): number | undefined {
    return kernelId(this.userNamespace, "uid", 0);
  }

  /** What a process is in a user namespace that it has made or joined: root's capabilities, and nothing kept (set_cred_user_ns). */
  enter(namespace: UserNamespace): void {
    this.userNamespace = namespace;
    this.securebits = 0;
    this.inheritable = NO_CAPS;
    this.ambient = NO_CAPS;
    this.permitted = this.effective = this.bounding = ALL_CAPS;
  }

  /** Who access(2) asks for: the real ids, with the capabilities that belong to them (access_override_creds). */
  real(): Credentials {
    const fixed = (this.securebits & SecureBit.SECBIT_NO_SETUID_FIXUP) !== 0;
    const effective = fixed ? this.effective : this.ruid === this.root ? this.permitted : NO_CAPS;
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
    const { root } = old;
    const hadRoot = old.ruid === root || old.euid === root || old.suid === root;
    const hasRoot = this.ruid === root || this.euid === root || this.suid === root;
    if (hadRoot && !hasRoot) {
      if ((this.securebits & SecureBit.SECBIT_KEEP_CAPS) === 0) {
        this.permitted = NO_CAPS;
        this.effective = NO_CAPS;
      }
      this.ambient = NO_CAPS;
    }
    if (old.euid === root && this.euid !== root) this.effective = NO_CAPS;
    if (old.euid !== root && this.euid === root) this.effective = this.permitted;
  }

  /** The same for setfsuid, which concerns the capabilities of files alone. */
  fileUserChanged(old: number): void {
    if ((this.securebits & SecureBit.SECBIT_NO_SETUID_FIXUP) !== 0) return;
    const { root } = this;
    if (old === root && this.uid !== root) this.effective &= ~FS_CAPS;
    if (old !== root && this.uid === root) this.effective |= this.permitted & FS_CAPS;
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
    const { root } = this;
    const isRoot = (this.securebits & SecureBit.SECBIT_NOROOT) === 0 && (this.euid === root || this.ruid === root);
    this.permitted = (isRoot ? this.bounding | this.inheritable : NO_CAPS) | this.ambient;
    this.effective = isRoot && this.euid === root ? this.permitted : this.ambient;
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
