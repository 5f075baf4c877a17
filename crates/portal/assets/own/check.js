// Before a passkey signs: the browser reads the transaction's bytes itself, and holds them against the page and against what
// it sealed. A server that shows one thing and has another signed is found out here.

import { concat, equal, hex, readU32, unbase64, unhex } from "./bytes.js";
import { keccak256 } from "./keccak.js";
import { Problem, account, byId, fail, root } from "./page.js";
import { SEALED } from "./share.js";
import { text } from "./text.js";
import { kept } from "./wrap.js";

const ACCOUNT_TX_TYPE = 0x5e;
const CONSENT = "5e1e000000000000000000000000000000000003";
const GRANT = "grant(address,(uint64,uint8,uint16,uint40,uint40,uint16,uint16),bytes32,uint32)";
const REVOKE = "revoke(address,uint32,bytes32)";

/** The items of an RLP list of byte strings. */
export const rlpItems = (bytes) => {
  const header = (at) => {
    const first = bytes[at];
    if (first < 0x80) return [at, 1];
    const [base, long] = first < 0xc0 ? [0x80, 0xb7] : [0xc0, 0xf7];
    if (first <= long) return [at + 1, first - base];
    const size = first - long;
    let length = 0;
    for (let next = at + 1; next <= at + size; next += 1) length = length * 256 + bytes[next];
    return [at + 1 + size, length];
  };
  const [start, length] = header(0);
  const items = [];
  for (let at = start; at < start + length; ) {
    const [begin, size] = header(at);
    items.push(bytes.subarray(begin, begin + size));
    at = begin + size;
  }
  return items;
};

const selector = (signature) => hex(keccak256(new TextEncoder().encode(signature)).subarray(0, 4));
const word = (input, at) => input.subarray(4 + 32 * at, 36 + 32 * at);
const address = (input, at) => `0x${hex(word(input, at).subarray(12))}`;

/** What a call says: whose account, and the parts of a grant or of an end. */
export const readCall = (call) => {
  const [, from, , , to, input] = rlpItems(call);
  const read = { account: `0x${hex(from)}`, isConsent: hex(to) === CONSENT };
  const kind = hex(input.subarray(0, 4));
  if (kind === selector(GRANT)) {
    return { ...read, kind: "grant", grantee: address(input, 0), mask: BigInt(`0x${hex(word(input, 1))}`), digest: hex(word(input, 8)) };
  }
  if (kind === selector(REVOKE)) {
    return { ...read, kind: "revoke", grantee: address(input, 0), id: readU32(word(input, 1), 28), root: hex(word(input, 2)) };
  }
  return { ...read, kind: "other" };
};

export const run = async () => {
  const form = document.querySelector("form[data-passkey]");
  try {
    await check(byId("call").dataset, unbase64(form.dataset.challenge));
    form.querySelector("button").disabled = false;
  } catch (error) {
    // Nothing that failed the check can be signed on this page.
    form.remove();
    fail(error);
  }
};

const check = async ({ call, grantee, categories }, challenge) => {
  const bytes = unhex(call);
  const wrong = () => new Problem(text("What this page shows is not what would be signed. Do not go on. Tell the desk of your hospital or practice."));
  if (!equal(keccak256(concat(Uint8Array.of(ACCOUNT_TX_TYPE), bytes)), challenge)) throw wrong();
  const read = readCall(bytes);
  if (read.account !== account) throw wrong();
  if (read.kind === "other") return;
  const sealed = JSON.parse(sessionStorage.getItem(SEALED) ?? "{}");
  if (!read.isConsent || read.grantee !== grantee || sealed.grantee !== grantee) throw wrong();
  if (read.kind === "revoke") {
    if (read.root !== sealed.root) throw wrong();
    return;
  }
  const keys = (await kept(account)) ?? (await root());
  const mask = await keys.maskOf(categories.split(" ").filter(Boolean).map(Number));
  if (read.mask !== mask || mask.toString() !== sealed.mask || read.digest !== sealed.digest) throw wrong();
};
