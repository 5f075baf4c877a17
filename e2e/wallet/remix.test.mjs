// What Remix asks of "Custom - External HTTP Provider" and of an injected wallet, from a page at its own address in a real
// browser: as ethers asks it there to detect the network and deploy, and as its debugger asks it. Rows: FR-X1, FR-X2.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Interface, id, keccak256, toBeHex } from "ethers";

import { compile, healthRecords } from "../ethereum/contracts.mjs";
import { start, startDevelopment } from "../start.mjs";
import { config } from "./config.mjs";
import { browser, standIn } from "./pages.mjs";

const DEADLINE = { timeout: 180_000 };
const REMIX = "https://remix.ethereum.org";

let chromium;

before(async () => {
  chromium = await browser();
}, DEADLINE);

after(() => chromium?.close());

/** Remix's page, and `ask`, one JSON-RPC call out of it. */
async function remix(rpc) {
  const context = await chromium.newContext();
  // Chromium asks the person before a page of the internet may reach this machine; here the person says yes.
  await context.grantPermissions(["local-network-access"], { origin: REMIX });
  const page = await context.newPage();
  await standIn(page, REMIX);
  await page.goto(REMIX);
  assert.equal(await page.evaluate(() => origin), REMIX);
  const ask = async (method, ...params) => {
    const answer = await page.evaluate(
      async ([rpc, method, params]) => {
        const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method, params });
        const asked = fetch(rpc, { method: "POST", headers: { "content-type": "application/json" }, body });
        return asked.then((response) => response.json()).catch((error) => ({ error: { message: error.name } }));
      },
      [rpc, method, params],
    );
    if (answer.error) throw Object.assign(new Error(answer.error.message), answer.error);
    return answer.result;
  };
  return { page, ask };
}

test("Remix's page reaches a node that lists it, and no other", DEADLINE, async () => {
  const [listed, closed] = [await start("--config", config({ rpc_origins: [REMIX] })), await start()];
  const { ask } = await remix(listed.ready.rpc);
  assert.equal(await ask("eth_chainId"), "0xe1e7");
  assert.match(await ask("web3_clientVersion"), /^stele/i);
  await assert.rejects((await remix(closed.ready.rpc)).ask("eth_chainId"), { message: "TypeError" });
});

test("a contract is deployed, called, debugged and found again", DEADLINE, async () => {
  const { rpc } = await startDevelopment();
  const { ask } = await remix(rpc);
  // Choosing the provider: whose node, which network, what a block holds, which accounts.
  assert.match(await ask("web3_clientVersion"), /^stele/i);
  assert.equal(await ask("net_version"), "31337");
  assert.equal(await ask("eth_chainId"), "0x7a69");
  const latest = await ask("eth_getBlockByNumber", "latest", false);
  assert.ok(BigInt(latest.gasLimit) >= 30_000_000n);
  assert.equal(BigInt(latest.baseFeePerGas), 0n);
  const [from] = await ask("eth_accounts");
  assert.equal(BigInt(await ask("eth_getBalance", from, "latest")) / 10n ** 18n, 10_000n);

  // "Deploy": Remix sends by the node's own account, and waits for receipt and transaction.
  const { abi, bytecode } = healthRecords();
  const records = new Interface(abi);
  const send = async (transaction) => {
    const gas = await ask("eth_estimateGas", transaction);
    const hash = await ask("eth_sendTransaction", { ...transaction, gas, type: "0x2", maxFeePerGas: "0x0", maxPriorityFeePerGas: "0x0", value: "0x0" });
    const receipt = await ask("eth_getTransactionReceipt", hash);
    assert.equal((await ask("eth_getTransactionByHash", hash)).blockHash, receipt.blockHash);
    return receipt;
  };
  const { contractAddress: to, status } = await send({ from, data: bytecode });
  assert.equal(status, "0x1");
  assert.ok((await ask("eth_getCode", to, "latest")).length > 100);

  // A button of the contract, in orange and in blue.
  const created = await send({ from, to, data: records.encodeFunctionData("createRecord", [1, "Ann", from, "none", ""]) });
  const [log] = await ask("eth_getLogs", { address: to, fromBlock: created.blockNumber, toBlock: created.blockNumber });
  assert.equal(records.parseLog(log).args.patientAddress.toLowerCase(), from.toLowerCase());
  const called = await ask("eth_call", { from, to, data: records.encodeFunctionData("getRecordOwner", [1]) }, "latest");
  assert.equal(records.decodeFunctionResult("getRecordOwner", called)[0].toLowerCase(), from.toLowerCase());

  // "Debug": every step with stack and memory, then the storage that the steps began with.
  const traced = await ask("debug_traceTransaction", created.transactionHash, {
    disableStorage: true, enableMemory: true, disableStack: false, fullStorage: false,
  });
  assert.equal(traced.failed, false);
  assert.ok(traced.structLogs.length > 50);
  for (const step of traced.structLogs) assert.ok(Array.isArray(step.stack) && step.op && Number.isInteger(step.pc) && step.depth === 1);
  assert.ok(traced.structLogs.some((step) => step.memory?.length > 0));
  const calls = await ask("debug_traceTransaction", created.transactionHash, { tracer: "callTracer" });
  assert.equal(calls.to, to);
  const zero = `0x${"0".repeat(64)}`;
  const before = await ask("debug_storageRangeAt", created.blockHash, 0, to, zero, 100);
  assert.deepEqual(before, { storage: {}, nextKey: null });
  const renamed = await send({ from, to, data: records.encodeFunctionData("createRecord", [1, "Bea", from, "none", ""]) });
  const range = await ask("debug_storageRangeAt", renamed.blockHash, Number(renamed.transactionIndex), to, zero, 100);
  const text = (value) => Buffer.from(value.slice(2), "hex").toString("latin1");
  assert.ok(Object.values(range.storage).some(({ value }) => text(value).startsWith("Ann")));
  assert.ok(!Object.values(range.storage).some(({ value }) => text(value).startsWith("Bea")));
  await assert.rejects(ask("eth_estimateGas", { from, to, data: records.encodeFunctionData("transferRecord", [99, from]) }), { code: 3 });
});

