// Consents signed as EIP-712 typed data by wallets' libraries and sent by somebody else. Rows: S03, FR-X2.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Contract, JsonRpcProvider, Wallet, TypedDataEncoder, id as digest } from "ethers";
import { abis, addresses, domain, types } from "stele-contracts";
import { privateKeyToAccount } from "viem/accounts";

import { node, organizationKey } from "../ethereum/node.mjs";

const DEADLINE = { timeout: 120_000 };
const NOTHING = `0x${"00".repeat(32)}`;

let provider, organization, consent, identity, chainId;

before(async () => {
  const url = await node();
  provider = new JsonRpcProvider(url.http, undefined, { pollingInterval: 100, cacheTimeout: -1 });
  organization = new Wallet(organizationKey(), provider);
  consent = new Contract(addresses.IConsent, abis.IConsent, organization);
  identity = new Contract(addresses.IIdentity, abis.IIdentity, organization);
  ({ chainId } = await provider.getNetwork());
}, DEADLINE);

after(() => provider?.destroy());

/** A registered patient, and what it grants the organisation. */
async function granting(overrides = {}) {
  const patient = Wallet.createRandom();
  await (await identity.registerPatient(patient.address, digest("directory"))).wait();
  const now = Math.floor(Date.now() / 1000);
  const message = {
    patient: patient.address, grantee: organization.address, categories: 0b11n, permissions: 1, purposes: 1, notBefore: 0,
    expires: now + 86_400, recordsFrom: 0, recordsTo: 65_535, envelopeDigest: digest("envelope"), request: 0,
    nonce: await consent.signatureNonce(patient.address), deadline: now + 3_600, ...overrides,
  };
  return { patient, message };
}

function sent(message, signature) {
  const { patient, grantee, envelopeDigest, request, nonce, deadline, ...terms } = message;
  return [patient, grantee, terms, envelopeDigest, request, nonce, deadline, signature];
}

const granted = (patient) => consent.can(patient, organization.address, 0, 1, 1);
const refused = (name) => (error) => error.revert?.name === name || assert.fail(error.message);

test("the domain is the contract's own", DEADLINE, async () => {
  assert.equal(await consent.DOMAIN_SEPARATOR(), TypedDataEncoder.hashDomain(domain(chainId)));
});

test("what ethers signs is granted and revoked by whoever sends it", DEADLINE, async () => {
  const { patient, message } = await granting();
  const signature = await patient.signTypedData(domain(chainId), { Grant: types.Grant }, message);
  const receipt = await (await consent.grantBySig(...sent(message, signature))).wait();
  const { id } = consent.interface.parseLog(receipt.logs[0]).args;
  assert.equal(await granted(patient.address), true);
  // It is good once.
  await assert.rejects(consent.grantBySig.staticCall(...sent(message, signature)), refused("BadNonce"));

  const revocation = {
    patient: patient.address, grantee: organization.address, id, directoryRoot: NOTHING,
    nonce: await consent.signatureNonce(patient.address), deadline: message.deadline,
  };
  const ended = await patient.signTypedData(domain(chainId), { Revoke: types.Revoke }, revocation);
  await (await consent.revokeBySig(...Object.values(revocation), ended)).wait();
  assert.equal(await granted(patient.address), false);
});

test("what viem signs is granted", DEADLINE, async () => {
  const { patient, message } = await granting();
  const account = privateKeyToAccount(patient.privateKey);
  const signature = await account.signTypedData({
    domain: { ...domain(chainId), chainId: Number(chainId) }, types: { Grant: types.Grant }, primaryType: "Grant", message,
  });
  await (await consent.grantBySig(...sent(message, signature))).wait();
  assert.equal(await granted(patient.address), true);
});

test("what was not signed is refused", DEADLINE, async () => {
  const { patient, message } = await granting();
  const sign = (domain_, message_) => patient.signTypedData(domain_, { Grant: types.Grant }, message_);
  const signature = await sign(domain(chainId), message);
  // Any other field makes it somebody else's signature.
  for (const change of [{ categories: 1n }, { permissions: 3 }, { expires: message.expires + 1 }, { recordsTo: 5 }, { deadline: message.deadline + 1 }]) {
    await assert.rejects(consent.grantBySig.staticCall(...sent({ ...message, ...change }, signature)), refused("BadSignature"));
  }
  const otherChain = await sign(domain(chainId + 1n), message);
  await assert.rejects(consent.grantBySig.staticCall(...sent(message, otherChain)), refused("BadSignature"));
  const late = { ...message, deadline: 1 };
  const signedLate = await sign(domain(chainId), late);
  await assert.rejects(consent.grantBySig.staticCall(...sent(late, signedLate)), refused("SignatureExpired"));
  assert.equal(await granted(patient.address), false);
});
