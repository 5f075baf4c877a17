// Resources in plain words, as `stele_fhir::words` and the portal's own pages put them. Numbers are shown as they were
// written; everything is set as text, never as markup.

import { fail } from "./page.js";
import { decimal, message, text } from "./text.js";

/** A number with the digits it was written with. */
class Written {
  constructor(source) {
    this.source = source;
  }

  toString() {
    return this.source;
  }
}

/** JSON that keeps numbers as they were written, where the browser tells (ECMAScript's JSON.parse source text access). */
export const parse = (text) =>
  JSON.parse(text, (_, value, context) => (typeof value === "number" ? new Written(context?.source ?? String(value)) : value));

const CODED = ["code", "medicationCodeableConcept", "medicationReference", "vaccineCode", "type", "serviceType", "class", "category", "description"];
const TAGS = / \((disorder|finding|procedure|situation|regime\/therapy|physical object|qualifier value|person|observable entity|substance|product|morphologic abnormality|event|assessment scale)\)$/;
const UNITS = { "mm[Hg]": "mmHg", Cel: "°C", "10*3/uL": "×10³/µL", "10*6/uL": "×10⁶/µL", "{score}": "", "/min": message("per minute"), "m[IU]/L": "mIU/L", "{nominal}": "" };
const MONTHS = [
  message("January"), message("February"), message("March"), message("April"),
  message("May"), message("June"), message("July"), message("August"),
  message("September"), message("October"), message("November"), message("December"),
];

const isText = (value) => typeof value === "string" && value !== "";

const concept = (value) => {
  const one = Array.isArray(value) ? value[0] : value;
  return [one?.text, one?.coding?.[0]?.display, one?.coding?.[0]?.code, one?.display, one?.concept?.text].find(isText);
};

export const fullName = (person) => {
  const name = person.name?.[0] ?? {};
  if (isText(name.text)) return name.text;
  return [...(name.given ?? []), name.family].filter(isText).join(" ") || text("Name not known");
};

