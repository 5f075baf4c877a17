// What Remix's debugger and Foundry's traces ask for: go-ethereum's tracers over the state of old blocks. Rows: FR-X1.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Contract, ContractFactory, JsonRpcProvider, Wallet, id } from "ethers";

import { compile, healthRecords, systemContracts } from "./contracts.mjs";
import { ask, node } from "./node.mjs";

const DEADLINE = { timeout: 120_000 };
const SOURCE = `// SPDX-License-Identifier: MIT
  pragma solidity ^0.8.20;
  interface IConsent { function can(address, address, uint8, uint8, uint16) external view returns (bool); }
  contract Door {
    error Closed(address who);
    uint256 public tries;
    function look(address patient) external returns (bool) {
      tries += 1;
      return IConsent(0x5E1e000000000000000000000000000000000003).can(patient, msg.sender, 0, 1, 1);
    }
    function open(address patient) external view {
      if (!IConsent(0x5E1e000000000000000000000000000000000003).can(patient, msg.sender, 0, 1, 1)) revert Closed(msg.sender);
    }
  }`;

let url, provider, wallet, door, records;

async function trace(method, ...params) {
  const answer = await ask(url.http, method, params);
  assert.equal(answer.error, undefined, JSON.stringify(answer.error));
  return answer.result;
}

async function deploy({ abi, bytecode }) {
  return (await new ContractFactory(abi, bytecode, wallet).deploy()).waitForDeployment();
}

before(async () => {
  url = await node();
  provider = new JsonRpcProvider(url.http, undefined, { pollingInterval: 100, cacheTimeout: -1 });
  wallet = Wallet.createRandom(provider);
  door = await deploy(compile({ "Door.sol": SOURCE }).Door);
  records = await deploy(healthRecords());
}, DEADLINE);

after(() => provider?.destroy());

test("the struct logger tells every step, with stack and storage", DEADLINE, async () => {
  const receipt = await (await records.createRecord(1, "Ann", wallet.address, "none", "")).wait();
  const traced = await trace("debug_traceTransaction", receipt.hash);
  assert.equal(traced.failed, false);
  assert.equal(BigInt(traced.gas), receipt.gasUsed);
  const ops = traced.structLogs.map((step) => step.op);
  assert.deepEqual([ops[0], ops[1], ops.at(-1)], ["PUSH1", "PUSH1", "STOP"]);
  assert.ok(ops.includes("LOG3"));
  const stores = traced.structLogs.filter((step) => step.op === "SSTORE");
  assert.equal(stores.length, 4);
  // What is on the stack is what is stored.
  for (const step of stores) {
    const slot = step.stack.at(-1).slice(2).padStart(64, "0");
    const entry = Object.entries(step.storage).find(([key]) => key.replace(/^0x/, "") === slot);
    assert.equal(BigInt(`0x${entry[1].replace(/^0x/, "")}`), BigInt(step.stack.at(-2)));
  }
  const brief = await trace("debug_traceTransaction", receipt.hash, { disableStack: true, disableStorage: true, limit: 5 });
  assert.equal(brief.structLogs.length, 5);
  assert.ok(brief.structLogs.every((step) => step.stack == null && step.storage == null));
});

test("the call tracer shows native contracts as calls, with what they answered", DEADLINE, async () => {
  const receipt = await (await door.look(wallet.address)).wait();
  const traced = await trace("debug_traceTransaction", receipt.hash, { tracer: "callTracer" });
  assert.deepEqual([traced.type, traced.to, traced.from], ["CALL", (await door.getAddress()).toLowerCase(), wallet.address.toLowerCase()]);
  assert.equal(BigInt(traced.gasUsed), receipt.gasUsed);
  const { IConsent } = systemContracts();
  const [native] = traced.calls;
  assert.deepEqual([traced.calls.length, native.type, native.to], [1, "STATICCALL", IConsent.address]);
  const consent = new Contract(IConsent.address, IConsent.abi);
  const asked = consent.interface.decodeFunctionData("can", native.input);
  assert.deepEqual([asked[0], asked[1]], [wallet.address, wallet.address]);
  assert.deepEqual([...consent.interface.decodeFunctionResult("can", native.output)], [false]);
  const direct = await trace("debug_traceCall", { to: IConsent.address, data: native.input }, "latest", { tracer: "callTracer" });
  assert.equal(direct.output, native.output);
});

