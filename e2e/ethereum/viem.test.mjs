// viem 2 against a node. Rows: NFR-INTEROP1.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { BaseError, ContractFunctionRevertedError, createPublicClient, createWalletClient, defineChain, http, parseEventLogs, webSocket } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";

import { healthRecords, refusing } from "./contracts.mjs";
import { ask, node } from "./node.mjs";

const { abi, bytecode } = healthRecords();
const DEADLINE = { timeout: 120_000 };
const POLLING = { pollingInterval: 100 };

let client, sockets, wallet, account, address;

before(async () => {
  const url = await node();
  const { result } = await ask(url.http, "eth_chainId");
  const chain = defineChain({
    id: Number(result),
    name: "Stele",
    nativeCurrency: { name: "None", symbol: "NONE", decimals: 18 },
    rpcUrls: { default: { http: [url.http], webSocket: [url.ws] } },
  });
  account = privateKeyToAccount(generatePrivateKey());
  client = createPublicClient({ chain, transport: http(), ...POLLING });
  sockets = createPublicClient({ chain, transport: webSocket() });
  wallet = createWalletClient({ chain, transport: http(), account });
  const hash = await wallet.deployContract({ abi, bytecode });
  ({ contractAddress: address } = await client.waitForTransactionReceipt({ hash }));
}, DEADLINE);

after(async () => {
  const transport = await sockets?.transport.getRpcClient();
  transport?.close();
});

async function create(id, name) {
  const args = [id, name, account.address, "", ""];
  const { request } = await client.simulateContract({ account, address, abi, functionName: "createRecord", args });
  return client.waitForTransactionReceipt({ hash: await wallet.writeContract(request) });
}

test("viem simulates, sends, reads and decodes", DEADLINE, async () => {
  const receipt = await create(1n, "Ann");
  assert.equal(receipt.status, "success");
  assert.equal(receipt.type, "eip1559");
  const [log] = parseEventLogs({ abi, logs: receipt.logs, eventName: "RecordCreated" });
  assert.deepEqual(log.args, { recordId: 1n, patientAddress: account.address });
  const read = { address, abi, functionName: "getRecordData", args: [1n] };
  assert.deepEqual(await client.readContract(read), ["Ann", account.address, "", ""]);
});

test("viem decodes why a call is reverted", DEADLINE, async () => {
  const stranger = privateKeyToAccount(generatePrivateKey());
  const call = { address, abi, functionName: "transferRecord", args: [99n, stranger.address] };
  await assert.rejects(client.simulateContract({ ...call, account: stranger }), (error) => {
    assert.match(error.shortMessage, /Only contract owner can call this/);
    return true;
  });
});

test("viem sees blocks, fees and pools", DEADLINE, async () => {
  const block = await client.getBlock({ includeTransactions: true });
  assert.equal(block.baseFeePerGas, 0n);
  assert.equal((await client.getBlock({ blockHash: block.hash })).number, block.number);
  assert.equal(await client.getGasPrice(), 0n);
  const fees = await client.estimateFeesPerGas();
  assert.deepEqual([fees.maxFeePerGas, fees.maxPriorityFeePerGas], [0n, 0n]);
  const history = await client.getFeeHistory({ blockCount: 2, rewardPercentiles: [50] });
  assert.ok(history.baseFeePerGas.every((fee) => fee === 0n));
  assert.equal(await client.getTransactionCount({ address: account.address, blockTag: "pending" }),
    await client.getTransactionCount({ address: account.address }));
});

test("viem watches events by filter and by subscription", DEADLINE, async () => {
  const watched = { address, abi, eventName: "RecordCreated", args: { recordId: 7n }, strict: true };
  const told = (watcher, options) =>
    new Promise((resolve, reject) => {
      const stop = watcher.watchContractEvent({
        ...watched,
        ...options,
        onError: reject,
        onLogs: (logs) => {
          stop();
          resolve(logs[0].transactionHash);
        },
      });
    });
  const heard = [told(client, { poll: true, ...POLLING }), told(sockets, {})];
  // Filters and subscriptions are set up in the background. Records are created until all have heard of one, so
  // that nothing here depends on time.
  const all = Promise.all(heard);
  let heardAll = false;
  all.then(() => (heardAll = true), () => (heardAll = true));
  const sent = new Set();
  while (!heardAll) sent.add((await create(7n, "Gil")).transactionHash);
  for (const hash of await all) assert.ok(sent.has(hash));
  const logs = await client.getContractEvents({ ...watched, fromBlock: 0n });
  assert.deepEqual(new Set(logs.map((log) => log.transactionHash)), sent);
});

test("viem sends types 0, 1 and 2 and finds them in blocks with all transactions", DEADLINE, async () => {
  const sent = [
    ["legacy", { gasPrice: 0n }],
    ["eip2930", { gasPrice: 0n, accessList: [{ address, storageKeys: [`0x${"00".repeat(32)}`] }] }],
    ["eip1559", { maxFeePerGas: 0n, maxPriorityFeePerGas: 0n }],
  ];
  for (const [type, fees] of sent) {
    const hash = await wallet.sendTransaction({ type, ...fees, to: account.address, data: "0xc0ffee", gas: 60_000n });
    const receipt = await client.waitForTransactionReceipt({ hash });
    assert.deepEqual([receipt.type, receipt.status, receipt.effectiveGasPrice], [type, "success", 0n]);
    const block = await client.getBlock({ blockNumber: receipt.blockNumber, includeTransactions: true });
    const found = block.transactions.find((transaction) => transaction.hash === hash);
    assert.deepEqual([found.type, found.input, found.from.toLowerCase()], [type, "0xc0ffee", account.address.toLowerCase()]);
    if (type === "eip2930") assert.equal(found.accessList[0].address.toLowerCase(), address.toLowerCase());
  }
});

test("viem decodes a contract's own error", DEADLINE, async () => {
  const { abi: own, bytecode: code } = refusing();
  const hash = await wallet.deployContract({ abi: own, bytecode: code });
  const { contractAddress } = await client.waitForTransactionReceipt({ hash });
  const asked = client.readContract({ address: contractAddress, abi: own, functionName: "ask", args: [7n], account });
  await assert.rejects(asked, (error) => {
    assert.ok(error instanceof BaseError);
    const { data } = error.walk((inner) => inner instanceof ContractFunctionRevertedError);
    assert.deepEqual([data.errorName, data.args], ["TooSoon", [account.address, 7n]]);
    return true;
  });
});
