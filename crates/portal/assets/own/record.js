// The record: entries are fetched sealed, opened here, held against the ledger, and shown. The entries recorded last come
// first; the rest follows, and then everything stands by its clinical date. What this browser opened before is kept
// encrypted (local.js), so that a look opens only what is new.

import { Opener, verified } from "./vault.js";
import { account, ask, byId, fail, root, say } from "./page.js";
import { LocalIndex, file, understood } from "./local.js";
import { date, element, icon, moment, saved, shownValue, sortKey, status, tag } from "./show.js";
import { message, plural, text } from "./text.js";

const FIRST = 50;
const MORE = 200;
/** Entries shown at once. */
const PAGE = 50;
/** Lines of a list at the side. */
const GLANCE = 8;
/** Parts that the list of everyday entries leaves out; "Everything" has them. */
const PAPERWORK = ["billing", "administrative", "record-keeping"];
const KINDS = [
  ["results", message("Test results"), ["laboratory", "imaging", "cardiology"]],
  ["vitals", message("Measurements"), ["vital-signs"]],
  ["medicines", message("Medicines"), ["medicines"]],
  ["problems", message("Health problems"), ["problems"]],
  ["allergies", message("Allergies"), ["allergies"]],
  ["vaccines", message("Vaccines"), ["immunizations"]],
  ["visits", message("Visits"), ["encounters"]],
  ["treatments", message("Operations and treatments"), ["procedures"]],
  ["documents", message("Letters and notes"), ["documents"]],
];

/** Opens what the server handed out: the entries, each with its content or with what is wrong with it. */
export const openPage = async (opener, page) =>
  Promise.all(
    page.entries.map(async (entry) => {
      const told = { ...entry, name: page.names[entry.author.toLowerCase()], of: page.patientNumber, log: page.log };
      if (!entry.sealed?.sealed) return { ...told, state: "Large", title: entry.resourceType === "Binary" ? text("A file") : text("A large entry"), when: "" };
      try {
        const content = await opener.open(entry.sealed);
        if (!(await verified(content, entry, page.log))) return { ...told, state: "DoesNotMatch" };
        if (entry.resourceType === "Binary") return { ...file(told), content };
        return { ...understood(told, new TextDecoder("utf-8", { fatal: true }).decode(content)), content };
      } catch {
        // Bytes that were altered, or sealed to other keys, do not open: they are held back like those that do not match.
        return { ...told, state: "DoesNotMatch" };
      }
    }),
  );

export const BADGES = {
  Verified: ["ok", "check", message("Verified")],
  DoesNotMatch: ["bad", "octagon-alert", message("Does not match")],
  Large: ["idle", "cloud-off", message("Not opened yet")],
};

/** The badge under an entry, opening to what was found. */
export const badge = (entry, isOpen, ...inside) => {
  const [kind, picture, words] = BADGES[entry.state];
  const name = element("span", { class: "hide" }, `: ${entry.title ?? text("entry")}`);
  const details = element(
    "details", { class: `verify ${kind}` },
    element("summary", {}, icon(picture), ` ${text(words)}`, name),
    element("div", { class: "flow" }, ...inside),
  );
  details.open = isOpen || entry.state === "DoesNotMatch";
  return details;
};

/** What opening an entry and holding it against the ledger gave, in words. */
const FOUND = {
  Verified: ({ name, at }) =>
    name === "you"
      ? text("This is exactly what you recorded on {moment} UTC. Your browser opened it and held it against the ledger. Nothing has changed since.", { moment: moment(at) })
      : text("This is exactly what {name} recorded on {moment} UTC. Your browser opened it and held it against the ledger. Nothing has changed since.", { name, moment: moment(at) }),
  DoesNotMatch: () => text("What is stored does not open, or is not what was recorded, so we do not show it. Your other entries are not affected. Tell the desk of your hospital or practice the number of this entry."),
  Large: () => text("It is too large to be opened in a list. It is opened and held against the ledger on its own page."),
};

/** Who recorded an entry, after "by". */
export const byName = ({ name }) => (name === "you" ? text("you") : name);

export const found = (entry) => element("p", {}, FOUND[entry.state](entry));

const address = ({ resourceType, id }) => `/record/${resourceType}/${id}`;

