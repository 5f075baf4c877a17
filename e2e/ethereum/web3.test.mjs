// web3.js 4 against a node. Rows: NFR-INTEROP1.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Web3 } from "web3";

import { healthRecords, refusing } from "./contracts.mjs";
import { node } from "./node.mjs";

const { abi, bytecode } = healthRecords();
const DEADLINE = { timeout: 120_000 };

let web3, sockets, account, contract;

before(async () => {
  const url = await node();
  web3 = new Web3(url.http);
  sockets = new Web3(url.ws);
  for (const each of [web3, sockets]) each.eth.transactionPollingInterval = 100;
  account = web3.eth.accounts.wallet.create(1)[0];
  contract = await new web3.eth.Contract(abi).deploy({ data: bytecode }).send({ from: account.address });
}, DEADLINE);

after(() => sockets?.provider.disconnect());

test("web3.js deploys, sends, calls and finds events", DEADLINE, async () => {
  const create = contract.methods.createRecord(1, "Ann", account.address, "none", "ann@example.org");
  const receipt = await create.send({ from: account.address });
  assert.equal(receipt.status, 1n);
  assert.equal(receipt.events.RecordCreated.returnValues.recordId, 1n);
  const read = await contract.methods.getRecordData(1).call();
  assert.deepEqual([read[0], read[1], read[2]], ["Ann", account.address, "none"]);
  const events = await contract.getPastEvents("RecordCreated", { fromBlock: 0, filter: { recordId: 1 } });
  assert.equal(events.length, 1);
  const block = await web3.eth.getBlock("latest", true);
  assert.equal(block.baseFeePerGas, 0n);
  const found = await web3.eth.getTransaction(receipt.transactionHash);
  assert.equal(found.from.toLowerCase(), account.address.toLowerCase());
});

test("web3.js says why a call is reverted", DEADLINE, async () => {
  const call = contract.methods.transferRecord(77, account.address).call({ from: account.address });
  await assert.rejects(call, (error) => {
    assert.match(`${error.message} ${error.cause?.message} ${error.reason}`, /Only contract owner can call this/);
    return true;
  });
});

test("web3.js subscribes by WebSocket", DEADLINE, async () => {
  const heads = await sockets.eth.subscribe("newBlockHeaders");
  const logs = await sockets.eth.subscribe("logs", { address: contract.options.address });
  const head = new Promise((resolve, reject) => {
    heads.once("data", resolve);
    heads.once("error", reject);
  });
  const log = new Promise((resolve, reject) => {
    logs.once("data", resolve);
    logs.once("error", reject);
  });
  const create = contract.methods.createRecord(5, "Eli", account.address, "", "");
  const receipt = await create.send({ from: account.address });
  assert.equal((await log).transactionHash, receipt.transactionHash);
  assert.ok((await head).number <= receipt.blockNumber);
  await heads.unsubscribe();
  await logs.unsubscribe();
});

test("web3.js reads the node's state", DEADLINE, async () => {
  assert.equal(await web3.eth.getGasPrice(), 0n);
  assert.equal(await web3.eth.getBalance(account.address), 0n);
  assert.equal(await web3.eth.net.isListening(), true);
  assert.equal(await web3.eth.isSyncing(), false);
  assert.match(await web3.eth.getNodeInfo(), /^Stele\/v/);
  const code = await web3.eth.getCode(contract.options.address);
  assert.ok(code.length > 100);
});

test("web3.js sends types 0, 1 and 2 and finds them in blocks with all transactions", DEADLINE, async () => {
  const sent = [
    { type: 0, gasPrice: 0 },
    { type: 1, gasPrice: 0, accessList: [] },
    { type: 2, maxFeePerGas: 0, maxPriorityFeePerGas: 0 },
  ];
  for (const fields of sent) {
    const request = { ...fields, from: account.address, to: account.address, data: "0xc0ffee", gas: 60_000 };
    const receipt = await web3.eth.sendTransaction(request);
    assert.deepEqual([Number(receipt.type), receipt.status], [fields.type, 1n]);
    const block = await web3.eth.getBlock(receipt.blockNumber, true);
    const found = block.transactions.find((transaction) => transaction.hash === receipt.transactionHash);
    assert.deepEqual([Number(found.type), found.from.toLowerCase()], [fields.type, account.address.toLowerCase()]);
  }
});

test("web3.js decodes a contract's own error", DEADLINE, async () => {
  const { abi: own, bytecode: code } = refusing();
  const refuser = await new web3.eth.Contract(own).deploy({ data: code }).send({ from: account.address });
  await assert.rejects(refuser.methods.ask(7).call({ from: account.address }), (error) => {
    assert.deepEqual([error.cause.errorName, error.cause.errorArgs.wait], ["TooSoon", 7n]);
    return true;
  });
});

test("web3.js finds logs by filter", DEADLINE, async () => {
  await contract.methods.createRecord(9, "Flo", account.address, "", "").send({ from: account.address });
  const topic = web3.eth.abi.encodeEventSignature("RecordCreated(uint256,address)");
  const found = await web3.eth.getPastLogs({
    address: contract.options.address, fromBlock: "0x0", topics: [topic, web3.utils.padLeft("0x9", 64)],
  });
  assert.equal(found.length, 1);
});