test("a revert is told with its data", DEADLINE, async () => {
  const sent = await wallet.sendTransaction({ ...(await door.open.populateTransaction(wallet.address)), gasLimit: 200_000 });
  await assert.rejects(sent.wait());
  const traced = await trace("debug_traceTransaction", sent.hash, { tracer: "callTracer" });
  assert.equal(traced.error, "execution reverted");
  const error = door.interface.parseError(traced.output);
  assert.deepEqual([error.name, ...error.args], ["Closed", wallet.address]);
  const steps = await trace("debug_traceTransaction", sent.hash, {});
  assert.deepEqual([steps.failed, steps.structLogs.at(-1).op], [true, "REVERT"]);
});

test("transactions of one block are traced on what stood before each", DEADLINE, async () => {
  const nonce = await wallet.getNonce();
  const signed = [];
  for (const ahead of [0, 1, 2, 3]) {
    const call = await door.look.populateTransaction(wallet.address);
    signed.push(await wallet.signTransaction({
      ...call, nonce: nonce + ahead, gasLimit: 200_000, type: 2, maxFeePerGas: 0, maxPriorityFeePerGas: 0,
      chainId: (await provider.getNetwork()).chainId,
    }));
  }
  const hashes = await Promise.all(signed.map((raw) => provider.send("eth_sendRawTransaction", [raw])));
  const receipts = await Promise.all(hashes.map((hash) => provider.waitForTransaction(hash)));
  const last = receipts.at(-1).blockNumber;
  for (const [ahead, receipt] of receipts.entries()) {
    const traced = await trace("debug_traceTransaction", receipt.hash, {});
    assert.equal(BigInt(traced.gas), receipt.gasUsed);
    // The counter before each is the number of those before it.
    const store = traced.structLogs.find((step) => step.op === "SSTORE");
    const before = await door.tries({ blockTag: receipts[0].blockNumber - 1 });
    assert.equal(BigInt(store.stack.at(-2)), before + BigInt(ahead) + 1n);
  }
  const block = await provider.getBlock(last);
  const whole = await trace("debug_traceBlockByNumber", `0x${last.toString(16)}`, { tracer: "callTracer" });
  assert.deepEqual(whole.map((one) => one.txHash), block.transactions);
  const byHash = await trace("debug_traceBlockByHash", block.hash, { tracer: "callTracer" });
  assert.deepEqual(byHash, whole);
});

test("the state of recent blocks can be asked for", DEADLINE, async () => {
  const other = Wallet.createRandom();
  const created = await (await records.createRecord(7, "Bob", wallet.address, "", "")).wait();
  const moved = await (await records.transferRecord(7, other.address)).wait();
  const owner = (blockTag) => records.getRecordOwner(7, { blockTag });
  assert.equal(await owner(created.blockNumber), wallet.address);
  assert.equal(await owner(moved.blockNumber), other.address);
  assert.equal(await provider.getTransactionCount(wallet.address, created.blockNumber) + 1,
    await provider.getTransactionCount(wallet.address, moved.blockNumber));
  const beyond = await ask(url.http, "eth_call", [{ to: await records.getAddress() }, "0xffffff"]);
  assert.equal(beyond.error.code, -32001);
});

test("what cannot be traced is refused in words", DEADLINE, async () => {
  const unknown = await ask(url.http, "debug_traceTransaction", [id("none")]);
  assert.deepEqual([unknown.error.code, unknown.error.message], [-32000, "transaction not found"]);
  const receipt = await (await door.look(wallet.address)).wait();
  const script = await ask(url.http, "debug_traceTransaction", [receipt.hash, { tracer: "{ step() {} }" }]);
  assert.equal(script.error.code, -32602);
  assert.match(script.error.message, /callTracer/);
  const missing = await ask(url.http, "debug_traceCall", []);
  assert.deepEqual([missing.error.code, /`transaction`/.test(missing.error.message)], [-32602, true]);
});