const article = (entry, isOpen) => {
  const number = element("span", { class: "mono" }, `${entry.of}REC${entry.number}`);
  const isShown = entry.state === "Verified";
  const heading = entry.state !== "DoesNotMatch" ? element("a", { href: address(entry) }, entry.title) : text("Entry held back");
  const dated = isShown && entry.when ? date(entry.when) : text("Recorded {day}", { day: date(new Date(entry.at).toISOString()) });
  const isOwn = entry.name === "you";
  const what = element(
    "div", { class: "what tight" },
    element("h3", {}, heading),
    element("p", { class: "small soft" }, dated, isOwn ? ". " : `. ${entry.name}. `, number),
    entry.version > 1 ? element("p", { class: "small" }, text("Amended, {version} versions", { version: entry.version })) : "",
  );
  const value = isShown ? shownValue(entry.resource) : "";
  const state = isShown ? status(entry.resource) : undefined;
  const side = element(
    "div", { class: "value-side" },
    value ? element("p", {}, value) : "",
    state ? element("p", {}, tag(state)) : "",
  );
  return element("article", { class: "entry", "data-at": entry.index }, what, side, badge(entry, isOpen, found(entry)));
};

const isCurrent = ({ resource }) => {
  const state = status(resource);
  if (/^Medication(Request|Statement)$/.test(resource.resourceType)) return state === "Active";
  return /^(Condition|AllergyIntolerance)$/.test(resource.resourceType) && !["Resolved", "Inactive", "In remission", "Entered in error"].includes(state);
};

class View {
  entries = [];
  shown = PAGE;

  chosen() {
    const { value: kind } = byId("show");
    const named = byId("find").value.trim().toLowerCase();
    const parts = KINDS.find(([name]) => name === kind)?.[2];
    return this.entries
      .filter((entry) => entry.resourceType !== "Patient")
      .filter(({ category }) => (parts ? parts.includes(category) : kind === "all" || !PAPERWORK.includes(category)))
      .filter((entry) => named === "" || entry.title?.toLowerCase().includes(named))
      .toSorted((one, other) => (sortKey(one) < sortKey(other) ? 1 : -1));
  }

  render() {
    const chosen = this.chosen();
    // What was opened to be read stays open when the list is renewed.
    const read = new Set([...document.querySelectorAll("#timeline details[open]")].map((one) => Number(one.closest("article").dataset.at)));
    const months = new Map();
    for (const entry of chosen.slice(0, this.shown)) {
      const month = sortKey(entry).slice(0, 7);
      if (!months.has(month)) months.set(month, element("section", { class: "month" }, element("h2", {}, date(month))));
      months.get(month).append(article(entry, read.has(entry.index)));
    }
    const none = element("div", { class: "notice" }, element("p", {}, element("strong", {}, text("No entry fits."))));
    byId("timeline").replaceChildren(...(months.size > 0 ? months.values() : [none]));
    byId("older").hidden = chosen.length <= this.shown;
    byId("count").textContent = plural(chosen.length, "1 entry, newest first", "{count} entries, newest first");
  }

  glance() {
    const lists = [
      [text("Allergies"), "allergies", text("No allergy is recorded. That does not mean that you have none.")],
      [text("Medicines now"), "medicines", text("No current medicine is recorded.")],
      [text("Health problems"), "problems", text("No current problem is recorded.")],
    ];
    const sections = lists.map(([heading, part, none]) => {
      const names = new Map();
      for (const entry of this.entries) {
        if (entry.category === part && entry.state === "Verified" && isCurrent(entry)) names.set(entry.title, entry);
      }
      const lines = [...names.values()].slice(0, GLANCE).map((entry) => element("li", {}, element("a", { href: address(entry) }, entry.title)));
      if (names.size > GLANCE) lines.push(element("li", {}, plural(names.size - GLANCE, "1 more in the list", "{count} more in the list")));
      if (names.size === 0) lines.push(element("li", { class: "soft" }, none));
      return element("section", {}, element("h2", {}, heading), element("ul", {}, ...lines));
    });
    byId("glance").replaceChildren(...sections);
  }
}

/** Everything in one file. It is fetched anew, so that its proofs are of now. */
const everything = async (opener) => {
  const { entries, leaves, organization } = await handed(opener, `count=${MORE}`);
  let all = entries;
  for (const part of parts(leaves.slice(entries.length))) {
    say(text("Opened {opened} of {total} entries…", { opened: all.length, total: leaves.length }));
    all = all.concat((await handed(opener, `at=${part}`)).entries);
  }
  say("");
  const { bundle } = await import("./download.js");
  return bundle(all, organization);
};

