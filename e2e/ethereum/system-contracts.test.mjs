// The system contracts through their published Solidity interfaces: ABIs made by solc from contracts/interfaces, read
// and written by ethers, and called by a Solidity contract. Rows: NFR-INTEROP1, FR-X1.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Contract, ContractFactory, JsonRpcProvider, Wallet, ZeroHash, hexlify, id, randomBytes } from "ethers";

import { prescriptionsDomain, types } from "../../contracts/typed-data.mjs";
import { compile, systemContracts } from "./contracts.mjs";
import { node, organizationKey } from "./node.mjs";

const DEADLINE = { timeout: 120_000 };
const READ = 1;
const WRITE = 2;
const TREATMENT = 1;

let provider, organization, identity, records, consent, audit, governance, prescriptions, emergency;

before(async () => {
  const url = await node();
  provider = new JsonRpcProvider(url.http, undefined, { pollingInterval: 100, cacheTimeout: -1 });
  organization = new Wallet(organizationKey(), provider);
  const contracts = systemContracts();
  const at = (name) => new Contract(contracts[name].address, contracts[name].abi, organization);
  [identity, records, consent, audit, governance, prescriptions, emergency] =
    ["IIdentity", "IRecords", "IConsent", "IAudit", "IGovernance", "IPrescriptions", "IEmergency"].map(at);
}, DEADLINE);

after(() => provider?.destroy());

/** Sends, waits, and gives the event that the contract emitted. */
async function send(contract, method, ...args) {
  const receipt = await (await contract[method](...args)).wait();
  const [log] = receipt.logs.map((log) => contract.interface.parseLog(log)).filter(Boolean);
  return { name: log.name, ...log.args.toObject() };
}

async function newPatient() {
  const patient = Wallet.createRandom(provider);
  const event = await send(identity, "registerPatient", patient.address, id("directory"));
  assert.equal(event.name, "AccountRegistered");
  assert.equal(event.account, patient.address);
  assert.equal(event.sponsor, organization.address);
  return patient;
}

function terms(overrides) {
  const expires = Math.floor(Date.now() / 1000) + 86_400;
  return {
    categories: 0b101n, permissions: READ | WRITE, purposes: TREATMENT, notBefore: 0, expires, recordsFrom: 0,
    recordsTo: 65_535, ...overrides,
  };
}

test("every system contract has code and answers reads", DEADLINE, async () => {
  for (const contract of [identity, records, consent, audit, governance, prescriptions, emergency]) {
    assert.notEqual(await provider.getCode(contract), "0x");
  }
  const [registered, active] = await identity.organizationCount();
  assert.ok(registered >= 1n && active >= 1n);
  const account = await identity.account(organization.address);
  assert.deepEqual([account.kind, account.status], [1n, 1n]);
  assert.equal(account.sponsor, organization.address);
  assert.equal(await identity.isActive(Wallet.createRandom().address), false);
  assert.deepEqual([...(await records.logRoot(Wallet.createRandom().address))].slice(0, 1), [0n]);
  assert.equal((await audit.head(organization.address)).length, 2);
  assert.ok((await governance.validatorCount()) >= 1n);
});

test("a patient grants and revokes", DEADLINE, async () => {
  const patient = await newPatient();
  const doctor = Wallet.createRandom(provider);
  await send(identity, "registerMember", doctor.address, 1, id("licence"));
  const mine = consent.connect(patient);
  const granted = await send(mine, "grant", doctor.address, terms(), id("envelope"), 0);
  assert.deepEqual([granted.name, granted.patient, granted.grantee], ["Granted", patient.address, doctor.address]);
  assert.equal(granted.terms.categories, 0b101n);
  assert.equal(await consent.can(patient.address, doctor.address, 2, READ, TREATMENT), true);
  assert.equal(await consent.can(patient.address, doctor.address, 1, READ, TREATMENT), false);
  assert.equal(await consent.openCategories(patient.address, doctor.address, READ, TREATMENT), 0b101n);
  const revoked = await send(mine, "revoke", doctor.address, granted.id, ZeroHash);
  assert.equal(revoked.name, "Revoked");
  assert.equal(await consent.can(patient.address, doctor.address, 2, READ, TREATMENT), false);
});

