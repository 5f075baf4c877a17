// ethers 6 against a node: the papers' contract, unchanged, through all its functions and events; transactions of
// every type; refusals. Rows: NFR-INTEROP1 (Ethereum tools work unchanged).

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Contract, ContractFactory, JsonRpcProvider, Transaction, Wallet, WebSocketProvider } from "ethers";

import { healthRecords } from "./contracts.mjs";
import { ask, node } from "./node.mjs";

const { abi, bytecode } = healthRecords();
const DEADLINE = { timeout: 120_000 };

let url, provider, sockets, doctor, patient, contract;

before(async () => {
  url = await node();
  provider = new JsonRpcProvider(url.http, undefined, { pollingInterval: 100, cacheTimeout: -1 });
  sockets = new WebSocketProvider(url.ws);
  doctor = Wallet.createRandom(provider);
  patient = Wallet.createRandom(provider);
  contract = await new ContractFactory(abi, bytecode, doctor).deploy();
  await contract.waitForDeployment();
}, DEADLINE);

after(async () => {
  provider?.destroy();
  await sockets?.destroy();
});

function event(receipt, name) {
  const [log] = receipt.logs.map((log) => contract.interface.parseLog(log)).filter((log) => log.name === name);
  return log.args.toObject();
}

test("the contract is deployed where ethers expects it", DEADLINE, async () => {
  const receipt = await contract.deploymentTransaction().wait();
  assert.equal(receipt.contractAddress, await contract.getAddress());
  assert.equal(receipt.status, 1);
  assert.notEqual(await provider.getCode(contract), "0x");
});

test("records are created, read, and overwritten by anyone, as the source has it", DEADLINE, async () => {
  const receipt = await (await contract.createRecord(1, "Ann", patient.address, "none", "ann@example.org")).wait();
  assert.deepEqual(event(receipt, "RecordCreated"), { recordId: 1n, patientAddress: patient.address });
  assert.deepEqual([...(await contract.getRecordData(1))], ["Ann", patient.address, "none", "ann@example.org"]);
  assert.equal(await contract.getRecordOwner(1), patient.address);
  assert.deepEqual([...(await contract.records(1))], ["Ann", patient.address, "none", "ann@example.org"]);
  const stranger = Wallet.createRandom(provider);
  await (await contract.connect(stranger).createRecord(1, "Eve", patient.address, "", "")).wait();
  assert.equal((await contract.getRecordData(1))[0], "Eve");
});

test("records are transferred by their owner only", DEADLINE, async () => {
  await (await contract.createRecord(2, "Bob", patient.address, "", "")).wait();
  const words = "Only contract owner can call this";
  // Refused by the estimate, by a call, and, sent all the same, by the block.
  await assert.rejects(contract.transferRecord(2, doctor.address), { code: "CALL_EXCEPTION", reason: words });
  await assert.rejects(contract.transferRecord.staticCall(2, doctor.address), { reason: words });
  const sent = await contract.transferRecord(2, doctor.address, { gasLimit: 100_000 });
  await assert.rejects(sent.wait(), { code: "CALL_EXCEPTION" });
  assert.equal((await provider.getTransactionReceipt(sent.hash)).status, 0);
  assert.equal(await contract.getRecordOwner(2), patient.address);

  const receipt = await (await contract.connect(patient).transferRecord(2, doctor.address)).wait();
  // The source emits after it has changed the owner, so `from` is the new one.
  assert.deepEqual(event(receipt, "RecordTransferred"), { recordId: 2n, from: doctor.address, to: doctor.address });
  assert.equal(await contract.getRecordOwner(2), doctor.address);
});

test("events are found again by their indexed fields", DEADLINE, async () => {
  await (await contract.createRecord(30, "Cyd", patient.address, "", "")).wait();
  await (await contract.createRecord(31, "Dan", doctor.address, "", "")).wait();
  const mine = await contract.queryFilter(contract.filters.RecordCreated(30));
  assert.equal(mine.length, 1);
  assert.equal(mine[0].args.patientAddress, patient.address);
  const block = await mine[0].getBlock();
  assert.equal(block.hash, mine[0].blockHash);
  const either = await contract.queryFilter(contract.filters.RecordCreated([30, 31]));
  assert.deepEqual(either.map((log) => log.args.recordId), [30n, 31n]);
  const byHash = await provider.getLogs({ blockHash: mine[0].blockHash, address: await contract.getAddress() });
  assert.equal(byHash.length, 1);
});

test("events and blocks come by WebSocket and by polling", DEADLINE, async () => {
  const listening = contract.connect(sockets);
  const bySocket = new Promise((resolve) => listening.once("RecordCreated", (id) => resolve(id)));
  const byPolling = new Promise((resolve) => contract.once("RecordCreated", (id) => resolve(id)));
  const block = new Promise((resolve) => sockets.once("block", resolve));
  // `once` subscribes in the background; the listener is there when ethers says so.
  assert.equal(await listening.listenerCount("RecordCreated"), 1);
  assert.equal(await contract.listenerCount("RecordCreated"), 1);
  await sockets.getBlockNumber();
  await provider.getBlockNumber();
  const sent = await contract.createRecord(40, "Eli", patient.address, "", "");
  const { blockNumber } = await sent.wait();
  assert.equal(await bySocket, 40n);
  assert.equal(await byPolling, 40n);
  assert.ok((await block) <= blockNumber + 1);
});

test("transactions of types 0, 1 and 2 are recorded as they were signed", DEADLINE, async () => {
  const wallet = Wallet.createRandom(provider);
  for (const type of [0, 1, 2]) {
    const sent = await wallet.sendTransaction({ to: patient.address, data: "0xc0ffee", type, gasLimit: 60_000 });
    const receipt = await sent.wait();
    assert.equal(receipt.type, type);
    assert.equal(receipt.gasPrice, 0n);
    const found = await provider.getTransaction(sent.hash);
    assert.equal(found.type, type);
    // The fields suffice to put the signed transaction together again, and its hash is the one on the ledger.
    const again = Transaction.from({ ...found.toJSON(), chainId: found.chainId, signature: found.signature, from: null, hash: null });
    assert.equal(again.hash, sent.hash);
    assert.equal(again.from, wallet.address);
    const block = await provider.getBlock(receipt.blockNumber, true);
    assert.ok(block.prefetchedTransactions.some((tx) => tx.hash === sent.hash));
    assert.equal(block.baseFeePerGas, 0n);
  }
  assert.equal(await provider.getTransactionCount(wallet.address), 3);
});

test("refusals come in words that ethers knows", DEADLINE, async () => {
  const wallet = Wallet.createRandom(provider);
  const request = { to: patient.address, gasLimit: 60_000, nonce: 0 };
  await (await wallet.sendTransaction(request)).wait();
  await assert.rejects(wallet.sendTransaction({ ...request, data: "0x01" }), { code: "NONCE_EXPIRED" });
  const other = await wallet.signTransaction({ ...request, nonce: 1, chainId: 1, type: 2, maxFeePerGas: 0, maxPriorityFeePerGas: 0 });
  const refused = await ask(url.http, "eth_sendRawTransaction", [other]);
  assert.equal(refused.error.code, -32000);
  assert.match(refused.error.message, /chain 1, this is chain/);
  const unknown = await ask(url.http, "eth_mine");
  assert.equal(unknown.error.code, -32601);
});
