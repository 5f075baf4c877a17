// Ten thousand idle WebSocket subscribers: each is told of every block, and the node stays small. The sockets are plain TCP
// with RFC 6455's handshake, so that the test's own process stays small too. Rows: FR-X1.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";

import { JsonRpcProvider, Wallet } from "ethers";

const SUBSCRIBERS = 10_000;
const DESCRIPTORS = 12_000;
const MEGABYTE = 1e6;
/** What all of them may cost. */
const MEMORY = 200 * MEGABYTE;
const DEADLINE = { timeout: 240_000 };

const subscribers = [];

let node, ready;

/** Resident memory of the node in bytes. */
function resident() {
  const [, pages] = readFileSync(`/proc/${node.pid}/statm`, "utf8").split(" ");
  return Number(pages) * 4_096;
}

/** One masked text frame, as clients send them. */
function frame(text) {
  const payload = Buffer.from(text);
  assert.ok(payload.length < 126);
  const mask = randomBytes(4);
  return Buffer.concat([Buffer.from([0x81, 0x80 | payload.length]), mask, payload.map((byte, i) => byte ^ mask[i % 4])]);
}

/** Lets this process, and what it starts, hold as many descriptors as the test needs. */
function raiseDescriptors() {
  const [, hard] = /^Max open files\s+\S+\s+(\S+)/m.exec(readFileSync("/proc/self/limits", "utf8"));
  if (hard === "unlimited" || Number(hard) >= DESCRIPTORS) return;
  try {
    execFileSync("prlimit", ["--pid", String(process.pid), `--nofile=${DESCRIPTORS}:${DESCRIPTORS}`], { stdio: "pipe" });
  } catch {
    throw new Error(`${SUBSCRIBERS} subscribers need ${DESCRIPTORS} descriptors; the hard limit (ulimit -Hn) is ${hard}, and only root may raise it`);
  }
}

/** Connects and subscribes to blocks; gives the heights it was told, as they come. */
function subscriber(port) {
  const heights = [];
  const waiting = [];
  let buffered = Buffer.alloc(0), open = false, subscribed;
  const socket = connect(port, "127.0.0.1");
  const ready = new Promise((resolve, reject) => {
    subscribed = resolve;
    socket.on("error", reject);
    socket.on("close", () => reject(new Error("closed")));
  });
  ready.catch(() => {});
  socket.write(
    `GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n` +
      `Sec-WebSocket-Key: ${randomBytes(16).toString("base64")}\r\n\r\n`,
  );
  socket.on("data", (data) => {
    buffered = Buffer.concat([buffered, data]);
    if (!open) {
      const end = buffered.indexOf("\r\n\r\n");
      if (end < 0) return;
      assert.match(buffered.toString("latin1", 0, end), /^HTTP\/1.1 101/);
      buffered = buffered.subarray(end + 4);
      open = true;
      socket.write(frame('{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["newHeads"]}'));
    }
    for (;;) {
      if (buffered.length < 2) return;
      let length = buffered[1] & 0x7f, from = 2;
      if (length === 126) {
        if (buffered.length < 4) return;
        length = buffered.readUInt16BE(2);
        from = 4;
      }
      if (length === 127) {
        if (buffered.length < 10) return;
        length = Number(buffered.readBigUInt64BE(2));
        from = 10;
      }
      if (buffered.length < from + length) return;
      const [kind, payload] = [buffered[0] & 0x0f, buffered.toString("utf8", from, from + length)];
      buffered = buffered.subarray(from + length);
      if (kind !== 1) continue;
      const message = JSON.parse(payload);
      if (message.id === 1) subscribed();
      else {
        heights.push(Number(message.params.result.number));
        for (const [height, resolve] of waiting) if (heights.at(-1) >= height) resolve();
      }
    }
  });
  /** Waits until it was told of a height. */
  const told = (height) => new Promise((resolve, reject) => {
    if (heights.at(-1) >= height) return resolve();
    waiting.push([height, resolve]);
    socket.on("close", () => reject(new Error("closed")));
  });
  return { socket, ready, heights, told };
}

before(async () => {
  raiseDescriptors();
  const folder = mkdtempSync(join(tmpdir(), "stele-e2e-"));
  const config = join(folder, "stele.toml");
  writeFileSync(config, `rpc_connections = ${SUBSCRIBERS + 100}\n`);
  const any = "127.0.0.1:0";
  const flags = ["up", "--open", "--config", config, "--data", join(folder, "data"), "--http", any, "--rpc", any, "--mllp", "off", "--metrics", any];
  node = spawn("sh", ["-c", `ulimit -n ${DESCRIPTORS} && exec "$0" "$@"`, process.env.STELE, ...flags], { stdio: ["ignore", "pipe", "inherit"] });
  process.once("exit", () => {
    node.kill("SIGKILL");
    rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
  });
  for await (const line of createInterface({ input: node.stdout })) {
    if (line.startsWith("{")) {
      ready = JSON.parse(line);
      break;
    }
  }
  node.unref();
  node.stdout.resume().unref();
}, DEADLINE);

after(() => {
  for (const { socket } of subscribers) socket.destroy();
});

test("ten thousand subscribers are told of every block and cost less than 200 MB", DEADLINE, async () => {
  const port = Number(new URL(ready.rpc).port);
  const alone = resident();
  for (let begun = 0; begun < SUBSCRIBERS; begun += 250) {
    const some = Array.from({ length: 250 }, () => subscriber(port));
    subscribers.push(...some);
    await Promise.all(some.map((one) => one.ready));
  }
  const idle = resident() - alone;
  const provider = new JsonRpcProvider(ready.rpc, undefined, { pollingInterval: 100, cacheTimeout: -1 });
  const wallet = Wallet.createRandom(provider);
  const mined = [];
  for (const nonce of [0, 1, 2]) {
    const receipt = await (await wallet.sendTransaction({ to: wallet.address, nonce, gasLimit: 21_000 })).wait();
    mined.push(receipt.blockNumber);
  }
  // Everyone is told in the end, in order and once; the heartbeat may add blocks of its own.
  const last = mined.at(-1);
  await Promise.all(subscribers.map((one) => one.told(last)));
  for (const { heights } of subscribers) {
    assert.ok(mined.every((height) => heights.includes(height)));
    assert.ok(heights.every((height, i) => i === 0 || height === heights[i - 1] + 1));
  }
  const taken = Math.max(idle, resident() - alone);
  console.log(`# ${SUBSCRIBERS} subscribers took ${Math.round(taken / MEGABYTE)} MB`);
  assert.ok(taken < MEMORY, `${Math.round(taken / MEGABYTE)} MB`);
  provider.destroy();
});
