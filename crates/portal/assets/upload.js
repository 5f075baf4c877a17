// Sends a file with its progress shown. Without this script the same form goes the plain way.

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
    const words = part < 100 ? `Sending: ${part} of 100, ${Math.round(loaded / MB)} of ${Math.round(total / MB)} MB` : "Sent. It is being locked and recorded…";
    if (part === 100 || Math.floor(part / 10) > said) {
      said = Math.floor(part / 10);
      form.querySelector("#sending-words").textContent = words;
    }
  };
};

/** The answer to a form that was refused is the form again, with what is wrong. */
const replace = (text) => {
  const fresh = new DOMParser().parseFromString(text, "text/html");
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
    show(form, `Choose a file of at most ${form.dataset.largest}; this one is larger.`);
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
  sending.addEventListener("error", failed("The connection broke. Nothing was kept. Try again."));
  sending.addEventListener("abort", failed("Stopped. Nothing was kept."));
  sending.open("POST", form.action);
  sending.send(new FormData(form));
  busy(form, true);
});

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-stop]")) sending?.abort();
});
