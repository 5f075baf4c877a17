// JSON-RPC over a Unix socket, by the libraries' own IPC transports. Rows: FR-X1.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { IpcSocketProvider, parseEther } from "ethers";

import { startDevelopment } from "../start.mjs";

const DEADLINE = { timeout: 60_000 };

let folder, path, provider;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "stele-ipc-"));
  path = join(folder, "stele.ipc");
  await startDevelopment("--ipc", path);
  provider = new IpcSocketProvider(path);
}, DEADLINE);

after(async () => {
  await provider?.destroy();
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
});

/** Writes bytes to the socket, in these pieces; gives the lines that come back until `count` of them are there. */
function talk(pieces, count) {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    let said = "";
    const lines = () => said.split("\n").filter(Boolean);
    socket.on("error", reject);
    socket.on("data", (data) => {
      said += data;
      if (lines().length >= count) socket.end();
    });
    socket.on("close", () => resolve(lines().map((line) => JSON.parse(line))));
    for (const piece of pieces) socket.write(piece);
  });
}

test("only the node's own user may open the socket", () => {
  const { mode } = statSync(path);
  assert.deepEqual([(mode & 0o777).toString(8), (mode & 0o170000).toString(8)], ["600", "140000"]);
});

test("ethers sends, reads and subscribes over it", DEADLINE, async () => {
  const signer = await provider.getSigner(1);
  const block = new Promise((resolve) => provider.once("block", resolve));
  await provider.getBlockNumber();
  // Subscriptions are made in the background: blocks are made until one is told.
  let told = false;
  block.then(() => (told = true));
  while (!told) await (await signer.sendTransaction({ to: signer.address, value: parseEther("1") })).wait();
  assert.ok((await block) >= 1);
});

test("messages come one after the other, in any pieces", DEADLINE, async () => {
  const ask = (id, method, params = []) => JSON.stringify({ jsonrpc: "2.0", id, method, params });
  const [whole, notified] = [ask(1, "eth_chainId"), JSON.stringify({ jsonrpc: "2.0", method: "eth_chainId", params: [] })];
  const quoted = ask("}\"]", "web3_sha3", ["0x68656c6c6f"]);
  const answers = await talk([whole.slice(0, 9), whole.slice(9) + notified + quoted, `[${ask(2, "net_listening")},${ask(3, "nope")}]`], 3);
  assert.deepEqual(answers.slice(0, 2).map((answer) => [answer.id, answer.result.length]), [[1, 6], ["}\"]", 66]]);
  assert.deepEqual(answers[2].map((answer) => answer.result ?? answer.error.code), [true, -32601]);
});

test("what is not JSON-RPC is told so", DEADLINE, async () => {
  const code = async (text) => (await talk([text], 1))[0].error.code;
  assert.equal(await code("hello"), -32700);
  assert.equal(await code("{]"), -32700);
  assert.equal(await code('{"jsonrpc":"2.0"}'), -32600);
  assert.equal(await code("[]"), -32600);
  assert.equal(await code(`[${Array(1_001).fill('{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}').join(",")}]`), -32010);
  const [missing] = await talk(['{"jsonrpc":"2.0","id":1,"method":"eth_getBalance","params":[]}'], 1);
  assert.deepEqual([missing.error.code, /`address`/.test(missing.error.message)], [-32602, true]);
});

test("a socket that is in use is not taken", DEADLINE, async () => {
  await assert.rejects(startDevelopment("--ipc", path));
  assert.equal((await provider.getNetwork()).chainId, 31337n);
});
