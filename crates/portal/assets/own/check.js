// Before a passkey signs: the browser reads the transaction's bytes itself, and holds them against the page and against what
// it sealed. A server that shows one thing and has another signed is found out here.

import { readCall, signingHash } from "./calls.js";
import { equal, unbase64, unhex } from "./bytes.js";
import { Problem, account, byId, fail, root } from "./page.js";
import { SEALED } from "./share.js";
import { text } from "./text.js";
import { kept } from "./wrap.js";

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
  if (!equal(signingHash(bytes), challenge)) throw wrong();
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
