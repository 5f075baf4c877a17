// Foundry's `cast` against a node. Rows: NFR-INTEROP1.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { Wallet } from "ethers";

import { healthRecords } from "./contracts.mjs";
import { node } from "./node.mjs";

const DEADLINE = { timeout: 120_000 };
const BINARY = fileURLToPath(new URL("../node_modules/@foundry-rs/cast-linux-amd64/bin/cast", import.meta.url));
const run = promisify(execFile);
const doctor = Wallet.createRandom();
const signed = ["--private-key", doctor.privateKey];

let url, address;

async function cast(...args) {
  const { stdout } = await run(BINARY, args, { env: { ...process.env, ETH_RPC_URL: url.http, FOUNDRY_DISABLE_NIGHTLY_WARNING: "1" } });
  return stdout.trim();
}

async function receipt(...args) {
  return JSON.parse(await cast("send", "--json", ...signed, ...args));
}

before(async () => {
  url = await node();
  ({ contractAddress: address } = await receipt("--create", healthRecords().bytecode));
}, DEADLINE);

test("cast sends, calls and reads logs", DEADLINE, async () => {
  const sent = await receipt(address, "createRecord(uint256,string,address,string,string)", "1", "Ann", doctor.address, "", "");
  assert.equal(sent.status, "0x1");
  assert.equal(await cast("call", address, "getRecordOwner(uint256)(address)", "1"), doctor.address);
  const logs = JSON.parse(await cast("logs", "--json", "--from-block", "0", "--address", address, "RecordCreated(uint256,address)"));
  assert.equal(logs.length, 1);
  assert.equal(logs[0].transactionHash, sent.transactionHash);
  const shown = JSON.parse(await cast("tx", "--json", sent.transactionHash));
  assert.equal(shown.from.toLowerCase(), doctor.address.toLowerCase());
  const again = JSON.parse(await cast("receipt", "--json", sent.transactionHash));
  assert.equal(again.blockHash, sent.blockHash);
});

test("cast reads the chain", DEADLINE, async () => {
  assert.match(await cast("client"), /^Stele\/v/);
  assert.equal(await cast("chain-id"), String(Number((await cast("rpc", "eth_chainId")).replaceAll('"', ""))));
  assert.ok(Number(await cast("block-number")) >= 1);
  const block = JSON.parse(await cast("block", "--json", "latest"));
  assert.equal(block.baseFeePerGas, "0x0");
  assert.equal(await cast("balance", doctor.address), "0");
  assert.equal(await cast("gas-price"), "0");
  assert.ok(Number(await cast("nonce", doctor.address)) >= 1);
  assert.ok((await cast("code", address)).length > 100);
  const estimate = await cast("estimate", "--from", doctor.address, address, "getRecordOwner(uint256)", "1");
  assert.ok(Number(estimate) > 21_000);
  const proof = JSON.parse(await cast("proof", address, "0"));
  assert.equal(proof.storageProof.length, 1);
});

test("cast says why a call is reverted", DEADLINE, async () => {
  const call = cast("call", "--from", doctor.address, address, "transferRecord(uint256,address)", "99", doctor.address);
  await assert.rejects(call, (error) => /Only contract owner can call this/.test(error.stderr));
});
