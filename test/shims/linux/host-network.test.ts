// The host's network, of which only the loopback is used: guests against servers of this test, and servers of guests against it.
import { type ChildProcess, spawn } from "node:child_process";
import dgram from "node:dgram";
import { once } from "node:events";
import { existsSync } from "node:fs";
import http from "node:http";
import net, { type AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hostEndpoint } from "../../../shims/linux/net/host.ts";
import { SHIMBED } from "../../world/harness.ts";
import { listAsOnLinux } from "./native-list.ts";

listAsOnLinux("operations over the host's loopback as on Linux", "net-host.c", ["--net", "host"]);
listAsOnLinux("multicast over the host's loopback as on Linux", "multicast.c", ["--net", "host"]);
listAsOnLinux("multicast over the run's own loopback as on Linux", "multicast.c");

const started: ChildProcess[] = [];
afterAll(() => {
  for (const child of started) child.kill("SIGKILL");
});

interface Ended {
  readonly stdout: string;
  readonly stderr: string;
  readonly status: number | null;
}

function start(args: readonly string[]): { child: ChildProcess; ended: Promise<Ended> } {
  const child = spawn(process.execPath, [SHIMBED, "run", ...args], { stdio: "pipe", timeout: 80_000 });
  started.push(child);
  child.stdin.end();
  const output = { stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output.stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (output.stderr += text));
  return { child, ended: once(child, "close").then(() => ({ ...output, status: child.exitCode })) };
}

const guest = (args: readonly string[]): Promise<Ended> => start(args).ended;
const onHost = ["--net", "host", "--root", "/"];

describe("guests reach servers of this machine", () => {
  let port = 0;
  let visits = 0;
  const server = http.createServer((request, response) => {
    visits++;
    let bytes = 0;
    request.on("data", (part: Buffer) => (bytes += part.length));
    request.on("end", () => response.end(request.url === "/big" ? "x".repeat(3e6) : `${request.method} ${bytes}\n`));
  });
  beforeAll(async () => {
    await once(server.listen(0, "127.0.0.1"), "listening");
    port = portOf(server);
  });
  afterAll(() => server.close());
  const url = (path: string): string => `http://127.0.0.1:${port}/${path}`;

  describe.skipIf(!existsSync("/usr/bin/curl"))("curl", () => {
    test("gets and sends", async () => {
      expect(await guest([...onHost, "/usr/bin/curl", "-sS", url("")])).toEqual({
        stdout: "GET 0\n",
        stderr: "",
        status: 0,
      });
      const sent = ["--data-binary", `@${import.meta.filename}`, url("up")];
      const { stdout } = await guest([...onHost, "/usr/bin/curl", "-sS", ...sent]);
      expect(stdout).toMatch(/^POST \d{4,}\n$/);
      expect((await guest([...onHost, "/usr/bin/curl", "-sS", url("big")])).stdout).toHaveLength(3e6);
    });

    test("is told that nobody listens", async () => {
      const { stderr, status } = await guest([...onHost, "/usr/bin/curl", "-sS", "http://127.0.0.1:1/"]);
      expect({ stderr, status }).toEqual({ stderr: expect.stringContaining("Couldn't connect"), status: 7 });
    });

    test("does not come out without --net host", async () => {
      const before = visits;
      const { status } = await guest(["--root", "/", "/usr/bin/curl", "-sS", url("")]);
      expect({ status, visits }).toEqual({ status: 7, visits: before });
    });
  });

  test.skipIf(!existsSync("/usr/bin/wget"))("wget", async () => {
    expect((await guest([...onHost, "/usr/bin/wget", "-qO-", url("")])).stdout).toBe("GET 0\n");
  });
});

test.skipIf(!existsSync("/usr/bin/bash"))("bash speaks TCP with this process", async () => {
  const echo = net.createServer((socket) => socket.pipe(socket)).listen(0, "127.0.0.1");
  await once(echo, "listening");
  const script = `exec 3<>/dev/tcp/127.0.0.1/${portOf(echo)}; echo hello >&3; read -r line <&3; echo "got $line"`;
  const { stdout, stderr } = await guest([...onHost, "/usr/bin/bash", "-c", script]);
  echo.close();
  expect({ stdout, stderr }).toEqual({ stdout: "got hello\n", stderr: "" });
});

describe.skipIf(!existsSync("/usr/bin/perl"))("perl", () => {
  test("sends datagrams to this process and is answered", async () => {
    const udp = dgram.createSocket("udp4");
    udp.on("message", (text, from) => udp.send(`got ${text}`, from.port, from.address));
    udp.bind(0, "127.0.0.1");
    await once(udp, "listening");
    const script = `use IO::Socket::INET;
      my $s = IO::Socket::INET->new(Proto => "udp", PeerAddr => "127.0.0.1:${udp.address().port}") or die $!;
      for ("one", "two") { $s->send($_); $s->recv(my $text, 100); print "$text\\n" }`;
    const { stdout, stderr } = await guest([...onHost, "/usr/bin/perl", "-e", script]);
    udp.close();
    expect({ stdout, stderr }).toEqual({ stdout: "got one\ngot two\n", stderr: "" });
  });

  test("serves this process, with a child for each connection", async () => {
    const script = `use IO::Socket::INET; $| = 1; $SIG{CHLD} = "IGNORE";
      my $server = IO::Socket::INET->new(Listen => 5, LocalAddr => "127.0.0.1", ReuseAddr => 1) or die $!;
      print $server->sockport, "\\n";
      for (1 .. 3) { my $c = $server->accept; if (!fork) { while (<$c>) { print $c uc } exit } close $c }`;
    const { child, ended } = start([...onHost, "/usr/bin/perl", "-e", script]);
    const [first]: string[] = await once(child.stdout ?? process.stdin, "data");
    const ask = async (text: string): Promise<string> => {
      const socket = net.connect(Number(first), "127.0.0.1").setEncoding("utf8");
      socket.end(text);
      let answer = "";
      for await (const part of socket) answer += part;
      return answer;
    };
    const answers = await Promise.all(["one\n", "two\nlines\n", "x".repeat(100_000)].map(ask));
    expect(answers).toEqual(["ONE\n", "TWO\nLINES\n", "X".repeat(100_000)]);
    expect(await ended).toMatchObject({ status: 0, stderr: "" });
  });
});

test("addresses as Node writes them", () => {
  expect(hostEndpoint("127.0.0.1", 80)).toEqual({ ip: "7f000001", port: 80 });
  expect(hostEndpoint("::1", 1).ip).toBe(`${"0".repeat(31)}1`);
  expect(hostEndpoint("::", 1).ip).toBe("0".repeat(32));
  expect(hostEndpoint("::ffff:10.0.0.1", 1).ip).toBe("0a000001");
  expect(hostEndpoint("fe80::12%eth0", 1).ip).toBe(`fe80${"0".repeat(26)}12`);
  expect(hostEndpoint("1:2:3:4:5:6:7:8", 1).ip).toBe("00010002000300040005000600070008");
});

function portOf(server: net.Server): number {
  const address: AddressInfo | string | null = server.address();
  if (address === null || typeof address === "string") throw new TypeError("the server has no port");
  return address.port;
}
