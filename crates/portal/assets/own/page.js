// What the pages share: what the server told them, asking it, unlocking the keys, and saying what happens.

import { base64url, random, unbase64 } from "./bytes.js";
import { PRF, forget, prfOf } from "./store.js";
import { text } from "./text.js";
import { afterSignIn, keep, kept, unwrap } from "./wrap.js";

const tools = document.querySelector("#own")?.dataset ?? {};

export const account = tools.account;
export const rp = tools.rp;
/** Credential ids of the account's passkeys. */
export const allowed = (tools.allow ?? "").split(" ").filter(Boolean);
export const byId = (id) => document.getElementById(id);

/** A problem that people can do something about. */
export class Problem extends Error {}

export const say = (words) => {
  const doing = byId("doing");
  if (doing) doing.textContent = words;
};

/** Says what went wrong. */
export const fail = (error) => {
  say("");
  const place = byId("problem");
  place.textContent = words(error);
  place.hidden = false;
};

const words = (error) => {
  if (error instanceof Problem) return error.message;
  if (!window.PublicKeyCredential) return text("This browser cannot use passkeys. Try another browser, or a newer version of this one.");
  if (error.name === "NotAllowedError") return text("Your device did not confirm. Nothing was changed. You can try again.");
  if (error.name === "OperationError") return text("What the server sent does not open with your keys. Nothing was changed. Tell the desk of your hospital or practice.");
  return text("This did not work. Nothing was changed. Try again. ({error})", { error: error.message });
};

const answered = async (answer) => {
  const isJson = answer.headers.get("content-type")?.startsWith("application/json");
  if (answer.ok && isJson) return answer.json();
  // Signed out: the server sends whoever asks to the sign-in.
  if (answer.redirected || answer.status === 401) {
    await forget();
    location.assign("/sign-in");
    throw new Problem(text("You were signed out. Sign in and try again."));
  }
  throw new Problem(isJson ? (await answer.json()).message : text("The server does not answer now. Try again in a minute."));
};

export const ask = async (path) => answered(await fetch(path, { headers: { accept: "application/json" } }));

export const send = async (path, body) =>
  answered(
    await fetch(path, {
      method: "POST",
      headers: { "content-type": "application/json", "x-csrf": tools.csrf },
      body: JSON.stringify(body),
    }),
  );

/** Hands over bytes, with what has been sent so far told to `progress`. */
export const hand = (path, body, progress) =>
  new Promise((done, failed) => {
    const sending = new XMLHttpRequest();
    sending.upload.addEventListener("progress", ({ loaded, total }) => progress(loaded, total));
    sending.addEventListener("load", () => {
      const { status, responseText: said } = sending;
      const answer = new Response(said, { status, headers: { "content-type": sending.getResponseHeader("content-type") ?? "" } });
      answered(answer).then(done, failed);
    });
    sending.addEventListener("error", () => failed(new Problem(text("The connection broke. Nothing was kept. Try again."))));
    sending.open("POST", path);
    sending.setRequestHeader("content-type", "application/octet-stream");
    sending.setRequestHeader("x-csrf", tools.csrf);
    sending.send(body);
  });

/** r and s of an ECDSA signature in DER (SEC 1, C.5), 32 bytes each. */
const fixed = (der) => {
  const out = new Uint8Array(64);
  let at = 3;
  for (const end of [32, 64]) {
    const number = der.subarray(at + 1, at + 1 + der[at]);
    const significant = number.subarray(Math.max(0, number.length - 32));
    out.set(significant, end - significant.length);
    at += number.length + 2;
  }
  return out;
};

/** Uses a passkey of this account; with what its PRF gives, where it has one. */
export const usePasskey = async (challenge, these = allowed) => {
  const credential = await navigator.credentials.get({
    publicKey: {
      rpId: rp,
      challenge,
      userVerification: "required",
      allowCredentials: these.map((id) => ({ type: "public-key", id: unbase64(id) })),
      extensions: PRF,
    },
  });
  const { clientDataJSON, authenticatorData, signature } = credential.response;
  return {
    id: new Uint8Array(credential.rawId),
    prf: prfOf(credential),
    answer: {
      credential: base64url(new Uint8Array(credential.rawId)),
      client_data: base64url(new Uint8Array(clientDataJSON)),
      authenticator_data: base64url(new Uint8Array(authenticatorData)),
      signature: base64url(fixed(new Uint8Array(signature))),
    },
  };
};

/** The secrets themselves, unwrapped with a passkey; for wrapping them again. */
export const secrets = async () => {
  const { keys } = await ask("/keys/wrapped");
  // The challenge is for the passkey alone: what its PRF gives does not depend on it, and nothing is signed for anybody.
  const used = await usePasskey(random(32), keys.map(({ credential }) => credential));
  const mine = keys.find(({ credential }) => credential === used.answer.credential);
  if (!mine || !used.prf) throw new Problem(text("This passkey does not open your record. Use another one of yours."));
  return unwrap(used.prf, account, used.id, mine.wrapped);
};

/** The keys: as this browser keeps them, or once the person has unlocked them. */
export const root = async () => {
  const known = (await kept(account)) ?? (await afterSignIn(account, async () => (await ask("/keys/wrapped")).keys));
  if (known) return known;
  const doing = byId("doing")?.textContent;
  const locked = byId("locked");
  const button = byId("unlock");
  locked.hidden = false;
  say("");
  button.focus();
  return new Promise((done) => {
    button.addEventListener("click", async () => {
      button.disabled = true;
      byId("problem").hidden = true;
      try {
        const opened = await keep(account, await secrets());
        locked.hidden = true;
        say(doing);
        done(opened);
      } catch (error) {
        fail(error);
        button.disabled = false;
      }
    });
  });
};
