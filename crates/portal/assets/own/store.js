// What this browser keeps: keys that scripts can derive from but not read; between a sign-in and the page that follows, what
// its passkey gave; and, encrypted (local.js), entries that were opened. Small, since the page of the sign-in loads it.

import { base64url, hkdfKey, utf8 } from "./bytes.js";

/** What a passkey's PRF is asked with. */
export const PRF = { prf: { eval: { first: utf8("stele/own-keys/v1") } } };
/** How long what a sign-in's passkey gave waits, in milliseconds. */
const SIGNED_IN_MS = 2 * 60 * 1000;
const DATABASE = "stele-keys";
const ROOTS = "roots";
/** Where entries that were opened are kept. */
export const ENTRIES = "entries";
/** What the store has under this name is of a sign-in, not of an account. */
const SIGNED_IN = "signed-in";
/** Says that keys were unlocked in this browser once, so that a sign-in asks the passkey for them too. */
const USED_HERE = "stele-own";

/** What the PRF gave, or undefined where the passkey has none. */
export const prfOf = (credential) => {
  const first = credential.getClientExtensionResults().prf?.results?.first;
  return first && new Uint8Array(first);
};

/** The answer to a request of the database. */
export const asked = (request) =>
  new Promise((done, failed) => {
    request.onsuccess = () => done(request.result);
    request.onerror = () => failed(request.error);
  });

/** A store of the database, in a transaction of its own. */
export const objects = async (name, mode) => {
  const opening = indexedDB.open(DATABASE, 2);
  opening.onupgradeneeded = () => {
    for (const one of [ROOTS, ENTRIES]) {
      if (!opening.result.objectStoreNames.contains(one)) opening.result.createObjectStore(one);
    }
  };
  const database = await asked(opening);
  // So that signing out deletes it at once.
  database.onversionchange = () => database.close();
  return database.transaction(name, mode).objectStore(name);
};

/** Keeps the keys of an account. */
export const put = async (account, keys) => {
  await asked((await objects(ROOTS, "readwrite")).put(keys, account));
  localStorage.setItem(USED_HERE, "1");
};

/** The keys of an account, as they were kept. */
export const get = async (account) => asked((await objects(ROOTS, "readonly")).get(account));

/** Removes all keys. The entries stay, and can't be opened before the passkey has unwrapped the keys again. */
export const forget = async () => {
  await asked((await objects(ROOTS, "readwrite")).clear());
};

/** Remembers what the passkey of a sign-in gave, for the page that follows. */
export const rememberSignIn = async (credential) => {
  const prf = prfOf(credential);
  if (!prf) return;
  const found = { prf: await hkdfKey(prf), credential: base64url(new Uint8Array(credential.rawId)), until: Date.now() + SIGNED_IN_MS };
  await asked((await objects(ROOTS, "readwrite")).put(found, SIGNED_IN));
};

/** What was remembered, once. */
export const takeSignIn = async () => {
  const found = await get(SIGNED_IN);
  if (found) await asked((await objects(ROOTS, "readwrite")).delete(SIGNED_IN));
  return found && found.until > Date.now() ? found : undefined;
};
