// A result over time, as an accessible chart: x in per cent and y in pixels, so that text keeps its size at every width. As
// `views/entry/trend.rs` draws it. It needs the other results: those that this browser kept, and what was recorded since.

import { account } from "./page.js";
import { LocalIndex } from "./local.js";
import { look } from "./record.js";
import { date, element, quantity, sortKey, status } from "./show.js";
import { decimal, plural, text } from "./text.js";

/** Height of the plot in pixels, and where it begins. */
const TOP = 40;
const BOTTOM = 210;
/** Where the first and the last result stand, in per cent. */
const LEFT = 7;
const RIGHT = 93;
/** Most results in a chart: more would not be told apart. */
const POINTS_MAX = 12;

/** The chart of an entry's results with the same name and unit, if there are at least two. */
export const trend = async (opener, entry) => {
  const own = quantity(entry.resource);
  const local = await LocalIndex.of(opener.root, account);
  // Before a first look at the whole record there is nothing to compare with.
  if ((await local.places()).length === 0) return "";
  const code = JSON.stringify(entry.resource.code);
  const points = (await look(opener, local, () => {}))
    .filter((one) => one.state === "Verified" && JSON.stringify(one.resource.code) === code && status(one.resource) !== "Entered in error")
    .map((one) => ({ at: sortKey(one), ...quantity(one.resource) }))
    .filter(({ unit }) => unit === own.unit)
    .toSorted((one, other) => (one.at < other.at ? 1 : -1))
    .slice(0, POINTS_MAX)
    .reverse();
  return points.length < 2 ? "" : draw(entry.title, own.unit, points, range(entry.resource));
};

/** The usual range that came with the result. */
const range = ({ referenceRange }) => {
  const [low, high] = ["low", "high"].map((end) => Number(referenceRange?.[0]?.[end]?.value ?? Number.NaN));
  return low < high ? [low, high] : undefined;
};

const percent = (number) => `${number.toFixed(1)}%`;

const SVG = "http://www.w3.org/2000/svg";

const drawn = (name, attributes, ...children) => {
  const made = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.append(...children);
  return made;
};

const draw = (title, unit, points, usual) => {
  const numbers = points.map(({ written }) => Number(written));
  const low = Math.min(...numbers, ...(usual ?? []));
  const high = Math.max(...numbers, ...(usual ?? []));
  const span = high > low ? high - low : 1;
  const y = (number) => Math.round(BOTTOM - ((number - low) / span) * (BOTTOM - TOP));
  const last = points.length - 1;
  const step = (RIGHT - LEFT) / last;
  const x = (at) => percent(LEFT + step * at);
  const isNamed = (at) => at === 0 || at === last || (at === Math.floor(last / 2) && last > 3);
  const line = (kind, from, to) => drawn("line", { class: kind, x1: from[0], y1: from[1], x2: to[0], y2: to[1] });
  const band = usual
    ? [
        drawn("rect", { class: "band", x: "0", y: y(usual[1]), width: "100%", height: y(usual[0]) - y(usual[1]) }),
        line("limit", ["0", y(usual[1])], ["100%", y(usual[1])]),
        line("limit", ["0", y(usual[0])], ["100%", y(usual[0])]),
      ]
    : [];
  const marks = numbers.flatMap((number, at) => [
    drawn("circle", { class: "dot", cx: x(at), cy: y(number), r: at === last ? 7 : 5 }),
    ...(isNamed(at) || points.length < 7 ? [drawn("text", { class: "strong", x: x(at), y: y(number), dy: "-14", "text-anchor": "middle" }, decimal(points[at].written))] : []),
    ...(isNamed(at) ? [drawn("text", { x: x(at), y: "258", "text-anchor": "middle" }, month(points[at].at))] : []),
  ]);
  const chart = drawn(
    "svg", { class: "trend", role: "img", "aria-labelledby": "trend-t trend-d" },
    drawn("title", { id: "trend-t" }, text("{title} over time", { title })),
    drawn("desc", { id: "trend-d" }, plural(points.length, "1 result.", "{count} results. The same numbers are in the table below.")),
    ...band,
    line("axis", ["0", "236"], ["100%", "236"]),
    ...numbers.slice(1).map((number, at) => line("line", [x(at), y(numbers[at])], [x(at + 1), y(number)])),
    ...marks,
  );
  const rows = points.toReversed().map(({ at, written }) => element("tr", {}, element("td", {}, date(at)), element("td", {}, `${decimal(written)} ${text(unit)}`)));
  const column = (words) => element("th", { scope: "col" }, words);
  const table = element(
    "table", {},
    element("caption", { class: "hide" }, text("{title}, all results in the chart", { title })),
    element("thead", {}, element("tr", {}, column(text("Date")), column(text("Result")))),
    element("tbody", {}, ...rows),
  );
  return element(
    "section", { class: "flow" },
    element("h2", {}, text("Over time")),
    element("figure", {}, chart),
    element("details", {}, element("summary", {}, text("Show the numbers as a table")), table),
  );
};

/** `Mar 2026`. */
const month = (at) => {
  const [name, year] = date(at.slice(0, 7)).split(" ");
  return year ? `${name.slice(0, 3)} ${year}` : name;
};