const offer = (opener, view) => {
  const left = view.entries.filter(({ state, isFile }) => state !== "Verified" || isFile).length;
  const words = left === 0 ? "" : element("p", { class: "small soft" }, plural(left, "1 entry is not in it: files, large ones, and what is held back. They are on their own pages.", "{count} entries are not in it: files, large ones, and what is held back. They are on their own pages."));
  const check = element("p", { class: "small soft" }, `${text("Check it on any machine:")} `, element("span", { class: "mono" }, "stele verify proof FILE --genesis genesis.json"));
  byId("everything").replaceChildren(saved(text("Download everything"), "health-record.fhir.json", () => everything(opener)), check, words);
};

/** What the node hands out to a question, opened. */
const handed = async (opener, question) => {
  const page = await ask(`/keys/records?${question}`);
  return { ...page, entries: await openPage(opener, page) };
};

/** Places of the log, as many at a time as the node hands out at once. */
const parts = (places) => Array.from({ length: Math.ceil(places.length / MORE) }, (_, at) => places.slice(at * MORE, (at + 1) * MORE));

/** Every entry, the last recorded first; `show` is called with what is there so far. */
export const look = async (opener, local, show) => {
  const known = await local.places();
  // The node answers before anything that is kept here is shown: by then its receipt of this look is durable.
  const [page, newest] = await Promise.all([
    handed(opener, known.length > 0 ? `above=${known.at(-1)}&count=${FIRST}` : `count=${FIRST}`),
    known.length > 0 ? local.read(known.at(-FIRST) ?? known[0], known.at(-1)) : [],
  ]);
  const { leaves, patientNumber } = page;
  const current = new Set(leaves);
  const found = new Map();
  const add = (entries) => {
    for (const entry of entries) if (current.has(entry.index)) found.set(entry.index, { ...entry, of: patientNumber });
    show([...found.values()], page);
  };
  add([...page.entries, ...newest]);
  if (known.length > FIRST) add(await local.read(known[0], known.at(-FIRST - 1)));
  await local.keep(page.entries);
  for (const part of parts(leaves.filter((leaf) => !found.has(leaf)))) {
    const { entries } = await handed(opener, `at=${part}`);
    add(entries);
    await local.keep(entries);
  }
  await local.drop(known.filter((place) => !current.has(place)));
  return [...found.values()];
};

const places = (entries) => entries.map(({ index }) => index).toSorted().join();

export const run = async () => {
  const keys = await root();
  const opener = new Opener(keys);
  const local = await LocalIndex.of(keys, account);
  const view = new View();
  for (const [name, words] of KINDS) byId("show").append(element("option", { value: name }, text(words)));
  /** Whether anything was new. */
  const load = async () => {
    const before = places(view.entries);
    // A look again keeps what is shown until it has everything.
    const isFirst = view.entries.length === 0;
    view.entries = await look(opener, local, (entries, { leaves }) => {
      if (!isFirst) return;
      view.entries = entries;
      view.render();
      say(text("Opened {opened} of {total} entries…", { opened: entries.length, total: leaves.length }));
      byId("filters").hidden = false;
    });
    say("");
    view.render();
    view.glance();
    offer(opener, view);
    return places(view.entries) !== before;
  };
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("filters").addEventListener("input", () => {
    view.shown = PAGE;
    view.render();
  });
  byId("older").addEventListener("click", () => {
    view.shown += PAGE;
    view.render();
  });
  await load();
  follow(load);
};

/** Looks again when the ledger says that something about this person changed. */
const follow = (load) => {
  let loading = false;
  let again = false;
  new EventSource("/events").addEventListener("changed", async () => {
    again = loading;
    if (loading) return;
    loading = true;
    try {
      // What a block brought is found a moment after the block is final, and later where much is going on.
      for (const later of [0, 1_000, 4_000]) {
        await new Promise((done) => setTimeout(done, later));
        if ((await load()) && !again) break;
        again = false;
      }
      byId("said").textContent = text("This page has been brought up to date.");
    } catch (error) {
      fail(error);
    } finally {
      loading = false;
    }
  });
};
