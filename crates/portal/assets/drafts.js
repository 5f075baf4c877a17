// Keeps what is written in a form while it is written, so that signing out, a closed page or a break loses nothing.

import { text } from "./own/text.js";

const PAUSE_MS = 1200;

for (const form of document.querySelectorAll("form[data-draft]")) {
  const said = form.querySelector("[data-draft-said]");
  const content = () => new URLSearchParams(new FormData(form));
  let kept = content().toString();
  let timer;
  let isSent = false;
  const keep = async () => {
    clearTimeout(timer);
    const body = content();
    if (isSent || body.toString() === kept) return;
    const written = body.toString();
    body.append("quiet", "yes");
    try {
      const answer = await fetch("/drafts", { method: "POST", body, keepalive: true });
      if (answer.status === 204) kept = written;
      said.textContent = answer.status === 204 ? text("Draft saved.") : text("The draft is not saved: you may be signed out. Copy what you wrote.");
    } catch {
      said.textContent = text("The draft is not saved: there is no connection.");
    }
  };
  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(keep, PAUSE_MS);
  });
  document.addEventListener("submit", async (event) => {
    const other = event.target;
    if (other === form || other.getAttribute("action") === "/drafts/discard") {
      isSent = true;
      clearTimeout(timer);
    } else if (!isSent && content().toString() !== kept) {
      // Signing out ends what may keep a draft, so the draft goes first.
      event.preventDefault();
      await keep();
      isSent = true;
      other.submit();
    }
  });
  addEventListener("pagehide", keep);
}
