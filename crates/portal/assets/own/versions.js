// Earlier versions of an entry, each beside the one after it: what changed, in the words of the resource. As
// the pages of patients whose organisation keeps the keys show them (`views/entry.rs`).

import { ask } from "./page.js";
import { byName, openPage } from "./record.js";
import { element, lines, moment } from "./show.js";
import { plural, text } from "./text.js";

/** Most versions that a page lists. */
const VERSIONS_MAX = 20;
/** Elements that every version changes. */
const ALWAYS = ["id", "meta › versionId", "meta › lastUpdated"];

/** Elements that differ: name, before, after. */
export const differences = (before, now) => {
  const [old, fresh] = [before, now].map((one) => new Map(lines(one).filter(([name]) => !ALWAYS.includes(name))));
  const changed = [...fresh].filter(([name, words]) => old.get(name) !== words).map(([name, words]) => [name, old.get(name), words]);
  const removed = [...old].filter(([name]) => !fresh.has(name)).map(([name, words]) => [name, words, undefined]);
  return [...changed, ...removed];
};

/** The section of earlier versions, fetched, opened and held against the ledger one by one. */
export const versions = async (opener, entry) => {
  const all = [entry];
  for (let version = entry.version - 1; version > 0 && all.length < VERSIONS_MAX; version -= 1) {
    const [earlier] = await openPage(opener, await ask(`/keys/records/${entry.resourceType}/${entry.id}?version=${version}`));
    all.push(earlier);
  }
  const sections = all.slice(1).flatMap((before, at) => compared(before, all[at]));
  return element("section", { class: "flow" }, element("h2", {}, plural(all.length, "1 version", "{count} versions")), ...sections);
};

const compared = (before, now) => {
  const heading = element("h3", {}, text("Version {version}, {moment} UTC, by {author}", { version: now.version, moment: moment(now.at), author: byName(now) }));
  if (before.state !== "Verified") return [heading, element("p", { class: "error" }, text("Version {version} does not open, or is not what was recorded.", { version: before.version }))];
  const cell = (label, kind, words, none) =>
    element("td", { role: "cell", "data-label": label }, words === undefined ? element("span", { class: "soft" }, none) : element(kind, {}, words));
  const rows = differences(before.resource, now.resource).map(([name, old, fresh]) =>
    element(
      "tr", { role: "row" },
      element("th", { role: "rowheader", scope: "row" }, name),
      cell(text("Before"), "del", old, text("Not given")),
      cell(text("After"), "ins", fresh, text("Removed")),
    ),
  );
  const column = (words) => element("th", { role: "columnheader", scope: "col" }, words);
  const head = element("tr", { role: "row" }, column(text("What")), ...[before, now].map(({ version }) => column(text("Version {version}", { version }))));
  const caption = element("caption", { class: "hide" }, text("What changed from version {before} to version {after}", { before: before.version, after: now.version }));
  return [heading, element("table", { class: "stacks", role: "table" }, caption, element("thead", { role: "rowgroup" }, head), element("tbody", { role: "rowgroup" }, ...rows))];
};
