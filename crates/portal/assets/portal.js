// The portal's only script: passkeys, and pages that follow what happens. Everything else is plain forms.

import { text } from "./own/text.js";

const bytes = (encoded) => Uint8Array.from(atob(encoded.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
const base64 = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");

/** r and s of an ECDSA signature in DER (SEC 1, C.5), 32 bytes each. */
const fixed = (der) => {
  const all = new Uint8Array(der);
  const out = new Uint8Array(64);
  let at = 3;
  for (const end of [32, 64]) {
    const number = all.subarray(at + 1, at + 1 + all[at]);
    const significant = number.subarray(Math.max(0, number.length - 32));
    out.set(significant, end - significant.length);
    at += number.length + 2;
  }
  return out;
};

const made = async (form) => {
  const { challenge, rp, name, account, exclude } = form.dataset;
  const { response } = await navigator.credentials.create({
    publicKey: {
      rp: { id: rp, name: "Stele" },
      user: { id: bytes(account), name, displayName: name },
      challenge: bytes(challenge),
      pubKeyCredParams: [{ type: "public-key", alg: -7 }],
      authenticatorSelection: { residentKey: "required", userVerification: "required" },
      attestation: "none",
      // So that the passkey can keep keys later, where the device is able to (PRF).
      extensions: { prf: {} },
      excludeCredentials: (exclude ?? "").split(" ").filter(Boolean).map((id) => ({ type: "public-key", id: bytes(id) })),
    },
  });
  return { client_data: response.clientDataJSON, authenticator_data: response.getAuthenticatorData() };
};

const used = async (form) => {
  const { challenge, rp, allow, keys } = form.dataset;
  // Where keys of a record were unlocked before, a sign-in unlocks them with the same use of the passkey.
  const own = keys && localStorage.getItem("stele-own") ? await import(keys) : undefined;
  const credential = await navigator.credentials.get({
    publicKey: {
      rpId: rp,
      challenge: bytes(challenge),
      userVerification: "required",
      allowCredentials: (allow ?? "").split(" ").filter(Boolean).map((id) => ({ type: "public-key", id: bytes(id) })),
      extensions: own?.PRF ?? {},
    },
  });
  await own?.rememberSignIn(credential);
  const { clientDataJSON, authenticatorData, signature } = credential.response;
  return {
    credential: credential.rawId,
    client_data: clientDataJSON,
    authenticator_data: authenticatorData,
    signature: fixed(signature),
  };
};

/** Why a device gave nothing, in words. */
const reason = (error) => {
  if (!window.PublicKeyCredential) return text("This browser cannot use passkeys. Try another browser, or a newer version of this one.");
  if (error.name === "NotAllowedError") return text("Your device did not confirm. Nothing was changed. You can try again.");
  if (error.name === "InvalidStateError") return text("This device already has a passkey for this account. Sign in with it instead.");
  return text("Your device could not do this. Try again, or use another device.");
};

document.addEventListener("submit", async (event) => {
  const form = event.target;
  // Whoever signs out takes the keys and the entries of the record along; the request to delete is carried out while the
  // page goes. So does whoever removes a passkey: it may be this browser's.
  if (form.getAttribute("action") === "/sign-out" || "forget" in form.dataset) indexedDB.deleteDatabase("stele-keys");
  const kind = form.dataset.passkey;
  if (!kind) return;
  event.preventDefault();
  const button = form.querySelector("button");
  const problem = form.querySelector("[data-problem]");
  problem.hidden = true;
  button.disabled = true;
  try {
    const answer = await (kind === "make" ? made(form) : used(form));
    for (const [name, value] of Object.entries(answer)) {
      const field = document.createElement("input");
      Object.assign(field, { type: "hidden", name, value: base64(value) });
      form.append(field);
    }
    form.submit();
  } catch (error) {
    problem.textContent = reason(error);
    problem.hidden = false;
    button.disabled = false;
    button.focus();
  }
});

// A page that came back from the browser's memory may show a used form.
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});

// A failed form says so first.
document.querySelector("#errors")?.focus();

for (const button of document.querySelectorAll("[data-print]")) {
  button.hidden = false;
  button.addEventListener("click", () => print());
}

// Parts marked with data-live are fetched again when the ledger says that something about this person changed.
if (document.querySelector("[data-live]")) {
  const said = document.querySelector("#said");
  let waiting = false;
  let again = false;
  const renew = async () => {
    again = waiting;
    if (waiting) return;
    waiting = true;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" } });
      if (!answer.ok || answer.redirected) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      let changed = false;
      for (const old of document.querySelectorAll("[data-live]")) {
        const now = fresh.getElementById(old.id);
        if (!now || now.innerHTML === old.innerHTML || old.contains(document.activeElement)) continue;
        old.replaceChildren(...now.childNodes);
        changed = true;
      }
      if (changed && said) said.textContent = text("This page has been brought up to date.");
    } finally {
      waiting = false;
      if (again) renew();
    }
  };
  const events = new EventSource("/events");
  // What a block brought is found by a search a moment after the block is final, and later where much is going on.
  events.addEventListener("changed", () => {
    for (const later of [0, 1_000, 4_000]) setTimeout(renew, later);
  });
}

// Keeps public files for the page that says "offline"; nothing of a record (sw.js).
navigator.serviceWorker?.register(`/sw.js?language=${document.documentElement.lang}`).catch(() => {});

// A check of several steps goes on by itself; its button is for browsers without script.
document.querySelector("form[data-auto]")?.requestSubmit();
