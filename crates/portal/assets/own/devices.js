// Another passkey that opens the same record: it is made, shown to be able to keep keys, and an older one signs that it
// speaks for the account and unwraps the keys, which are wrapped again for the new one.

import { base64url, random, unbase64 } from "./bytes.js";
import { account as accountBytes } from "./keys.js";
import { Problem, account, allowed, ask, byId, fail, rp, say, send, usePasskey } from "./page.js";
import { PRF } from "./store.js";
import { text } from "./text.js";
import { unwrap, wrap } from "./wrap.js";

export const run = () => {
  const form = byId("device");
  const button = form.querySelector("button");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    byId("problem").hidden = true;
    try {
      await add(form);
      location.assign("/account");
    } catch (error) {
      fail(error);
      // The challenge is spent: the page is needed anew.
      button.replaceWith(Object.assign(document.createElement("a"), { className: "btn", href: "/keys/devices", textContent: text("Start again") }));
    }
  });
};

const add = async (form) => {
  const { challenge, name } = form.dataset;
  const { keys } = await ask("/keys/wrapped");
  say(text("Make the new passkey."));
  const { rawId, response } = await navigator.credentials.create({
    publicKey: {
      rp: { id: rp, name: "Stele" },
      user: { id: accountBytes(account), name, displayName: name },
      challenge: unbase64(challenge),
      pubKeyCredParams: [{ type: "public-key", alg: -7 }],
      authenticatorSelection: { residentKey: "required", userVerification: "required" },
      attestation: "none",
      excludeCredentials: allowed.map((id) => ({ type: "public-key", id: unbase64(id) })),
      extensions: PRF,
    },
  });
  const made = base64url(new Uint8Array(rawId));
  say(text("Use the new passkey."));
  const fresh = await usePasskey(random(32), [made]);
  if (!fresh.prf) throw new Problem(text("That device can't keep keys, so it can't open your record. Nothing was changed. Try another one."));
  const drafted = await send("/keys/devices/draft", {
    client_data: base64url(new Uint8Array(response.clientDataJSON)),
    authenticator_data: base64url(new Uint8Array(response.getAuthenticatorData())),
    label: byId("label").value,
  });
  say(text("Use a passkey that you have already."));
  const known = await usePasskey(unbase64(drafted.challenge), keys.map(({ credential }) => credential));
  const mine = keys.find(({ credential }) => credential === known.answer.credential);
  if (!mine || !known.prf) throw new Problem(text("That passkey does not open your record. Use another one of yours."));
  const secrets = await unwrap(known.prf, account, known.id, mine.wrapped);
  const wrapped = await wrap(fresh.prf, account, fresh.id, secrets);
  say(text("Adding the passkey…"));
  await send("/keys/devices", { draft: drafted.draft, passkey: known.answer, wrapped });
};
