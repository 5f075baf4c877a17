// `stele dev`: the methods of Ganache, Hardhat's network and anvil, as far as tools use them, and that a node has none of
// them. Rows: FR-X2, NFR-UX2.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Contract, ContractFactory, HDNodeWallet, JsonRpcProvider, Mnemonic, Transaction, TypedDataEncoder, Wallet, ZeroHash, parseEther } from "ethers";
import { abis, addresses, domain, types } from "stele-contracts";
import { createWalletClient, http } from "viem";

import { compile } from "../ethereum/contracts.mjs";
import { ask } from "../ethereum/node.mjs";
import { start, startDevelopment } from "../start.mjs";

const DEADLINE = { timeout: 120_000 };
const SOURCE = `// SPDX-License-Identifier: MIT
  pragma solidity ^0.8.20;
  contract Vault {
    address public owner = msg.sender;
    uint256 public total;
    error NotTheOwner(address who);
    function add(uint256 amount) external payable {
      if (msg.sender != owner) revert NotTheOwner(msg.sender);
      total += amount;
    }
    function now_() external view returns (uint256) { return block.timestamp; }
  }`;

let url, provider, ready, vault;

const rpc = (method, ...params) => provider.send(method, params);
const refused = (method, ...params) => ask(url, method, params).then((answer) => answer.error);

before(async () => {
  ready = await startDevelopment();
  url = ready.rpc;
  provider = new JsonRpcProvider(url, undefined, { pollingInterval: 50, cacheTimeout: -1 });
  const { abi, bytecode } = compile({ "Vault.sol": SOURCE }).Vault;
  vault = await (await new ContractFactory(abi, bytecode, await provider.getSigner(0)).deploy()).waitForDeployment();
}, DEADLINE);

after(() => provider?.destroy());

/** FR-X2: typed data as wallets sign it; ethers and viem ask the node for it, and get what their own signers give. */
test("typed data is signed by the node", DEADLINE, async () => {
  const mnemonic = Mnemonic.fromPhrase("test test test test test test test test test test test junk");
  const key = HDNodeWallet.fromMnemonic(mnemonic, "m/44'/60'/0'/0/3");
  const patient = key.address;
  const consent = new Contract(addresses.IConsent, abis.IConsent, await provider.getSigner(0));
  const identity = new Contract(addresses.IIdentity, abis.IIdentity, await provider.getSigner(0));
  await (await identity.registerPatient(patient, ZeroHash)).wait();
  const now = (await provider.getBlock("latest")).timestamp;
  const message = {
    patient, grantee: ready.accounts[0], categories: (1n << 63n) + 1n, permissions: 1, purposes: 1, notBefore: 0, expires: now + 86_400,
    recordsFrom: 0, recordsTo: 65_535, envelopeDigest: ZeroHash, request: 0, nonce: 0n, deadline: now + 3_600,
  };
  const asked = [domain(31_337), { Grant: types.Grant }, message];
  const expected = await key.signTypedData(...asked);
  assert.equal(await (await provider.getSigner(3)).signTypedData(...asked), expected);
  const client = createWalletClient({ transport: http(url) });
  const typed = { domain: domain(31_337), types: { Grant: types.Grant }, primaryType: "Grant", message };
  assert.equal(await client.signTypedData({ account: patient, ...typed }), expected);
  // Hardhat hands over the object itself, its numbers as JSON's.
  const payload = TypedDataEncoder.getPayload(...asked);
  payload.domain.chainId = 31_337;
  assert.equal(await rpc("eth_signTypedData_v4", patient, payload), expected);
  const { patient: who, grantee, envelopeDigest, request, nonce, deadline, ...terms } = message;
  await (await consent.grantBySig(who, grantee, terms, envelopeDigest, request, nonce, deadline, expected)).wait();
  assert.equal(await consent.can(patient, grantee, 63, 1, 1), true);
  assert.match((await refused("eth_signTypedData_v4", Wallet.createRandom().address, payload)).message, /no key/);
  const wrong = await refused("eth_signTypedData_v4", patient, { ...payload, primaryType: "Gift" });
  assert.deepEqual([wrong.code, /`typedData`/.test(wrong.message)], [-32602, true]);
});

test("ten known accounts hold coins, and the node signs for them", DEADLINE, async () => {
  const mnemonic = Mnemonic.fromPhrase("test test test test test test test test test test test junk");
  const derived = Array.from({ length: 10 }, (_, i) => HDNodeWallet.fromMnemonic(mnemonic, `m/44'/60'/0'/0/${i}`).address);
  assert.deepEqual((await provider.listAccounts()).map((signer) => signer.address), derived);
  assert.deepEqual(ready.accounts.map((account) => account.toLowerCase()), derived.map((account) => account.toLowerCase()));
  assert.equal(await provider.getBalance(derived[9]), parseEther("10000"));
  const [from, to] = await Promise.all([provider.getSigner(3), Wallet.createRandom().address]);
  const hash = await rpc("eth_sendTransaction", { from: from.address, to, value: "0xde0b6b3a7640000" });
  // Blocks are instant: it is final when the call returns, and there are no fees.
  assert.equal((await rpc("eth_getTransactionReceipt", hash)).status, "0x1");
  assert.equal(await provider.getBalance(to), parseEther("1"));
  assert.equal(await provider.getBalance(from.address), parseEther("9999"));
  // Its signature is a real one.
  const sent = await provider.getTransaction(hash);
  const raw = await rpc("eth_getRawTransactionByHash", hash);
  assert.equal(Transaction.from(raw).from, from.address);
  assert.equal(sent.from, from.address);
  assert.match((await refused("eth_sendTransaction", { from: to, to: from.address })).message, /no key/);
});

