// Locking the keys of what is shared to the one who gets access. What was sealed is remembered for the check page, which
// holds the transaction against it.

import { base64, concat, equal, sha256, unbase64, unhex, hex } from "./bytes.js";
import { Directory, GrantSealer, account as accountBytes } from "./keys.js";
import { keccak256 } from "./keccak.js";
import { Problem, account, ask, root, send } from "./page.js";
import { text } from "./text.js";

/** Where the check page finds what this page sealed. */
export const SEALED = "stele-sealed";

/** The directory that is in force: the one whose root the ledger has, with the slots of our own root key. */
export const currentDirectory = async (keys, { directory, directoryRoot }) => {
  const read = Directory.decode(unbase64(directory));
  const isOurs = equal(read.log, accountBytes(account)) && equal(await read.root(), unhex(directoryRoot));
  if (!isOurs || !(await read.fits(keys))) {
    throw new Problem(text("The server's list of your public keys is not the one on the ledger. Nothing was changed. Tell the desk of your hospital or practice."));
  }
  return read;
};

export const run = async () => {
  const keys = await root();
  const terms = await ask("/keys/share/terms");
  const directory = await currentDirectory(keys, terms);
  const log = accountBytes(account);
  const envelopes = [];
  if (terms.reads) {
    const sealer = await GrantSealer.to(accountBytes(terms.grantee.account), unbase64(terms.grantee.key));
    for (const category of terms.categories) {
      for (let generation = 0; generation <= directory.generation(category); generation += 1) {
        envelopes.push(await sealer.seal(keys, log, category, generation, terms.recordsFrom, terms.recordsTo));
      }
    }
  }
  const digests = [];
  for (const envelope of envelopes) digests.push(await sha256(envelope));
  const sealed = {
    grantee: terms.grantee.account,
    mask: (await keys.maskOf(terms.categories)).toString(),
    digest: hex(keccak256(concat(...digests))),
  };
  const { next } = await send("/keys/share", { envelopes: envelopes.map(base64) });
  sessionStorage.setItem(SEALED, JSON.stringify(sealed));
  location.replace(next);
};
