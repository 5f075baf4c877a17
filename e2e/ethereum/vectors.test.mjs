// Ethereum's own vectors, from the npm package of the official test suite (of 2015, before chain ids): transactions good and
// bad, and everything else of RLP that is no transaction. Rows: FR-X1.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { before, test } from "node:test";

import { RLP } from "@ethereumjs/rlp";
import { concat, hexlify, keccak256, toBeHex, zeroPadValue } from "ethers";

import { ask, node } from "./node.mjs";

const DEADLINE = { timeout: 60_000 };
const SUITE = dirname(createRequire(import.meta.url).resolve("ethereum-tests/package.json"));
/** Order of secp256k1's group. */
const N = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const ECRECOVER = toBeHex(1, 20);
/** What a transaction without a chain id is told: it was read to its end. */
const ANY_CHAIN = /^transaction is for chain none \(not replay-protected\), this is chain \d+$/;

let url;

function vectors(path) {
  return Object.entries(JSON.parse(readFileSync(join(SUITE, path), "utf8")));
}

const hex = (text) => (text.startsWith("0x") ? text : `0x${text}`);

/** Sends bytes that must be refused; gives the refusal, which is never a fault of the node. */
async function refused(name, raw) {
  const { error, result } = await ask(url, "eth_sendRawTransaction", [raw]);
  assert.ok(error, `${name}: taken as ${result}`);
  assert.ok([-32000, -32602].includes(error.code), `${name}: ${JSON.stringify(error)}`);
  return error.message;
}

/** The account that signed a transaction of before chain ids, by the chain's own precompile; undefined if none did. */
async function signer(raw) {
  const fields = RLP.decode(raw);
  const [v, r, s] = fields.slice(6).map((field) => zeroPadValue(field.length > 0 ? hexlify(field) : "0x00", 32));
  const data = concat([keccak256(RLP.encode(fields.slice(0, 6))), v, r, s]);
  const { result } = await ask(url, "eth_call", [{ to: ECRECOVER, data }, "latest"]);
  return result === "0x" ? undefined : result.slice(-40);
}

/** Whether a signature's second number is below the group's order. One vector takes the field's prime for the order. */
const isBelowOrder = (raw) => BigInt(hexlify(RLP.decode(raw)[8])) < N;

/** Whether the values fit what all clients have agreed on since: 64 bits of nonce (EIP-2681) and gas, 128 of price. */
function fits({ nonce, gasLimit, gasPrice }) {
  const number = (text) => BigInt(text || 0);
  return number(nonce) < 1n << 64n && number(gasLimit) < 1n << 64n && number(gasPrice) < 1n << 128n;
}

before(async () => {
  url = (await node()).http;
}, DEADLINE);

test("official transactions are read as the suite says", DEADLINE, async () => {
  let good = 0, unsigned = 0, bad = 0;
  for (const file of ["ttTransactionTest", "ttWrongRLPTransaction"]) {
    for (const [name, { rlp, sender, transaction }] of vectors(`TransactionTests/${file}.json`)) {
      const said = await refused(name, hex(rlp));
      if (transaction && fits(transaction) && isBelowOrder(hex(rlp))) {
        assert.match(said, ANY_CHAIN, name);
        assert.equal(await signer(hex(rlp)), sender, name);
        good += 1;
      } else if (ANY_CHAIN.test(said)) {
        // Its form is right; nobody can have signed it.
        assert.equal(await signer(hex(rlp)), undefined, name);
        unsigned += 1;
      } else {
        assert.match(said, /^(malformed transaction|invalid argument 0 `transaction`): ./, name);
        bad += 1;
      }
    }
  }
  assert.deepEqual([good, unsigned, bad], [10, 4, 31]);
});

test("official signed transactions have the signer of their key", DEADLINE, async () => {
  const addresses = new Map(vectors("BasicTests/keyaddrtest.json").map(([, { key, addr }]) => [key, addr]));
  for (const [name, { key, signed }] of vectors("BasicTests/txtest.json")) {
    assert.match(await refused(name, hex(signed)), ANY_CHAIN);
    assert.equal(await signer(hex(signed)), addresses.get(key));
  }
});

test("official RLP that is no transaction is refused as such", DEADLINE, async () => {
  const all = vectors("BasicTests/rlptest.json");
  assert.ok(all.length > 20);
  for (const [name, { out }] of all) {
    assert.match(await refused(name, hex(out)), /malformed transaction|type/, name);
  }
});