const spaced = (type) => type.replace(/(?!^)[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);

export const title = (resource) => {
  if (["Patient", "Practitioner", "Person"].includes(resource.resourceType) && resource.name) return fullName(resource);
  if (isText(resource.name)) return resource.name;
  const found = CODED.map((member) => resource[member]).map((member) => (isText(member) ? member : concept(member))).find(isText);
  return (found ?? spaced(resource.resourceType)).replace(TAGS, "");
};

const oneValue = (part) => {
  const quantity = part.valueQuantity;
  if (quantity?.value !== undefined) {
    const unit = UNITS[quantity.unit] ?? quantity.unit ?? "";
    return `${quantity.comparator ?? ""}${decimal(String(quantity.value))} ${text(unit)}`.trim();
  }
  const coded = concept(part.valueCodeableConcept);
  if (coded) return coded.replace(TAGS, "");
  const written = [part.valueString, part.valueDateTime, part.valueTime].find(isText);
  if (written) return written;
  if (typeof part.valueBoolean === "boolean") return part.valueBoolean ? text("yes") : text("no");
  return part.valueInteger?.toString();
};

export const shownValue = (resource) => {
  const whole = oneValue(resource);
  if (whole) return whole;
  const of = (code) => resource.component?.find((part) => part.code?.coding?.some((one) => one.code === code))?.valueQuantity?.value;
  // LOINC: systolic and diastolic blood pressure.
  if (of("8480-6") && of("8462-4")) return `${of("8480-6")}/${of("8462-4")} mmHg`;
  const parts = (resource.component ?? []).map((part) => [concept(part.code), oneValue(part)]).filter((pair) => pair.every(isText));
  if (parts.length > 0) return parts.map((pair) => pair.join(" ")).join("; ");
  return [resource.dosageInstruction?.[0]?.text, resource.resourceType === "DocumentReference" ? resource.description : resource.conclusion].find(isText) ?? "";
};

export const when = (resource) =>
  [
    resource.effectiveDateTime, resource.effectivePeriod?.start, resource.occurrenceDateTime, resource.performedDateTime,
    resource.performedPeriod?.start, resource.onsetDateTime, resource.period?.start, resource.billablePeriod?.start,
    resource.authoredOn, resource.recordedDate, resource.started, resource.issued, resource.date, resource.created, resource.recorded,
  ].find(isText) ?? "";

const CLINICAL = { active: message("Active"), resolved: message("Resolved"), inactive: message("Inactive"), remission: message("In remission") };
const STATUS = { active: message("Active"), completed: message("Completed"), stopped: message("Stopped"), amended: message("Amended"), corrected: message("Amended"), preliminary: message("Preliminary"), cancelled: message("Cancelled") };

export const status = (resource) => {
  const code = (member) => resource[member]?.coding?.[0]?.code;
  if (code("verificationStatus") === "entered-in-error" || resource.status === "entered-in-error") return message("Entered in error");
  return CLINICAL[code("clinicalStatus")] ?? (isText(resource.status) ? STATUS[resource.status] : undefined);
};

/** `2026-03-01T10:11` as "1 March 2026"; a month or year alone stays one. */
export const date = (written) => {
  if (!written) return text("not known");
  const [year, month, day] = written.split(/[-T]/);
  const name = MONTHS[Number(month) - 1];
  if (name && /^\d\d$/.test(day ?? "")) {
    return text("{day} {month} {year}", { day: Number(day), month: text(name), year });
  }
  return name ? text("{month} {year}", { month: text(name), year }) : year;
};

/** What lists are sorted by: the clinical date, else that of the recording. */
export const sortKey = (entry) => entry.when || new Date(entry.at).toISOString();

/** A result's number, as it was written, and its unit; nothing where it has none. */
export const quantity = ({ valueQuantity: found }) =>
  found?.value === undefined || found.comparator ? undefined : { written: String(found.value), unit: UNITS[found.unit] ?? found.unit ?? "" };

/** `1 March 2026, 14:02`, in UTC as everything on the ledger. */
export const moment = (ms) => {
  const instant = new Date(ms).toISOString();
  return text("{day}, {clock}", { day: date(instant), clock: text("{clock}", { clock: instant.slice(11, 16) }) });
};

/** An element with attributes and children; text is set as text. */
export const element = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) if (value !== undefined) made.setAttribute(attribute, value);
  made.append(...children.filter((child) => child !== undefined && child !== ""));
  return made;
};

const SVG = "http://www.w3.org/2000/svg";

/** A picture of the sprite. */
export const icon = (name) => {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `${document.querySelector("#own").dataset.icons}#${name}`);
  svg.append(use);
  return svg;
};

const LOOKS = { Active: ["ok", "circle-check"], "Entered in error": ["", "x"], Preliminary: ["wait", "hourglass"], Amended: ["", "pencil"], Stopped: ["", "circle-minus"], Cancelled: ["", "circle-minus"] };

export const tag = (words) => {
  const [kind, picture] = LOOKS[words] ?? ["", "check"];
  return element("span", { class: `tag ${kind}` }, icon(picture), ` ${text(words)}`);
};

/** A button that saves what exists in this browser alone: text, bytes, or a function that makes them in time. */
export const saved = (words, name, made) => {
  const button = element("button", { type: "button", class: "btn" }, icon("download"), ` ${words}`);
  const save = async () => {
    const content = typeof made === "function" ? await made() : made;
    const type = typeof content === "string" ? "application/json" : "application/octet-stream";
    const href = URL.createObjectURL(new Blob([content], { type }));
    element("a", { href, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(href), 60_000);
  };
  button.addEventListener("click", async () => {
    button.disabled = true;
    await save().catch(fail);
    button.disabled = false;
  });
  return button;
};

/** Every value of a resource with the way to it. */
export const lines = (value, way = []) => {
  if (Array.isArray(value)) return value.flatMap((one, at) => lines(one, value.length > 1 ? [...way, at + 1] : way));
  if (value && typeof value === "object" && value.constructor === Object) {
    return Object.entries(value).flatMap(([name, one]) => (name === "div" ? [] : lines(one, [...way, name])));
  }
  return [[way.join(" › "), String(value)]];
};
