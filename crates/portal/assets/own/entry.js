// One entry: what it says, whether it is what was recorded, and a proof file to check that elsewhere, put together here
// since only the browser has the content.

import { base64, hex, unbase64 } from "./bytes.js";
import { ask, byId, root, say } from "./page.js";
import { badge, byName, found, openPage } from "./record.js";
import { date, element, lines, quantity, saved, shownValue, status, tag } from "./show.js";
import { text } from "./text.js";
import { Opener } from "./vault.js";

/** Most lines of "Details". */
const LINES_MAX = 200;

export const run = async () => {
  const place = byId("entry");
  const { type, id } = place.dataset;
  const opener = new Opener(await root());
  const page = await ask(`/keys/records/${type}/${id}`);
  const [entry] = await openPage(opener, page);
  say("");
  const parts = { Verified: () => shown(entry, page, opener), Large: () => large(entry, opener), DoesNotMatch: () => heldBack(entry) };
  place.replaceChildren(...parts[entry.state]());
  if (entry.state !== "Verified" || entry.isFile) return;
  // What takes more questions follows, with its scripts.
  if (entry.version > 1) {
    const { versions } = await import("./versions.js");
    byId("versions").replaceChildren(await versions(opener, entry));
  }
  if (quantity(entry.resource)) {
    const { trend } = await import("./trend.js");
    byId("trend").replaceChildren(await trend(opener, entry));
  }
};

const openFile = async (opener, id) => (await import("./file.js")).openFile(opener, id);
const fileOf = async (opener, attachment) => (await import("./file.js")).fileOf(opener, attachment);

/** The attachment of an entry whose file is here. */
const attachmentOf = ({ content, presentedForm }) => {
  const attachment = content?.[0]?.attachment ?? presentedForm?.[0];
  return attachment?.data || attachment?.url?.startsWith("Binary/") ? attachment : undefined;
};

/** A file that is opened when it is wanted. */
const large = (entry, opener) => [
  element("h1", {}, entry.title),
  element("p", { class: "soft" }, text("Recorded {day}", { day: date(new Date(entry.at).toISOString()) }), ". ", element("span", { class: "mono" }, `${entry.of}REC${entry.number}`)),
  element("div", { class: "actions" }, saved(text("Download the file"), entry.id, () => openFile(opener, entry.id))),
];

const heldBack = (entry) => [element("h1", {}, text("Entry held back")), badge(entry, true, found(entry))];

const shown = (entry, page, opener) => {
  const attachment = attachmentOf(entry.resource);
  const value = shownValue(entry.resource);
  const state = status(entry.resource);
  const proof = JSON.stringify(proofFile(entry, page));
  return [
    element("h1", {}, entry.title),
    element("p", { class: "soft" }, `${entry.when ? date(entry.when) : text("Date not known")}. ${text("Recorded by {name}", { name: byName(entry) })}. `, element("span", { class: "mono" }, `${entry.of}REC${entry.number}`)),
    value ? element("p", { class: "stat" }, value) : "",
    state ? element("p", {}, tag(state)) : "",
    badge(entry, true, found(entry), saved(text("Download the proof file"), `${entry.id}.proof.json`, proof), check()),
    element("div", { id: "trend" }),
    element("div", { id: "versions" }),
    element("h2", {}, text("Details")),
    element("dl", { class: "facts" }, ...lines(entry.resource).slice(0, LINES_MAX).flatMap(([name, words]) => [element("dt", {}, name), element("dd", {}, words)])),
    element("div", { class: "actions" }, 
      attachment ? saved(text("Download the file"), attachment.title ?? entry.id, () => fileOf(opener, attachment)) : "",
      entry.isFile ? saved(text("Download the file"), entry.id, () => openFile(opener, entry.id)) : saved(text("Download as FHIR"), `${entry.id}.json`, entry.text)),
  ].filter(Boolean);
};

const check = () =>
  element("p", { class: "small soft" }, `${text("Check it yourself, on any machine, without this server:")} `, element("span", { class: "mono" }, "stele verify proof FILE --genesis genesis.json"));

/** The proof of an entry with its whole content, as `stele_core::proof` reads it. */
export const proofFile = (entry, { organization, log }) => ({
  format: "stele-proof/1",
  organization,
  resourceType: entry.resourceType,
  id: entry.id,
  disclosure: { kind: "whole", content: base64(entry.content), elementSalt: `0x${hex(unbase64(entry.sealed.elementSalt))}` },
  leaf: entry.leaf,
  leafSalt: entry.leafSalt,
  log,
  path: entry.path,
  index: entry.index,
});
