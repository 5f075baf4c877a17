// Adding an entry: what is typed is checked, made into a resource and sealed here; the node gets ciphertext.

import { account, byId, fail, root, say } from "./page.js";
import { element } from "./show.js";
import { plainNumber, text } from "./text.js";

const MB = 1024 * 1024;

/** What is filled in; buttons are no fields. */
const fields = (form) => [...form.elements].filter(({ name }) => name);

/** What is wrong with a field, in the words that stand in the page. */
const problemOf = (input, values) => {
  const { from, to, late, below } = input.dataset;
  const problem = input.dataset.problem ?? input.form.dataset[input.name];
  const value = values[input.name];
  if (from !== undefined) {
    const number = /^(\d+\.?\d*|\.\d+)$/.test(value) ? Number(value) : Number.NaN;
    if (!(number >= Number(from) && number <= Number(to))) return problem;
    return below && number >= Number(values[below]) ? input.dataset.above : undefined;
  }
  if (input.type === "date") {
    if (!/^(19|[2-9]\d)\d\d-\d\d-\d\d$/.test(value)) return problem;
    return value > input.max ? late : undefined;
  }
  if (input.type === "file") {
    const [file] = input.files;
    if (!file) return problem;
    return file.size > Number(input.dataset.max) ? input.dataset.large : undefined;
  }
  if ([...value].length > Number(input.dataset.most ?? Infinity)) return input.dataset.long;
  return problem !== undefined && value === "" ? problem : undefined;
};

/** Says at each field what is wrong with it, and on top all of it. */
const tell = (form, problems) => {
  byId("errors")?.remove();
  for (const old of form.querySelectorAll("p.error[data-told]")) old.remove();
  for (const input of fields(form)) {
    const words = problems.get(input);
    input.closest(".field")?.classList.toggle("invalid", words !== undefined);
    if (words === undefined) {
      input.removeAttribute("aria-invalid");
      continue;
    }
    input.setAttribute("aria-invalid", "true");
    const name = `${input.id}-e`;
    if (!input.getAttribute("aria-describedby")?.includes(name)) {
      input.setAttribute("aria-describedby", `${input.getAttribute("aria-describedby") ?? ""} ${name}`.trim());
    }
    input.before(element("p", { class: "error", id: name, "data-told": "" }, element("span", { class: "hide" }, `${text("Error:")} `), words));
  }
  if (problems.size === 0) return;
  const list = [...problems].map(([input, words]) => element("li", {}, element("a", { href: `#${input.id}` }, words)));
  const all = element("div", { class: "errors flow", id: "errors", role: "alert", tabindex: "-1" }, element("h2", {}, text("There is a problem")), element("ul", {}, ...list));
  form.before(all);
  all.focus();
};

const typed = (form) => {
  const values = {};
  for (const input of fields(form)) {
    if (input.type === "file") continue;
    values[input.name] = input.inputMode === "decimal" ? plainNumber(input.value.trim()) : input.value.trim();
  }
  return values;
};

export const run = async () => {
  const form = document.querySelector("form[data-seal]");
  const button = form.querySelector("button.primary");
  const keys = await root();
  say("");
  button.disabled = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const values = typed(form);
    const problems = new Map();
    for (const input of fields(form)) {
      const words = problemOf(input, values);
      if (words) problems.set(input, words);
    }
    tell(form, problems);
    if (problems.size > 0) return;
    button.disabled = true;
    byId("problem").hidden = true;
    try {
      const isFile = form.dataset.seal === "file";
      const { recorded } = await (isFile ? addFile(keys, form, values) : addEntry(keys, form.dataset.seal, values));
      location.assign(isFile ? `/record/${recorded[0]}` : "/record");
    } catch (error) {
      fail(error);
      button.disabled = false;
    }
  });
};

/** What is needed once there is something to seal. */
const tools = async () => {
  const all = await Promise.all([import("./made.js"), import("./seal.js"), import("./sign.js")]);
  return Object.assign({}, ...all);
};

const addEntry = async (keys, name, values) => {
  const { KINDS, Places, record, sealResource } = await tools();
  const { category, resource } = KINDS[name];
  say(text("Locking the entry…"));
  return record([{ resourceType: "Observation", category }], async ({ author, subject, records: [room] }) => {
    const places = new Places(keys, account);
    return [await sealResource(places, author, room, resource({ reference: subject }, clean(values)))];
  });
};

/** Numbers as JSON writes them: no zeros in front, digits on both sides of the point. */
const clean = (values) =>
  Object.fromEntries(
    Object.entries(values).map(([name, value]) => [name, name === "note" || name === "when" ? value : value.replace(/^0+(?=\d)/, "").replace(/^\./, "0.").replace(/\.$/, "")]),
  );

const addFile = async (keys, form, values) => {
  const { Places, fileEntry, record, sealFile, sealResource } = await tools();
  const [file] = form.querySelector("input[type=file]").files;
  const bar = form.querySelector("progress");
  const part = (from, to) => (done, total) => {
    bar.value = from + ((to - from) * done) / total;
  };
  form.querySelector("[data-sending]").hidden = false;
  const wanted = [{ resourceType: "DocumentReference", category: "documents" }, { resourceType: "Binary", category: "documents" }];
  const seal = async ({ author, subject, records: [entry, content] }) => {
    const places = new Places(keys, account);
    const locking = part(0, 50);
    const said = (done, total) => {
      locking(done, total);
      say(text("Locking the file: {done} of {total} MB", { done: Math.round(done / MB), total: Math.round(total / MB) }));
    };
    const sealed = await sealFile(places, author, content, file, subject, said);
    return [await sealResource(places, author, entry, fileEntry({ reference: subject }, values, entry, content, file)), sealed];
  };
  const sending = part(50, 100);
  return record(wanted, seal, (done, total) => {
    sending(done, total);
    say(text("Sending: {done} of {total} MB", { done: Math.round(done / MB), total: Math.round(total / MB) }));
  });
};
