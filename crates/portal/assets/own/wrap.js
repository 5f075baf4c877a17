// The root key at rest: wrapped under a key that only the passkey gives (WebAuthn's PRF extension), kept by the node in
// that form alone; and, while somebody is signed in, as keys that no script can read, in this browser.
//
//   wrapping key = HKDF(PRF output, "stele/wrap-root/v1", account, credential)
//   wrapped      = AES-256-GCM(wrapping key; root (32) ‖ own secret (32) ‖ its first generation (u32))

import { base64, concat, derive, hkdfKey, open, readU32, seal, u32, unbase64 } from "./bytes.js";
import { Root, account as accountBytes } from "./keys.js";
import { forget, get, put, takeSignIn } from "./store.js";

/** How long the keys stay in this browser without use: as long as the session, in milliseconds. */
const IDLE_MS = 30 * 60 * 1000;

/** `prf` is of `hkdfKey`. */
const wrappingKey = (prf, account, credential) => derive(prf, "stele/wrap-root/v1", [accountBytes(account), credential]);

/** Wraps secrets `{ root, own, fromGeneration }` for a passkey, in base64. */
export const wrap = async (prf, account, credential, { root, own, fromGeneration }) => {
  const key = await wrappingKey(await hkdfKey(prf), account, credential);
  return base64(await seal(key, accountBytes(account), concat(root, own, u32(fromGeneration))));
};

/** The secrets again. Fails for another passkey's PRF, another account, or altered bytes. */
export const unwrap = async (prf, account, credential, wrapped) => unwrapWith(await hkdfKey(prf), account, credential, wrapped);

const unwrapWith = async (prf, account, credential, wrapped) => {
  const key = await wrappingKey(prf, account, credential);
  const plain = await open(key, accountBytes(account), unbase64(wrapped));
  if (plain.length !== 68) throw new Error("the wrapped keys have a wrong length");
  return { root: plain.slice(0, 32), own: plain.slice(32, 64), fromGeneration: readU32(plain, 64) };
};

/** Keeps the keys for the pages that follow. */
export const keep = async (account, { root, own, fromGeneration }) => {
  const keys = { root: await hkdfKey(root), own: await hkdfKey(own), fromGeneration };
  await put(account, { ...keys, until: Date.now() + IDLE_MS });
  return new Root(keys.root, keys.own, fromGeneration);
};

/** The keys of an account as this browser keeps them; undefined where they must be unlocked first. */
export const kept = async (account) => {
  const found = await get(account);
  if (!found) return undefined;
  if (found.until < Date.now()) {
    await forget();
    return undefined;
  }
  await put(account, { ...found, until: Date.now() + IDLE_MS });
  return new Root(found.root, found.own, found.fromGeneration);
};

/** The keys, if the passkey that signed in just now opens them; `fetchWrapped` asks for the wrapped ones. */
export const afterSignIn = async (account, fetchWrapped) => {
  const found = await takeSignIn();
  const mine = found && (await fetchWrapped()).find(({ credential }) => credential === found.credential);
  return mine && keep(account, await unwrapWith(found.prf, account, unbase64(mine.credential), mine.wrapped));
};
