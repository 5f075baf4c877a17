// The published package and its examples against a node, and the three defects of the papers' contract, which ours do
// not have. Rows: FR-X2, FR-X3, S02.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";

import { Contract, ContractFactory, JsonRpcProvider, Wallet, concat, hexlify, id as digest, keccak256, randomBytes } from "ethers";

import { abis, addresses } from "stele-contracts";

import { examples, healthRecords } from "../ethereum/contracts.mjs";
import { node, organizationKey } from "../ethereum/node.mjs";
import { abiFiles } from "./abi.mjs";

const DEADLINE = { timeout: 120_000 };
const READ = 1, WRITE = 2, TREATMENT = 1, PAYMENT = 2;
const NOTHING = `0x${"00".repeat(32)}`;

let provider, organization, identity, records, consent, built;

before(async () => {
  const url = await node();
  provider = new JsonRpcProvider(url.http, undefined, { pollingInterval: 100, cacheTimeout: -1 });
  organization = new Wallet(organizationKey(), provider);
  const at = (name) => new Contract(addresses[name], abis[name], organization);
  [identity, records, consent] = ["IIdentity", "IRecords", "IConsent"].map(at);
  built = examples();
}, DEADLINE);

after(() => provider?.destroy());

async function mined(sent) {
  return (await sent).wait();
}

async function deploy({ abi, bytecode }, signer) {
  return (await new ContractFactory(abi, bytecode, signer).deploy()).waitForDeployment();
}

async function newPatient() {
  const patient = Wallet.createRandom(provider);
  await mined(identity.registerPatient(patient.address, digest("directory")));
  return patient;
}

function terms(permissions, purposes) {
  const expires = Math.floor(Date.now() / 1000) + 86_400;
  return { categories: 1n, permissions, purposes, notBefore: 0, expires, recordsFrom: 0, recordsTo: 65_535 };
}

/** Anchors leaves in the patient's log as the organisation, which the patient lets write. */
async function anchor(patient, leaves) {
  const entry = { log: patient.address, categories: `0x${"00".repeat(leaves.length)}`, leaves };
  return mined(records.anchor([entry], organization.address, organization.address, "0x"));
}

/** Siblings from the leaf to its peak, of a mountain whose number of leaves is a power of two. */
function path(leaves, index) {
  let level = leaves.map((leaf) => keccak256(concat(["0x00", leaf])));
  const siblings = [];
  for (let at = index; level.length > 1; at >>= 1) {
    siblings.push(level[at ^ 1]);
    level = Array.from({ length: level.length / 2 }, (_, i) => keccak256(concat(["0x01", level[2 * i], level[2 * i + 1]])));
  }
  return siblings;
}

test("the package's ABIs are what solc makes of its interfaces", () => {
  for (const [file, text] of abiFiles()) assert.equal(readFileSync(file, "utf8"), text, `${file}: run node contracts/abi.mjs`);
});

test("a claims contract acts only while Consent says so", DEADLINE, async () => {
  const insurer = Wallet.createRandom(provider);
  await mined(identity.registerPatient(insurer.address, digest("an account that may be granted to")));
  const claims = await deploy(built.Claims, insurer);
  const patient = await newPatient();
  const file = [patient.address, 0, digest("documents")];
  const refused = (error) => {
    assert.deepEqual([error.revert.name, ...error.revert.args], ["NoConsent", patient.address, insurer.address, 0n]);
    return true;
  };
  await assert.rejects(claims.file.staticCall(...file), refused);
  const granted = await mined(consent.connect(patient).grant(insurer.address, terms(READ, PAYMENT), digest("envelope"), 0));
  const { id } = consent.interface.parseLog(granted.logs[0]).args;
  const filed = await mined(claims.file(...file));
  assert.equal(claims.interface.parseLog(filed.logs[0]).args.documents, digest("documents"));
  // The patient ends it: what was filed stays, nothing more is done.
  await mined(consent.connect(patient).revoke(insurer.address, id, NOTHING));
  await assert.rejects(claims.settle.staticCall(0, 100), refused);
  await mined(consent.connect(patient).grant(insurer.address, terms(READ, PAYMENT), digest("envelope"), 0));
  await mined(claims.settle(0, 100));
  await assert.rejects(claims.settle.staticCall(0, 100), (error) => error.revert.name === "AlreadySettled");
  await assert.rejects(claims.connect(patient).settle.staticCall(0, 1), (error) => error.revert.name === "NotTheInsurer");
});

test("a study verifies inclusion in Solidity as Records does", DEADLINE, async () => {
  const study = await deploy(built.Study, organization);
  const patient = await newPatient();
  await mined(consent.connect(patient).grant(organization.address, terms(READ | WRITE, TREATMENT), digest("envelope"), 0));
  // 8 + 4 + 1 leaves: three mountains.
  const leaves = Array.from({ length: 13 }, () => hexlify(randomBytes(32)));
  await anchor(patient, leaves);
  const mountains = [[0, 8], [8, 12], [12, 13]];
  for (const [from, to] of mountains) {
    for (let index = from; index < to; index++) {
      const proof = path(leaves.slice(from, to), index - from);
      for (const [at, leaf, siblings] of [
        [index, leaves[index], proof],
        [index, leaves[(index + 1) % 13], proof],
        [(index + 1) % 14, leaves[index], proof],
        [index, leaves[index], [...proof, leaves[0]]],
        [index, leaves[index], proof.slice(1)],
      ]) {
        const ours = await study.verify(patient.address, at, leaf, siblings);
        assert.equal(ours, await records.verifyInclusion(patient.address, at, leaf, siblings));
        assert.equal(ours, at === index && leaf === leaves[index] && siblings.length === proof.length);
      }
    }
  }
  await mined(study.include(patient.address, 9, leaves[9], path(leaves.slice(8, 12), 1)));
  assert.equal(await study.count(), 1n);
  await assert.rejects(study.include.staticCall(patient.address, 9, leaves[9], []), (error) => error.revert.name === "AlreadyIncluded");
  await assert.rejects(study.include.staticCall(patient.address, 1, leaves[1], []), (error) => error.revert.name === "NotAnchored");
});

