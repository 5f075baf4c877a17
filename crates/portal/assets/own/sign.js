// Handing over what was sealed, and having the passkey sign the transaction that anchors it, once the browser has read that
// transaction itself.

import { isOurs } from "./calls.js";
import { u32, unbase64, unhex, utf8 } from "./bytes.js";
import { Problem, account, hand, say, send, usePasskey } from "./page.js";
import { text } from "./text.js";

/** Asks for room, seals, hands over, signs. `seal` gets the offer and gives what `sealRecord` gives, one for each record. */
export const record = async (records, seal, progress = () => {}) => {
  const offer = await send("/keys/entries/offer", { records });
  const sealed = await seal(offer);
  const head = utf8(JSON.stringify(sealed.map(({ entry }) => entry)));
  const body = new Blob([u32(head.length), head, ...sealed.map((one) => one.sealed)]);
  const draft = await hand(`/keys/entries/sealed?offer=${offer.id}`, body, progress);
  const challenge = unbase64(draft.challenge);
  if (!isOurs(unhex(draft.call), challenge, sealed, account)) {
    throw new Problem(text("The server would have something else signed than what was locked here. Do not go on. Tell the desk of your hospital or practice."));
  }
  say(text("Use your passkey to sign the entry."));
  const { answer } = await usePasskey(challenge);
  say(text("Recording the entry…"));
  return send("/keys/entries/signed", { draft: draft.draft, passkey: answer });
};
