/** The environment of these programs. */
export const ENV = { PATH: "/usr/bin:/bin", LC_ALL: "C", HOME: "/", TZ: "UTC" };

/** A program of Debian's in the sample root, and what it is given. */
export interface Program {
  readonly name: string;
  readonly command: readonly [string, ...string[]];
  readonly input?: string;
  /** Prints dates near to today's, which look otherwise from the guest's own time. */
  readonly dated?: true;
}

export const clockFlags = (program: Program): string[] => (program.dated ? ["--clock", "host"] : []);

const PYTHON = `
import json, hashlib, re, sys, os
d = json.loads(open("/sample/data.json").read())
print(json.dumps(d, sort_keys=True), hashlib.sha256(b"abc").hexdigest(), hashlib.md5(b"x" * 1000).hexdigest())
print(re.sub(r"(\\w+) line (\\d+)", r"\\2:\\1", open("/sample/numbers.txt").readline()), 2 ** 200, 1 / 3, sum(i * i for i in range(100000)))
print(sorted(os.listdir("/sample")), sys.version_info[:2], sys.maxsize)
sys.exit(7)
`;
export const PERL =
  'my %h = map { $_ => length } qw(pear fig apple); print join(",", map { "$_=$h{$_}" } sort keys %h), "\\n"; printf "%.3f %s\\n", atan2(1,1)*4, join "", sort { $b cmp $a } split //, "sorting"; exit 5';
const LUA =
  'local t = {} for w in io.open("/sample/words.txt"):lines() do t[#t+1] = w:upper() end table.sort(t) print(table.concat(t, " "), math.pi, 2^53, string.format("%5.2f|%x", 3.14159, 255)) os.exit(9)';
export const BASH =
  // biome-ignore lint/suspicious/noTemplateCurlyInString: bash's own braces
  'declare -A m; for i in {1..20}; do ((s += i * i)); m[$i]=$((s % 7)); done; echo "$s ${m[*]}"; x=abcdef; echo "${x:1:3} ${x/cd/XX} ${#x} $((0x1f << 3)) $((7 ** 11 % 13))"; [[ $x =~ ^a(.*)f$ ]] && echo "${BASH_REMATCH[1]}"; printf "%05d|%-5s|\\n" 42 hi; exit 3';
const AWK =
  '{ n[$1 % 10]++; sum += $1 } END { for (i = 0; i < 10; i++) printf "%d:%d ", i, n[i]; print sum, length("abc"), substr("hello", 2, 3), 22 / 7, int(-3.7) }';

/** What the packages of fixtures/debian.json bring, in both word sizes. */
export const PROGRAMS: readonly Program[] = [
  { name: "busybox ls", command: ["/bin/busybox", "ls", "-la", "/sample"], dated: true },
  { name: "busybox sha256sum", command: ["/bin/busybox", "sha256sum", "/bin/busybox", "/sample/numbers.txt"] },
  { name: "busybox sort", command: ["/bin/busybox", "sort", "-rn", "/sample/numbers.txt"] },
  { name: "busybox awk", command: ["/bin/busybox", "awk", AWK, "/sample/numbers.txt"] },
  { name: "busybox vi --help", command: ["/bin/busybox", "vi", "--help"] },
  {
    name: "busybox tar list",
    command: ["/bin/busybox", "tar", "-cf", "-", "-C", "/sample", "numbers.txt", "words.txt", "link"],
  },
  { name: "busybox find", command: ["/bin/busybox", "find", "/sample", "-type", "f", "-size", "-2"] },
  { name: "busybox unknown applet", command: ["/bin/busybox", "no-such-applet"] },
  { name: "bash-static", command: ["/bin/bash-static", "-c", BASH] },
  { name: "bash", command: ["/bin/bash", "-c", BASH] },
  { name: "a script by its #! line", command: ["/sample/script.sh", "one", "two"] },
  { name: "ls", command: ["/bin/ls", "-la", "--time-style=full-iso", "/sample"] },
  { name: "ls of nothing", command: ["/bin/ls", "/no/such/folder"] },
  { name: "cat of stdin", command: ["/bin/cat", "-n"], input: "first\nsecond\n" },
  { name: "sed", command: ["/bin/sed", "-nE", "s/^([0-9]+) line ([0-9]*5)$/\\2=\\1/p", "/sample/numbers.txt"] },
  { name: "grep", command: ["/bin/grep", "-nE", "^(pear|.*rr)", "/sample/words.txt"] },
  { name: "grep that finds nothing", command: ["/bin/grep", "zebra", "/sample/words.txt"] },
  { name: "sort", command: ["/usr/bin/sort", "-u", "/sample/words.txt"] },
  { name: "wc", command: ["/usr/bin/wc", "/sample/numbers.txt", "/sample/words.txt"] },
  { name: "gawk", command: ["/usr/bin/gawk", AWK, "/sample/numbers.txt"] },
  {
    name: "sqlite3",
    command: ["/usr/bin/sqlite3", ":memory:"],
    input:
      "create table t(a integer, b text); insert into t values (1,'one'),(2,'two'),(3,'three'); select sum(a), group_concat(b), sqlite_version() from t; select printf('%.4f', 2.0/3), hex('abc'), upper(b) from t where a > 1 order by b;",
  },
  { name: "python3", command: ["/usr/bin/python3", "-c", PYTHON] },
  { name: "python3 traceback", command: ["/usr/bin/python3", "-c", "import json\njson.loads('{')"] },
  { name: "perl", command: ["/usr/bin/perl", "-e", PERL] },
  { name: "lua", command: ["/usr/bin/lua5.4", "-e", LUA] },
  { name: "openssl dgst", command: ["/usr/bin/openssl", "dgst", "-sha256", "-sha512", "/sample/numbers.txt"] },
  {
    name: "openssl enc",
    command: ["/usr/bin/openssl", "enc", "-aes-256-cbc", "-K", "00", "-iv", "00", "-base64"],
    input: "plain text\n",
  },
  { name: "xz", command: ["/usr/bin/xz", "-9", "-c", "-T1", "/sample/numbers.txt"] },
  { name: "jq", command: ["/usr/bin/jq", "-c", ".nested.a.b[0].c, (.list|map(type)), .name", "/sample/data.json"] },
  { name: "hexyl (Rust)", command: ["/usr/bin/hexyl", "--color=never", "/sample/words.txt"] },
  {
    name: "ripgrep (Rust) on one thread",
    command: ["/usr/bin/rg", "-j1", "--no-config", "-n", "line 1[0-9]$", "/sample/numbers.txt"],
  },
  { name: "hexyl --help", command: ["/usr/bin/hexyl", "--help"] },
  { name: "fd (Rust) --version", command: ["/usr/bin/fdfind", "--version"] },
  { name: "date of an instant", command: ["/bin/date", "-u", "-d", "@1700000000", "+%F %T"] },
  { name: "seq", command: ["/usr/bin/seq", "1", "0.5", "4"] },
  { name: "factor", command: ["/usr/bin/factor", "600851475143", "18446744073709551557"] },
  { name: "true", command: ["/bin/true"] },
  { name: "false", command: ["/bin/false"] },
];