test("the node signs messages as wallets do", DEADLINE, async () => {
  const { verifyMessage, hexlify, toUtf8Bytes } = await import("ethers");
  const signer = await provider.getSigner(2);
  assert.equal(verifyMessage("I agree", await signer.signMessage("I agree")), signer.address);
  const signature = await rpc("eth_sign", signer.address, hexlify(toUtf8Bytes("I agree")));
  assert.equal(verifyMessage("I agree", signature), signer.address);
});

test("a snapshot is returned to, once", DEADLINE, async () => {
  await (await vault.add(1)).wait();
  const [height, total] = [await provider.getBlockNumber(), await vault.total()];
  const snapshot = await rpc("evm_snapshot");
  const later = await rpc("evm_snapshot");
  const gone = await (await vault.add(5)).wait();
  assert.equal(await vault.total(), total + 5n);
  assert.equal(await rpc("evm_revert", snapshot), true);
  assert.deepEqual([await provider.getBlockNumber(), await vault.total()], [height, total]);
  assert.equal(await rpc("eth_getTransactionReceipt", gone.hash), null);
  // It is used up, and so are those after it.
  assert.equal(await rpc("evm_revert", snapshot), false);
  assert.equal(await rpc("evm_revert", later), false);
  // Life goes on from there.
  await (await vault.add(2)).wait();
  assert.equal(await vault.total(), total + 2n);
});

test("time moves when it is told to", DEADLINE, async () => {
  const snapshot = await rpc("evm_snapshot");
  const before = await vault.now_();
  await rpc("evm_increaseTime", 86_400);
  await rpc("evm_mine");
  const after = await vault.now_();
  assert.ok(after >= before + 86_400n && after < before + 86_500n, `${before} ${after}`);
  const wanted = Number(after) + 1_000;
  await rpc("evm_setNextBlockTimestamp", wanted);
  const { blockNumber } = await (await vault.add(1)).wait();
  assert.equal((await provider.getBlock(blockNumber)).timestamp, wanted);
  assert.match((await refused("evm_setNextBlockTimestamp", 1)).message, /before that of the last block/);
  await rpc("hardhat_mine", "0x3", "0x3c");
  const [first, last] = [await provider.getBlock(blockNumber + 1), await provider.getBlock("latest")];
  assert.deepEqual([last.number, last.timestamp - first.timestamp], [blockNumber + 3, 120]);
  await rpc("evm_revert", snapshot);
});

test("balances, nonces, code and storage are edited", DEADLINE, async () => {
  const [account, elsewhere] = [Wallet.createRandom().address, Wallet.createRandom().address];
  const at = await vault.getAddress();
  await rpc("hardhat_setBalance", account, "0x64");
  await rpc("anvil_setNonce", account, "0x7");
  assert.deepEqual([await provider.getBalance(account), await provider.getTransactionCount(account)], [100n, 7]);
  assert.match((await refused("hardhat_setNonce", account, "0x6")).message, /lower/);
  await rpc("hardhat_setStorageAt", at, "0x1", `0x${"2a".padStart(64, "0")}`);
  assert.equal(await vault.total(), 42n);
  await rpc("anvil_setCode", elsewhere, await provider.getCode(at));
  assert.equal(await vault.attach(elsewhere).total(), 0n);
  // Every edit is in the state root, so it is proved like everything else.
  const proof = await rpc("eth_getProof", at, ["0x1"], "latest");
  assert.equal(proof.storageProof[0].value, "0x2a");
  const native = await refused("hardhat_setCode", addresses.IConsent, "0x00");
  assert.deepEqual([native.code, /system contract/.test(native.message)], [-32602, true]);
});

