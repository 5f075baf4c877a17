// What a transaction says, read from its bytes before a passkey signs it.

import { concat, equal, hex, readU32, unhex } from "./bytes.js";
import { keccak256 } from "./keccak.js";
import { commitment } from "./vault.js";

const ACCOUNT_TX_TYPE = 0x5e;
const CONSENT = "5e1e000000000000000000000000000000000003";
const RECORDS = "5e1e000000000000000000000000000000000002";
const ANCHOR = "anchor((address,bytes,bytes32[])[],address,address,bytes)";
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

/** What the passkey signs of a call of the account. */
export const signingHash = (call) => keccak256(concat(Uint8Array.of(ACCOUNT_TX_TYPE), call));

/** What a call anchors, where it anchors leaves in one log: whose account, log and author, and the leaves with their slots. */
export const readAnchor = (call) => {
  const [, from, , , to, input] = rlpItems(call);
  if (hex(to) !== RECORDS || hex(input.subarray(0, 4)) !== selector(ANCHOR)) return undefined;
  const body = input.subarray(4);
  const number = (at) => readU32(body, at + 28);
  const bytes = (at) => body.subarray(at + 32, at + 32 + number(at));
  const list = number(0);
  if (number(list) !== 1) return undefined;
  const entry = list + 32 + number(list + 32);
  const leaves = entry + number(entry + 64);
  return {
    account: `0x${hex(from)}`,
    author: address(input, 1),
    log: `0x${hex(body.subarray(entry + 12, entry + 32))}`,
    slots: bytes(entry + number(entry + 32)),
    leaves: Array.from({ length: number(leaves) }, (_, at) => hex(body.subarray(leaves + 32 + 32 * at, leaves + 64 + 32 * at))),
  };
};

/** Whether a call of an account anchors these leaves in the account's own log, and the challenge signs that call. */
export const isOurs = (call, challenge, sealed, account) => {
  const read = readAnchor(call);
  const leaves = sealed.map(({ entry }) => hex(commitment(entry.leaf, unhex(entry.leafSalt))));
  const slots = concat(...sealed.map(({ entry }) => Uint8Array.of(entry.leaf.categorySlot)));
  return (
    equal(signingHash(call), challenge) && read !== undefined &&
    [read.account, read.log, read.author].every((one) => one === account) &&
    read.leaves.join() === leaves.join() && equal(read.slots, slots)
  );
};
