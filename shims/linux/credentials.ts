/** Who a process is (credentials(7)). By default one unprivileged user, as on a personal machine. */
export class Credentials {
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

  constructor(uid: number, gid: number, groups: readonly number[] = [gid]) {
    this.ruid = this.euid = this.suid = this.uid = uid;
    this.rgid = this.egid = this.sgid = this.gid = gid;
    this.groups = groups;
  }

  /** Stands for every capability. */
  get superuser(): boolean {
    return this.euid === 0;
  }

  clone(): Credentials {
    return Object.assign(new Credentials(this.ruid, this.rgid, this.groups), this);
  }
}
