// Hyperledger Caliper 0.6 with its Ethereum connector over WebSocket: the papers' contract, and records and consents of the
// system contracts. Rows: FR-X1.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Contract, JsonRpcProvider } from "ethers";

import { healthRecords, systemContracts } from "../ethereum/contracts.mjs";
import { node } from "../ethereum/node.mjs";
import { LEAVES, measure, prepare, roundsOf } from "./rounds.mjs";

const DEADLINE = { timeout: 240_000 };
const TRANSACTIONS = 100;
const RATE = 50;
/** The first grantee of the first worker. */
const OTHER = "0x1100000000000000000000000000000000000000";

const sets = {};

let provider;

before(async () => {
  const { http } = await node();
  provider = new JsonRpcProvider(http, undefined, { cacheTimeout: -1 });
  const prepared = [];
  // One after the other, for the organisation's nonces; the rounds themselves, which are mostly Caliper's pauses, at once.
  for (const set of ["solidity", "native"]) prepared.push(await prepare(http, set));
  await Promise.all(prepared.map(async (one) => {
    sets[one.set] = { ...one, ...(await measure(one, { transactions: TRANSACTIONS, rate: RATE })) };
  }));
}, DEADLINE);

after(() => provider?.destroy());

function succeeded({ set, rows, html }) {
  const all = roundsOf(set, TRANSACTIONS);
  assert.deepEqual(rows.map(({ name, succeeded, failed }) => [name, succeeded, failed]), all.map(([name, number]) => [name, number, 0]));
  for (const [name] of all) assert.ok(html.includes(name));
}

test("Caliper creates, hands over and queries records of HealthRecords.sol", DEADLINE, async () => {
  succeeded(sets.solidity);
  const records = new Contract(sets.solidity.address, healthRecords().abi, provider);
  assert.equal(await records.getRecordOwner(0), OTHER);
});

test("Caliper anchors records, grants, queries and revokes on the system contracts", DEADLINE, async () => {
  succeeded(sets.native);
  const { IConsent, IRecords } = systemContracts();
  const [consent, records] = [IConsent, IRecords].map(({ address, abi }) => new Contract(address, abi, provider));
  for (const worker of sets.native.workers) {
    const { size } = await records.logRoot(worker);
    assert.equal(size, BigInt((TRANSACTIONS / sets.native.workers.length) * LEAVES));
  }
  const [first] = sets.native.workers;
  const { id, revoked } = await consent.grantAt(first, OTHER, 0);
  assert.deepEqual([id, revoked], [1n, true]);
  assert.equal(await consent.can(first, OTHER, 0, 1, 1), false);
});