test("any account is spoken for while it is impersonated, contracts too", DEADLINE, async () => {
  const stranger = Wallet.createRandom().address;
  const data = vault.interface.encodeFunctionData("add", [1]);
  const sent = { from: stranger, to: await vault.getAddress(), data };
  assert.match((await refused("eth_sendTransaction", sent)).message, /no key/);
  await rpc("hardhat_impersonateAccount", stranger);
  const failed = await refused("eth_sendTransaction", sent);
  assert.deepEqual([failed.code, vault.interface.parseError(failed.data).args.who], [3, stranger]);
  // The owner of this one is a contract.
  const second = await (await new ContractFactory(vault.interface, vault.deploymentTransaction().data, await provider.getSigner(0)).deploy()).waitForDeployment();
  const owner = await vault.getAddress();
  await rpc("hardhat_setStorageAt", await second.getAddress(), "0x0", `0x${owner.slice(2).toLowerCase().padStart(64, "0")}`);
  await rpc("anvil_impersonateAccount", owner);
  const hash = await rpc("eth_sendTransaction", { from: owner, to: await second.getAddress(), data });
  assert.equal((await rpc("eth_getTransactionReceipt", hash)).from, owner.toLowerCase());
  assert.equal((await provider.getTransaction(hash)).from, owner);
  assert.equal(await second.total(), 1n);
  assert.equal((await rpc("debug_traceTransaction", hash, { tracer: "callTracer" })).from, owner.toLowerCase());
  await rpc("hardhat_stopImpersonatingAccount", owner);
  assert.match((await refused("eth_sendTransaction", { from: owner, to: stranger })).message, /no key/);
  await rpc("anvil_autoImpersonateAccount", true);
  await rpc("eth_sendTransaction", { from: Wallet.createRandom().address, to: stranger });
  await rpc("anvil_autoImpersonateAccount", false);
});

test("blocks are made when they are asked for, or on time", DEADLINE, async () => {
  const signer = await provider.getSigner(4);
  await rpc("evm_setAutomine", false);
  assert.equal(await rpc("hardhat_getAutomine"), false);
  const height = await provider.getBlockNumber();
  const [one, two] = [await signer.sendUncheckedTransaction({ to: signer.address }), await signer.sendUncheckedTransaction({ to: signer.address })];
  assert.equal(await rpc("eth_getTransactionReceipt", one), null);
  assert.equal((await rpc("eth_getTransactionByHash", two)).blockNumber, null);
  await rpc("evm_mine");
  const block = await provider.getBlock(height + 1);
  assert.deepEqual(block.transactions, [one, two]);
  await rpc("evm_setIntervalMining", 50);
  await new Promise((resolve) => provider.on("block", (number) => number >= height + 3 && resolve()));
  provider.removeAllListeners();
  await rpc("evm_setIntervalMining", 0);
  await rpc("evm_setAutomine", true);
});

test("the system contracts are those of every Stele chain", DEADLINE, async () => {
  const [organization, patient] = [await provider.getSigner(0), await provider.getSigner(5)];
  const identity = new Contract(addresses.IIdentity, abis.IIdentity, organization);
  const consent = new Contract(addresses.IConsent, abis.IConsent, patient);
  await (await identity.registerPatient(patient.address, `0x${"11".repeat(32)}`)).wait();
  const { timestamp } = await provider.getBlock("latest");
  const terms = [1n, 1, 1, 0, timestamp + 1_000, 0, 65_535];
  await (await consent.grant(organization.address, terms, `0x${"22".repeat(32)}`, 0)).wait();
  const can = () => consent.can(patient.address, organization.address, 0, 1, 1);
  assert.equal(await can(), true);
  // A grant ends by the clock, which is the reason for having one that can be moved.
  await rpc("evm_increaseTime", 1_001);
  await rpc("evm_mine");
  assert.equal(await can(), false);
});

test("a reset returns to the beginning", DEADLINE, async () => {
  await rpc("hardhat_reset");
  assert.equal(await provider.getBlockNumber(), 0);
  assert.equal(await provider.getCode(await vault.getAddress()), "0x");
  assert.equal((await refused("hardhat_reset", { forking: { jsonRpcUrl: "http://example.org" } })).code, -32602);
});

test("a node of a consortium has none of it", DEADLINE, async () => {
  const { ready: node } = await start("--open");
  const at = node.rpc.includes("://") ? node.rpc : `http://${node.rpc}`;
  const methods = [
    "evm_mine", "evm_snapshot", "evm_revert", "evm_increaseTime", "evm_setNextBlockTimestamp", "evm_setAutomine",
    "evm_setIntervalMining", "hardhat_mine", "hardhat_setBalance", "hardhat_setNonce", "hardhat_setCode",
    "hardhat_setStorageAt", "hardhat_impersonateAccount", "hardhat_stopImpersonatingAccount", "hardhat_reset",
    "anvil_mine", "anvil_setBalance", "anvil_setCode", "anvil_setStorageAt", "anvil_impersonateAccount",
    "anvil_autoImpersonateAccount", "anvil_reset", "eth_sendTransaction", "eth_sign", "eth_signTypedData_v4", "personal_sign",
  ];
  for (const method of methods) assert.equal((await ask(at, method, [])).error.code, -32601, method);
  assert.deepEqual((await ask(at, "eth_accounts")).result, []);
  // What an impersonated account sends is no transaction there.
  const raw = await unsigned(ready.accounts[0], BigInt(node.chainId));
  const { error } = await ask(at, "eth_sendRawTransaction", [raw]);
  assert.match(error.message, /signature/);
  await assert.rejects(startDevelopment("--data", "somewhere"));
});

/** A legacy transaction whose signature is the sender's address and zero. */
async function unsigned(sender, chainId) {
  const { encodeRlp, toBeArray } = await import("ethers");
  return encodeRlp(["0x", "0x", toBeArray(21_000), sender, "0x", "0x", toBeArray(chainId * 2n + 35n), sender, "0x"]);
}
