// A transaction signed by a passkey, read by every library: one of type 0x5e among those of types 0, 1 and 2, in a block
// with all its transactions. Rows: S03, FR-X1.

import assert from "node:assert/strict";
import { createHash, generateKeyPairSync, sign } from "node:crypto";
import { after, before, test } from "node:test";

import { Contract, JsonRpcProvider, Wallet, concat, encodeRlp, id, keccak256, toBeArray, toBeHex } from "ethers";
import { abis, addresses } from "stele-contracts";
import { createPublicClient, http } from "viem";
import { Web3 } from "web3";

import { node, organizationKey } from "./node.mjs";

const DEADLINE = { timeout: 120_000 };
const RELYING_PARTY = "care.example";
const ORIGIN = "https://care.example";
const P256_ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;

let url, provider, patient, passkey, hash, nonce;

const number = (value) => (BigInt(value) === 0n ? "0x" : toBeArray(value));
const sha256 = (bytes) => createHash("sha256").update(bytes).digest();

/** A passkey that asks nobody: WebAuthn assertions over any challenge. */
function newPasskey() {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const { x, y } = publicKey.export({ format: "jwk" });
  const word = (text) => `0x${Buffer.from(text, "base64url").toString("hex").padStart(64, "0")}`;
  const key = { x: word(x), y: word(y) };
  const assertion = (challenge) => {
    const clientData = Buffer.from(JSON.stringify({
      type: "webauthn.get", challenge: Buffer.from(challenge.slice(2), "hex").toString("base64url"), origin: ORIGIN, crossOrigin: false,
    }));
    const authenticatorData = Buffer.concat([sha256(RELYING_PARTY), Buffer.from([0x05, 0, 0, 0, 0])]);
    const message = Buffer.concat([authenticatorData, sha256(clientData)]);
    const signature = sign("sha256", message, { key: privateKey, dsaEncoding: "ieee-p1363" });
    const r = `0x${signature.subarray(0, 32).toString("hex")}`;
    let s = BigInt(`0x${signature.subarray(32).toString("hex")}`);
    if (s > P256_ORDER / 2n) s = P256_ORDER - s;
    return [authenticatorData, clientData, r, toBeHex(s, 32), key.x, key.y];
  };
  return { id: keccak256(concat([key.x, key.y])), assertion };
}

before(async () => {
  url = await node();
  provider = new JsonRpcProvider(url.http, undefined, { pollingInterval: 100, cacheTimeout: -1 });
  const organization = new Wallet(organizationKey(), provider);
  const identity = new Contract(addresses.IIdentity, abis.IIdentity, organization);
  patient = Wallet.createRandom(provider);
  passkey = newPasskey();
  await (await identity.registerPatient(patient.address, id("directory"))).wait();
  await (await identity.allowOrigin(id(ORIGIN), true)).wait();
  await (await identity.connect(patient).addKey(passkey.id, 1, `0x${sha256(RELYING_PARTY).toString("hex")}`)).wait();

  const { chainId } = await provider.getNetwork();
  nonce = await patient.getNonce();
  const input = identity.interface.encodeFunctionData("isActive", [patient.address]);
  const call = [chainId, patient.address, nonce, 200_000, addresses.IIdentity, input];
  const fields = [number(call[0]), call[1], number(call[2]), number(call[3]), call[4], call[5]];
  const signingHash = keccak256(concat(["0x5e", encodeRlp(fields)]));
  const assertion = passkey.assertion(signingHash);
  hash = await provider.send("eth_sendRawTransaction", [concat(["0x5e", encodeRlp([fields, "0x01", ...assertion])])]);
  await provider.waitForTransaction(hash);
}, DEADLINE);

after(() => provider?.destroy());

test("ethers reads a passkey's transaction", DEADLINE, async () => {
  const found = await provider.getTransaction(hash);
  assert.deepEqual([found.type, found.from, found.to.toLowerCase(), found.nonce], [0x5e, patient.address, addresses.IIdentity, nonce]);
  assert.match(found.signature.r, /^0x[0-9a-f]{64}$/);
  const receipt = await provider.getTransactionReceipt(hash);
  assert.deepEqual([receipt.status, receipt.type, receipt.from], [1, 0x5e, patient.address]);
  const block = await provider.getBlock(receipt.blockNumber, true);
  assert.equal(block.getPrefetchedTransaction(hash).from, patient.address);
});

test("viem reads a passkey's transaction", DEADLINE, async () => {
  const client = createPublicClient({ transport: http(url.http) });
  const found = await client.getTransaction({ hash });
  assert.deepEqual([found.typeHex, found.from], ["0x5e", patient.address.toLowerCase()]);
  assert.ok(found.r && found.s && found.yParity === 0);
  const receipt = await client.getTransactionReceipt({ hash });
  assert.equal(receipt.status, "success");
  const block = await client.getBlock({ blockNumber: receipt.blockNumber, includeTransactions: true });
  assert.ok(block.transactions.some((tx) => tx.hash === hash));
});

test("web3.js reads a passkey's transaction", DEADLINE, async () => {
  const web3 = new Web3(url.http);
  const found = await web3.eth.getTransaction(hash);
  assert.deepEqual([Number(found.type), found.from.toLowerCase()], [0x5e, patient.address.toLowerCase()]);
  const receipt = await web3.eth.getTransactionReceipt(hash);
  assert.equal(receipt.status, 1n);
  const block = await web3.eth.getBlock(receipt.blockNumber, true);
  assert.ok(block.transactions.some((tx) => tx.hash === hash));
});

test("a passkey does not sign for others, nor its assertion for another call", DEADLINE, async () => {
  const { chainId } = await provider.getNetwork();
  const refused = async (account, signedNonce) => {
    const fields = [number(chainId), account, number(nonce + 1), number(200_000), addresses.IIdentity, "0x"];
    const signed = [number(chainId), account, number(signedNonce), number(200_000), addresses.IIdentity, "0x"];
    const assertion = passkey.assertion(keccak256(concat(["0x5e", encodeRlp(signed)])));
    const raw = concat(["0x5e", encodeRlp([fields, "0x01", ...assertion])]);
    await assert.rejects(provider.send("eth_sendRawTransaction", [raw]));
  };
  await refused(Wallet.createRandom().address, nonce + 1);
  await refused(patient.address, nonce + 2);
});
