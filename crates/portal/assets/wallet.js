// Wallets of this browser (EIP-1193), found as EIP-6963 has it. Where there is none, nothing of them is shown.

import { ready, text } from "./own/text.js";

const hex = (words) => `0x${Array.from(new TextEncoder().encode(words), (byte) => byte.toString(16).padStart(2, "0")).join("")}`;

/** Why a wallet gave nothing, in words. */
const reason = (error) => {
  if (error.code === 4001) return text("Your wallet did not confirm. Nothing was changed. You can try again.");
  if (error.code === -32002) return text("Your wallet is already asking you something. Open it, answer there, then try again.");
  if (error.foreign) return text("This wallet is not one of your account. Choose another one in it, or add it under “Account”.");
  if (error.stale) return text("This page was open for too long. Load it again.");
  return text("Your wallet could not do this. Try again, or use your passkey.");
};

/** Brings a wallet to the ledger that something is signed for; one that does not know it is offered it (EIP-3085). */
const onLedger = async (provider, chainId) => {
  const id = `0x${BigInt(chainId).toString(16)}`;
  if ((await provider.request({ method: "eth_chainId" })) === id) return;
  try {
    await provider.request({ method: "wallet_switchEthereumChain", params: [{ chainId: id }] });
  } catch (error) {
    // Wallets say so in one of two ways that they do not know it.
    if (error.code !== 4902 && error.data?.originalError?.code !== 4902) throw error;
    const { wallet } = await (await fetch("/.well-known/stele.json")).json();
    await provider.request({ method: "wallet_addEthereumChain", params: [wallet] });
  }
};

/** A text is signed as it is (EIP-191), typed data field by field (EIP-712). */
const signed = async (provider, wallet, answer) => {
  const message = await answer.text();
  if (!answer.headers.get("content-type").startsWith("application/json")) {
    return provider.request({ method: "personal_sign", params: [hex(message), wallet] });
  }
  await onLedger(provider, JSON.parse(message).domain.chainId);
  return provider.request({ method: "eth_signTypedData_v4", params: [wallet, message] });
};

/** Has the wallet sign what the site made for this session and account, and sends the form. */
const sign = async (form, provider) => {
  const [wallet] = await provider.request({ method: "eth_requestAccounts" });
  const body = new URLSearchParams({ csrf: form.elements.csrf.value, wallet });
  const answer = await fetch(form.dataset.message, { method: "POST", body });
  if (answer.status === 403) throw Object.assign(new Error("another wallet"), { foreign: true });
  if (!answer.ok || answer.redirected) throw Object.assign(new Error("no message"), { stale: true });
  form.elements.signature.value = await signed(provider, wallet, answer);
  form.submit();
};

const offer = (section, { info, provider }) => {
  const form = section.querySelector("[data-message]");
  const problem = form.querySelector("[data-problem]");
  const button = document.createElement("button");
  Object.assign(button, { type: "button", className: "btn", textContent: text("{verb} {wallet}", { verb: form.dataset.verb, wallet: String(info.name).slice(0, 60) }) });
  button.addEventListener("click", async () => {
    problem.hidden = true;
    button.disabled = true;
    try {
      await sign(form, provider);
    } catch (error) {
      problem.textContent = reason(error);
      problem.hidden = false;
      button.disabled = false;
      button.focus();
    }
  });
  form.querySelector("[data-choices]").append(button);
  section.hidden = false;
};

const known = new Set();
addEventListener("eip6963:announceProvider", ({ detail }) => {
  if (!detail?.provider || !detail.info?.uuid || known.has(detail.info.uuid)) return;
  known.add(detail.info.uuid);
  for (const section of document.querySelectorAll("[data-wallets]")) offer(section, detail);
});
ready.then(() => dispatchEvent(new Event("eip6963:requestProvider")));