test("records are anchored by who may write, and proved to be there", DEADLINE, async () => {
  const patient = await newPatient();
  const leaves = [hexlify(randomBytes(32)), hexlify(randomBytes(32))];
  const entry = { log: patient.address, categories: "0x0000", leaves };
  const anchor = [[entry], organization.address, organization.address, "0x"];
  await assert.rejects(records.anchor.staticCall(...anchor), (error) => error.revert?.name === "NotPermitted");
  await send(consent.connect(patient), "grant", organization.address, terms(), id("envelope"), 0);
  const event = await send(records, "anchor", ...anchor);
  assert.equal(event.name, "Anchored");
  assert.deepEqual([event.log, event.first, [...event.leaves]], [patient.address, 0n, leaves]);
  const [size, root] = await records.logRoot(patient.address);
  assert.deepEqual([size, root], [2n, event.root]);
  assert.equal(await records.custodianOf(patient.address), organization.address);
  assert.equal(await records.verifyInclusion(patient.address, 0, leaves[1], []), false);
});

/** FR-PH1, FR-PH2: from any wallet, with the published interface: issued, signed by the prescription's own key, dispensed once. */
test("a prescription is dispensed once", DEADLINE, async () => {
  const [doctor, pharmacist] = [Wallet.createRandom(provider), Wallet.createRandom(provider)];
  await send(identity, "registerMember", doctor.address, 1, id("licence"));
  await send(identity, "registerMember", pharmacist.address, 4, id("licence"));
  const key = Wallet.createRandom();
  const expires = Math.floor(Date.now() / 1000) + 86_400;
  const refused = prescriptions.connect(pharmacist).issue.staticCall(key.address, id("text"), 2, expires);
  await assert.rejects(refused, (error) => error.revert?.name === "NotAPrescriber");
  const issued = await send(prescriptions.connect(doctor), "issue", key.address, id("text"), 2, expires);
  assert.deepEqual([issued.name, issued.prescriber, issued.portions], ["Issued", doctor.address, 2n]);
  assert.deepEqual([...(await prescriptions.verify(key.address, id("text")))], [0n, 2n]);
  assert.deepEqual([...(await prescriptions.verify(key.address, id("another")))], [2n, 2n]);
  const { chainId } = await provider.getNetwork();
  const message = { id: key.address, dispenser: pharmacist.address, sequence: 0, portions: 2 };
  const signature = await key.signTypedData(prescriptionsDomain(chainId), { Dispense: types.Dispense }, message);
  const desk = prescriptions.connect(pharmacist);
  const given = await send(desk, "dispense", key.address, 0, 2, signature);
  assert.deepEqual([given.name, given.dispenser, given.left], ["Dispensed", pharmacist.address, 0n]);
  await assert.rejects(desk.dispense.staticCall(key.address, 0, 2, signature), (error) => error.revert?.name === "AlreadyDispensed");
  assert.deepEqual([...(await prescriptions.verify(key.address, id("text")))], [4n, 0n]);
});

test("refusals are the interfaces' own errors", DEADLINE, async () => {
  const stranger = Wallet.createRandom(provider);
  const call = identity.connect(stranger).registerPatient.staticCall(stranger.address, ZeroHash);
  await assert.rejects(call, (error) => {
    assert.equal(error.code, "CALL_EXCEPTION");
    assert.equal(error.revert.name, "NotAnOrganization");
    assert.deepEqual([...error.revert.args], [stranger.address]);
    return true;
  });
  const sent = consent.connect(stranger).publishDirectory.staticCall(id("x"));
  await assert.rejects(sent, (error) => error.revert?.name === "NotAPatient");
  const paid = identity.connect(stranger).getFunction("isActive");
  await assert.rejects(provider.call({ ...(await paid.populateTransaction(stranger.address)), value: 1n }));
});

test("a Solidity contract asks the system contracts", DEADLINE, async () => {
  const source = `// SPDX-License-Identifier: MIT
    pragma solidity ^0.8.20;
    interface IConsent { function can(address, address, uint8, uint8, uint16) external view returns (bool); }
    contract Door {
      event Opened(address indexed patient, address indexed who);
      error Closed();
      function open(address patient) external {
        if (!IConsent(0x5E1e000000000000000000000000000000000003).can(patient, msg.sender, 0, 1, 1)) revert Closed();
        emit Opened(patient, msg.sender);
      }
    }`;
  const { abi, bytecode } = compile({ "Door.sol": source }).Door;
  const door = await (await new ContractFactory(abi, bytecode, organization).deploy()).waitForDeployment();
  const patient = await newPatient();
  await assert.rejects(door.open.staticCall(patient.address), (error) => error.revert?.name === "Closed");
  await send(consent.connect(patient), "grant", organization.address, terms(), id("envelope"), 0);
  const event = await send(door, "open", patient.address);
  assert.deepEqual([event.name, event.patient, event.who], ["Opened", patient.address, organization.address]);
});
