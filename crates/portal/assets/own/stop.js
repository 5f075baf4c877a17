// Making the next generation of keys when somebody's access ends, and sealing it to those who remain.

import { base64, hex, unbase64 } from "./bytes.js";
import { Directory, GrantSealer, account as accountBytes, monthOf } from "./keys.js";
import { account, ask, root, send } from "./page.js";
import { SEALED, currentDirectory } from "./share.js";

export const run = async () => {
  const path = location.pathname;
  const keys = await root();
  const terms = await ask(`${path}/terms`);
  const before = await currentDirectory(keys, terms);
  const log = accountBytes(account);
  const slots = await keys.slots();
  const generations = terms.categories.map((category) => {
    const isNew = terms.concerned.includes(category);
    return [category, before.generation(category) + (isNew ? 1 : 0)];
  });
  const envelopes = [];
  const sealers = new Map();
  for (const { grantee, categories, recordsFrom, recordsTo } of terms.remaining) {
    if (!sealers.has(grantee.account)) {
      sealers.set(grantee.account, await GrantSealer.to(accountBytes(grantee.account), unbase64(grantee.key)));
    }
    for (const [category, generation] of generations) {
      const reads = ((BigInt(categories) >> BigInt(slots[category])) & 1n) === 1n;
      if (!reads || !terms.concerned.includes(category)) continue;
      const sealed = await sealers.get(grantee.account).seal(keys, log, category, generation, recordsFrom, recordsTo);
      envelopes.push({ grantee: grantee.account, envelope: base64(sealed) });
    }
  }
  const directory = await Directory.derive(keys, log, generations, firstMonth(before), before);
  const [, , , grantee] = path.split("/");
  const { next } = await send(path, { directory: base64(directory.encode()), envelopes });
  sessionStorage.setItem(SEALED, JSON.stringify({ grantee, root: hex(await directory.root()) }));
  location.replace(next);
};

/** Public keys reach two years ahead; half a year before they end all are made anew. */
const firstMonth = ({ firstMonth: before }) => {
  const now = monthOf(new Date());
  return now - before > 18 ? now : before;
};
