// What scripts say, in the language of the page. The English sentence is the key; the catalogue of another language is
// one file, whose address stands in the page.

let messages = {};
const root = globalThis.document?.documentElement;
const address = root?.dataset.texts;

/** The language of the page: `en`. */
export const language = root?.lang || "en";

/** Done once the catalogue is there; without it pages speak English. */
export const ready = address
  ? fetch(address)
      .then((answer) => answer.json())
      .then((found) => {
        messages = found;
      })
      .catch(() => {})
  : Promise.resolve();

const filled = (words, values) => words.replaceAll(/\{(\w+)\}/g, (all, name) => values[name] ?? all);

/** A message, with `{name}` in it taken from `values`. */
export const text = (words, values = {}) => filled(messages[words] ?? words, values);

const rules = new Intl.PluralRules(language);

/** Marks words of a table as a message; who shows them asks `text` for them. */
export const message = (words) => words;

/** As `text`, in the form that fits `count`. */
export const plural = (count, one, other, values = {}) => {
  const [single, many] = messages[one] ?? [one, other];
  return filled(rules.select(count) === "one" ? single : many, { ...values, count });
};

/** A number as it was typed, with a point for the language's mark. */
export const plainNumber = (typed) => (mark() === "," ? typed.replace(",", ".") : typed);

const mark = () => new Intl.NumberFormat(language).format(1.5).charAt(1);

/** A decimal number as the language writes it; anything else as it is. */
export const decimal = (number) => {
  return /^[<>=-]*\d+\.\d+$/.test(number) ? String(number).replace(".", mark()) : number;
};
