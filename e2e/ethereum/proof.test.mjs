// `eth_getProof` verified by an implementation that shares no code with the node: the trie of ethereumjs.
// Rows: NFR-INT1 (what the ledger says can be checked by anyone with stock tools).

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { verifyMerkleProof } from "@ethereumjs/mpt";
import { RLP } from "@ethereumjs/rlp";
import { bytesToBigInt, bytesToHex, hexToBytes } from "@ethereumjs/util";
import { ContractFactory, JsonRpcProvider, Wallet, keccak256, toBeHex, zeroPadValue } from "ethers";

import { healthRecords } from "./contracts.mjs";
import { ask, node } from "./node.mjs";

const DEADLINE = { timeout: 120_000 };
const EMPTY_CODE = keccak256("0x");

let url, address, patient;

before(async () => {
  url = await node();
  const provider = new JsonRpcProvider(url.http, undefined, { pollingInterval: 100, cacheTimeout: -1 });
  const doctor = Wallet.createRandom(provider);
  patient = Wallet.createRandom().address;
  const { abi, bytecode } = healthRecords();
  const contract = await (await new ContractFactory(abi, bytecode, doctor).deploy()).waitForDeployment();
  address = await contract.getAddress();
  for (let id = 0; id < 20; id += 1) await (await contract.createRecord(id, "Ann", patient, "", "")).wait();
  provider.destroy();
}, DEADLINE);

/** Account, slots and the header they are proved against. Blocks go on meanwhile: the proof is asked for again until
 * the same block is the latest before and after, as the node proves the latest state only. */
async function prove(account, slots) {
  for (;;) {
    const { result: block } = await ask(url.http, "eth_getBlockByNumber", ["latest", false]);
    const { result: proof } = await ask(url.http, "eth_getProof", [account, slots, "latest"]);
    const { result: after } = await ask(url.http, "eth_getBlockByNumber", ["latest", false]);
    if (block.hash === after.hash) return { block, proof };
  }
}

/** What the proof shows to be stored under a key whose hash is the path; null when it shows that nothing is. */
async function proved(root, key, nodes) {
  const value = await verifyMerkleProof(hexToBytes(keccak256(key)), nodes.map(hexToBytes), { root: hexToBytes(root) });
  return value && RLP.decode(value);
}

/** Slot of `records[id].patientAddress` as solc lays it out: the second word of the struct. */
function ownerSlot(id) {
  const start = keccak256(`0x${"0".repeat(64 - id.toString(16).length)}${id.toString(16)}${"0".repeat(64)}`);
  return toBeHex(BigInt(start) + 1n, 32);
}

test("accounts and slots are proved against the state root", DEADLINE, async () => {
  const slots = [ownerSlot(3), ownerSlot(19), ownerSlot(99)];
  const { block, proof } = await prove(address, slots);
  const [nonce, balance, storageRoot, codeHash] = await proved(block.stateRoot, address, proof.accountProof);
  assert.equal(bytesToBigInt(nonce), BigInt(proof.nonce));
  assert.equal(bytesToBigInt(balance), BigInt(proof.balance));
  assert.equal(bytesToHex(storageRoot), proof.storageHash);
  assert.equal(bytesToHex(codeHash), proof.codeHash);
  assert.notEqual(proof.codeHash, EMPTY_CODE);
  for (const [index, slot] of proof.storageProof.entries()) {
    assert.equal(slot.key, slots[index]);
    const value = await proved(proof.storageHash, slots[index], slot.proof);
    if (index === 2) {
      assert.equal(value, null);
      assert.equal(slot.value, "0x0");
    } else {
      assert.equal(zeroPadValue(bytesToHex(value), 20), patient.toLowerCase());
      assert.equal(BigInt(slot.value), BigInt(patient));
    }
  }
});

test("absence of an account is proved", DEADLINE, async () => {
  const nobody = Wallet.createRandom().address;
  const { block, proof } = await prove(nobody, []);
  assert.equal(await proved(block.stateRoot, nobody, proof.accountProof), null);
  assert.deepEqual([proof.nonce, proof.balance, proof.codeHash], ["0x0", "0x0", EMPTY_CODE]);
});

test("a changed proof does not verify", DEADLINE, async () => {
  const { block, proof } = await prove(address, [ownerSlot(3)]);
  const last = proof.accountProof.at(-1);
  const flipped = `${last.slice(0, -1)}${last.at(-1) === "0" ? "1" : "0"}`;
  const nodes = [...proof.accountProof.slice(0, -1), flipped];
  await assert.rejects(async () => {
    const value = await proved(block.stateRoot, address, nodes);
    assert.equal(bytesToHex(value[3]), proof.codeHash);
  });
});
