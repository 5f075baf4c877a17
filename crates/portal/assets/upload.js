// Sends a file with its progress shown. Without this script the same form goes the plain way.

import { text } from "./own/text.js";

const MB = 1024 * 1024;
let sending;

const show = (form, problem) => {
  const place = form.querySelector("#file-script");
  place.textContent = problem;
  place.hidden = !problem;
  if (problem) form.querySelector("#file").focus();
};

const busy = (form, is) => {
  form.querySelector("[data-sending]").hidden = !is;
  for (const part of form.querySelectorAll(".actions > *")) part.hidden = is;
  if (is) form.querySelector("[data-stop]").focus();
};

/** Said aloud at every tenth, not at every piece. */
const progress = (form) => {
  let said = -1;
  return ({ loaded, total }) => {
    const part = Math.floor((100 * loaded) / total);
    form.querySelector("progress").value = part;
    const sent = { part, loaded: Math.round(loaded / MB), total: Math.round(total / MB) };
    const words = part < 100 ? text("Sending: {part} of 100, {loaded} of {total} MB", sent) : text("Sent. It is being locked and recorded…");
    if (part === 100 || Math.floor(part / 10) > said) {
      said = Math.floor(part / 10);
      form.querySelector("#sending-words").textContent = words;
    }
  };
};

/** The answer to a form that was refused is the form again, with what is wrong. */
const replace = (page) => {
  const fresh = new DOMParser().parseFromString(page, "text/html");
  document.title = fresh.title;
  document.querySelector("main").replaceChildren(...fresh.querySelector("main").childNodes);
  document.querySelector("#errors")?.focus();
};

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!("upload" in form.dataset)) return;
  const file = form.querySelector("#file").files[0];
  show(form, "");
  if (!file) return;
  event.preventDefault();
  if (file.size > Number(form.dataset.max)) {
    show(form, text("Choose a file of at most {largest}; this one is larger.", { largest: form.dataset.largest }));
    return;
  }
  sending = new XMLHttpRequest();
  const failed = (words) => () => {
    busy(form, false);
    show(form, words);
  };
  sending.upload.addEventListener("progress", progress(form));
  sending.addEventListener("load", () => {
    const { responseURL, status, responseText } = sending;
    if (status < 400 && responseURL !== form.action) location.assign(responseURL);
    else replace(responseText);
  });
  sending.addEventListener("error", failed(text("The connection broke. Nothing was kept. Try again.")));
  sending.addEventListener("abort", failed(text("Stopped. Nothing was kept.")));
  sending.open("POST", form.action);
  sending.send(new FormData(form));
  busy(form, true);
});

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-stop]")) sending?.abort();
});