test("defect 1: anyone overwrites HealthRecords; nobody changes what Records has", DEADLINE, async () => {
  const theirs = await deploy(healthRecords(), organization);
  const [patient, stranger] = [await newPatient(), Wallet.createRandom(provider)];
  await mined(theirs.createRecord(1, "Ann", patient.address, "asthma", ""));
  await mined(theirs.connect(stranger).createRecord(1, "Ann", patient.address, "none", ""));
  assert.equal((await theirs.getRecordData(1))[2], "none");

  await mined(consent.connect(patient).grant(organization.address, terms(WRITE, TREATMENT), digest("envelope"), 0));
  const leaf = hexlify(randomBytes(32));
  await anchor(patient, [leaf]);
  // There is no function that writes at an index, and a stranger does not even append.
  const writing = records.interface.fragments.filter((item) => item.type === "function" && !item.constant).map((item) => item.name);
  assert.deepEqual(writing.sort(), ["anchor", "dispute", "tombstone", "transferCustody"]);
  const entry = { log: patient.address, categories: "0x00", leaves: [hexlify(randomBytes(32))] };
  const strangers = records.connect(stranger);
  await assert.rejects(strangers.anchor.staticCall([entry], stranger.address, organization.address, "0x"));
  await assert.rejects(strangers.tombstone.staticCall(patient.address, 0, 0, leaf, 1, stranger.address));
  // A later record, and a tombstone, leave the first one where it is.
  await anchor(patient, [hexlify(randomBytes(32))]);
  await mined(records.tombstone(patient.address, 0, 0, hexlify(randomBytes(32)), 1, organization.address));
  const [size] = await records.logRoot(patient.address);
  assert.equal(size, 3n);
  const [anchored] = await records.queryFilter(records.filters.Anchored(patient.address));
  const second = (await records.queryFilter(records.filters.Anchored(patient.address)))[1].args.leaves[0];
  assert.equal(await records.verifyInclusion(patient.address, 0, leaf, [keccak256(concat(["0x00", second]))]), true);
  assert.deepEqual([...anchored.args.leaves], [leaf]);
});

test("defect 2: HealthRecords' transfer names the wrong giver; Records' custody event names both", DEADLINE, async () => {
  const theirs = await deploy(healthRecords(), organization);
  const heir = Wallet.createRandom(provider);
  await mined(theirs.createRecord(1, "Ann", organization.address, "", ""));
  const [theirLog] = (await mined(theirs.transferRecord(1, heir.address))).logs;
  assert.equal(theirs.interface.parseLog(theirLog).args.from, heir.address);

  // A consortium of one has nobody else to hand custody to, and says so; nothing is emitted that did not happen.
  const patient = await newPatient();
  await mined(consent.connect(patient).grant(organization.address, terms(WRITE, TREATMENT), digest("envelope"), 0));
  await anchor(patient, [hexlify(randomBytes(32))]);
  const move = (to) => records.connect(patient).transferCustody.staticCall(patient.address, to);
  await assert.rejects(move(heir.address), (error) => error.revert.name === "NotAnOrganization");
  await assert.rejects(move(organization.address), (error) => error.revert.name === "AlreadyCustodian");
  assert.equal(await records.custodianOf(patient.address), organization.address);
  assert.equal((await records.queryFilter(records.filters.CustodyTransferred(patient.address))).length, 0);
});

test("defect 3: HealthRecords shows everyone the plain text; Records has salted digests only", DEADLINE, async () => {
  const theirs = await deploy(healthRecords(), organization);
  const secret = "hereditary angioedema";
  const receipt = await mined(theirs.createRecord(1, "Ann", organization.address, secret, ""));
  const stranger = Wallet.createRandom(provider);
  assert.equal((await theirs.connect(stranger).getRecordData(1))[2], secret);
  const inHex = Buffer.from(secret).toString("hex");
  assert.ok((await provider.getTransaction(receipt.hash)).data.includes(inHex));

  const patient = await newPatient();
  await mined(consent.connect(patient).grant(organization.address, terms(WRITE, TREATMENT), digest("envelope"), 0));
  const salt = randomBytes(32);
  const anchored = await anchor(patient, [keccak256(concat([salt, Buffer.from(secret)]))]);
  const seen = JSON.stringify([await provider.getTransaction(anchored.hash), anchored.logs]);
  assert.ok(!seen.includes(inHex));
  // Nor can it be guessed: without the salt, the digest of the right guess is another one.
  assert.ok(!seen.includes(keccak256(Buffer.from(secret)).slice(2)));
  // Every input of every function that writes is a number, an account, a digest, a signature or bytes of one byte a leaf.
  const types = records.interface.fragments.filter((item) => item.type === "function").flatMap((item) => item.inputs.map((input) => input.type));
  assert.ok(types.every((type) => !type.startsWith("string")));
});
