// Taking the keys over: the root key comes sealed to this browser, a secret that nobody else ever had is made here, and
// the passkey signs the claim. Only public keys, sealed envelopes and the wrapped form leave.

import { base64, random, unbase64, utf8 } from "./bytes.js";
import { openMessage, publicOf } from "./hpke.js";
import { Directory, GrantSealer, Root, account as accountBytes, monthOf } from "./keys.js";
import { Problem, account, byId, fail, say, send, usePasskey } from "./page.js";
import { text } from "./text.js";
import { keep, wrap } from "./wrap.js";

const CLAIM_INFO = utf8("stele/claim/v1");

export const run = () => {
  const button = byId("claim");
  // Until here a click would have done nothing.
  button.disabled = false;
  button.addEventListener("click", async () => {
    button.disabled = true;
    byId("problem").hidden = true;
    try {
      await claim(unbase64(button.dataset.challenge));
      location.assign("/keys");
    } catch (error) {
      fail(error);
      // The first use of the passkey is spent, so the page is needed anew.
      button.replaceWith(again());
    }
  });
};

const again = () => Object.assign(document.createElement("a"), { className: "btn", href: "/keys", textContent: text("Start again") });

const claim = async (challenge) => {
  say(text("Use your passkey to get your keys."));
  const first = await usePasskey(challenge);
  if (!first.prf) {
    throw new Problem(text("This passkey can't keep keys. Nothing was changed: your keys stay where they are, and you go on as before."));
  }
  say(text("Making your keys…"));
  const seed = random(32);
  const offer = await send("/keys/offer", { passkey: first.answer, key: base64(await publicOf(seed)) });
  const secrets = {
    root: await openMessage(seed, CLAIM_INFO, accountBytes(account), unbase64(offer.root)),
    own: random(32),
    fromGeneration: offer.fromGeneration,
  };
  const root = await Root.of(secrets.root, secrets.own, secrets.fromGeneration);
  const generations = offer.categories.map((category) => [category, offer.fromGeneration]);
  const log = accountBytes(account);
  const directory = base64((await Directory.derive(root, log, generations, monthOf(new Date()))).encode());
  const envelopes = await sealedTo(root, log, offer);
  const { draft, challenge: claimed } = await send("/keys/claim/draft", { credential: first.answer.credential, directory });
  say(text("Use your passkey once more to take them over."));
  const second = await usePasskey(unbase64(claimed), [first.answer.credential]);
  const wrapped = await wrap(first.prf, account, first.id, secrets);
  say(text("Taking your keys over…"));
  await send("/keys/claim", { draft, passkey: second.answer, wrapped, directory, envelopes });
  await keep(account, secrets);
};

/** The keys of the first own generation, sealed to everyone who holds a grant. */
const sealedTo = async (root, log, { grantees, categories, fromGeneration }) => {
  const envelopes = [];
  const slots = await root.slots();
  for (const { account: grantee, key, categories: mask, recordsFrom, recordsTo } of grantees) {
    const sealer = await GrantSealer.to(accountBytes(grantee), unbase64(key));
    for (const category of categories) {
      if (((BigInt(mask) >> BigInt(slots[category])) & 1n) === 0n) continue;
      const sealed = await sealer.seal(root, log, category, fromGeneration, recordsFrom, recordsTo);
      envelopes.push({ grantee, envelope: base64(sealed) });
    }
  }
  return envelopes;
};