/** Storage as a debugger pages through it: hashed keys in order, each transaction on what those before it left. */
test("a range of storage is that of the moment, page by page", DEADLINE, async () => {
  const { rpc } = await startDevelopment("--no-mining");
  const { ask } = await remix(rpc);
  const source = "pragma solidity ^0.8.20; contract Words { mapping(uint256 => uint256) words; function put(uint256 at, uint256 word) external { words[at] = word; } }";
  const { abi, bytecode } = compile({ "Words.sol": `// SPDX-License-Identifier: MIT\n${source}` }).Words;
  const [from] = await ask("eth_accounts");
  const gas = toBeHex(1_000_000);
  const deployed = await ask("eth_sendTransaction", { from, data: bytecode, gas });
  await ask("evm_mine");
  const { contractAddress: to } = await ask("eth_getTransactionReceipt", deployed);
  const put = (at, word) => ask("eth_sendTransaction", { from, to, gas, data: new Interface(abi).encodeFunctionData("put", [at, word]) });
  // Forty in one block, written one after another; the first is cleared at the end.
  for (let at = 0; at < 40; at++) await put(at, 1_000 + at);
  await put(0, 0);
  await ask("evm_mine");
  const block = await ask("eth_getBlockByNumber", "latest", false);
  assert.equal(block.transactions.length, 41);
  const hashed = (at) => keccak256(keccak256(`0x${toBeHex(at, 32).slice(2)}${"0".repeat(64)}`));
  const expected = (upTo) => Array.from({ length: upTo }, (_, at) => [hashed(at), BigInt(1_000 + at)]).sort(([a], [b]) => (a < b ? -1 : 1));
  for (const index of [0, 1, 17, 40]) {
    const found = [];
    let [start, pages] = [`0x${"0".repeat(64)}`, 0];
    while (start) {
      const { storage, nextKey } = await ask("debug_storageRangeAt", pages % 2 ? block.hash : block.number, index, to, start, 7);
      for (const [key, { key: plain, value }] of Object.entries(storage)) found.push([key, BigInt(value)]) && assert.equal(plain, null);
      [start, pages] = [nextKey, pages + 1];
    }
    assert.deepEqual(found, expected(index), `before ${index}`);
    assert.equal(pages, Math.max(1, Math.ceil(index / 7)));
  }
  for (const [params, code] of [
    [[block.hash, 41, to, "0x", 7], -32000],
    [[id("no block"), 0, to, "0x", 7], -32001],
    [["0xffff", 0, to, "0x", 7], -32000],
    [[block.hash, "x", to, "0x", 7], -32602],
    [[block.hash, 0, to, `0x${"00".repeat(33)}`, 7], -32602],
    [[block.hash, 0, to], -32602],
  ]) {
    await assert.rejects(ask("debug_storageRangeAt", ...params), { code }, JSON.stringify(params));
  }
});
