// The portal in its second language, in a real Chromium: people whose browser asks for German, or who choose it, read
// German and nothing else. What is English on a page is found by the catalogue itself.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { invitation, patients, sound, visitor, world } from "./browser.mjs";

const DEADLINE = { timeout: 240_000 };
const FOLDER = join(import.meta.dirname, "../../crates/portal/src/text/de");
/** What a record or the directory says is data, in the language that it was written in. */
const DATA = "article .what, article .value-side, aside li a, .stat, .facts dd, .mono, tbody, .answers dd, .org, .me .name, [lang]:not(html)";

/** English of every message that is another one in German: what no text of a page may be. */
const english = (() => {
  const whole = new Set();
  const patterns = [];
  // A word may be one of both languages: the auditors' ledger is "Register".
  const german = new Set();
  for (const file of readdirSync(FOLDER)) {
    const text = readFileSync(join(FOLDER, file), "utf8");
    for (const [, id, translated] of text.matchAll(/^msgid "(.+)"\n(?:msgid_plural .*\n)?msgstr(?:\[0\])? "(.*)"$/gm)) {
      german.add(translated);
      if (id === translated) continue;
      const words = id.replaceAll('\\"', '"');
      if (!words.includes("{")) whole.add(words);
      else if (words.replace(/\{\w+\}/g, "").length > 12) {
        patterns.push(new RegExp(`^${words.split(/\{\w+\}/).map(RegExp.escape ?? ((part) => part.replace(/[.*+?^$(){}|[\]\\]/g, "\\$&"))).join(".*")}$`));
      }
    }
  }
  for (const word of german) whole.delete(word);
  assert.ok(whole.size > 500 && patterns.length > 50, "the catalogue was read");
  return { whole, patterns };
})();

/** Texts of a page that are English messages: texts, labels for those who hear the page, hints in fields. */
async function left({ page }) {
  const texts = await page.evaluate((data) => {
    const found = [document.title.replace(/ – Stele$/, "")];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const { parentElement, textContent } = walker.currentNode;
      if (!parentElement.closest(`script, noscript, style, ${data}`)) found.push(textContent);
    }
    for (const name of ["aria-label", "title", "placeholder", "alt", "data-label"]) {
      for (const element of document.querySelectorAll(`[${name}]`)) found.push(element.getAttribute(name));
    }
    for (const element of document.querySelectorAll("p, h1, h2, li, button, label, legend, summary")) {
      if (!element.closest(data)) found.push(element.textContent);
    }
    return found.map((one) => one.trim().replace(/\s+/g, " ")).filter(Boolean);
  }, DATA);
  return texts.filter((one) => english.whole.has(one) || english.patterns.some((pattern) => pattern.test(one)));
}

/** A page that says that it is German, is, and is sound. */
async function german(person, name) {
  const { page } = person;
  assert.equal(await page.locator("html").getAttribute("lang"), "de", name);
  assert.deepEqual(await left(person), [], name);
  const body = await page.locator("body").innerText();
  assert.doesNotMatch(body, /\b\d{1,2} (January|February|March|April|May|June|July|August|September|October|November|December) \d{4}/, name);
  assert.doesNotMatch(body, /\{\w+\}/, `${name}: every argument is filled in`);
  await sound(person, `de/${name}`);
}

const GERMAN_DAY = /\d{1,2}\. (Januar|Februar|März|April|Mai|Juni|Juli|August|September|Oktober|November|Dezember) \d{4}/;

let patient;

/** NFR-UX5: a browser that asks for German is answered in German, from the sign-in on. */
test("a patient signs up and reads the record in German", DEADLINE, async () => {
  const [{ id }] = await patients();
  patient = await visitor({ locale: "de-DE" });
  const { page, base } = patient;
  const answer = await page.goto(base);
  assert.equal(answer.headers()["content-language"], "de");
  assert.match(answer.headers().vary, /accept-language/);
  await german(patient, "sign-in");
  await page.getByRole("link", { name: "Ich habe einen Einladungscode" }).click();
  await page.getByLabel("Einladungscode").fill("kein Code");
  await page.getByRole("button", { name: "Weiter" }).click();
  await page.getByRole("alert").getByText("nicht gültig").waitFor();
  await german(patient, "invitation-wrong");
  await page.getByLabel("Einladungscode").fill(await invitation(id));
  await page.getByRole("button", { name: "Weiter" }).click();
  await german(patient, "make-passkey");
  await page.getByRole("button", { name: "Passkey erstellen" }).click();
  await page.waitForURL(`${base}/record`);
  await page.getByRole("heading", { name: "Ihre Akte" }).waitFor();
  const months = await page.locator("section.month > h2").allTextContents();
  assert.ok(months.length > 0);
  for (const month of months) assert.match(`1. ${month}`, GERMAN_DAY);
  await german(patient, "record");
  await page.getByLabel("Anzeigen").selectOption("vitals");
  await page.getByRole("button", { name: "Anwenden" }).click();
  await page.getByRole("link", { name: /Body Weight/ }).first().click();
  assert.match(await page.getByText(/Das ist genau, was/).textContent(), GERMAN_DAY);
  assert.match(await page.locator(".stat").textContent(), /^\d+(,\d+)? kg$/, "a comma stands before the decimals");
  await page.getByRole("heading", { name: "Im Zeitverlauf" }).waitFor();
  await german(patient, "entry");
});

/** NFR-UX5: the sentence before the passkey is in the language of who signs; what is signed is the same transaction. */
test("a patient shares, and stops it, in German", DEADLINE, async () => {
  const { page, base } = patient;
  const next = () => page.getByRole("button", { name: "Weiter" }).click();
  await page.goto(`${base}/access`);
  await german(patient, "access");
  await page.getByRole("link", { name: "Akte freigeben" }).click();
  await page.getByLabel("Name", { exact: true }).fill("Tomas Lind");
  await page.getByRole("button", { name: "Suchen" }).click();
  await german(patient, "share-who");
  await page.getByRole("radio", { name: /Tomas Lind/ }).check();
  await next();
  await page.getByText("Einzelne Teile wählen").click();
  await page.getByLabel("Medikamente", { exact: true }).check();
  await page.getByLabel("Allergien", { exact: true }).check();
  await german(patient, "share-what");
  await next();
  await page.getByRole("radio", { name: /^Einsehen und ergänzen/ }).check();
  await german(patient, "share-see-or-add");
  await next();
  await page.getByRole("radio", { name: /^30 Tage/ }).check();
  await german(patient, "share-until");
  await next();
  await page.getByRole("radio", { name: /^Behandlung/ }).check();
  await german(patient, "share-why");
  await next();
  const sentence = await page.locator(".sentence").textContent();
  assert.match(
    sentence,
    /Ich, .+, erlaube, dass Dr Tomas Lind von Kos Heart Centre meine Allergien und Medikamente einsehen und ergänzen darf, alte und neue Einträge, von jetzt bis zum Ende des Tages \d+\. \S+ \d{4}, Zweck: Behandlung\./,
  );
  await german(patient, "share-check");
  await page.getByRole("button", { name: "Mit Passkey erlauben" }).click();
  await page.getByRole("heading", { name: "Dr Tomas Lind hat jetzt Zugriff" }).waitFor();
  await german(patient, "share-done");
  await page.goto(`${base}/access`);
  await german(patient, "access-given");
  await page.getByRole("button", { name: "Zugriff beenden von Dr Tomas Lind" }).click();
  await page.getByRole("button", { name: "Zugriff mit Passkey beenden" }).click();
  await page.getByRole("heading", { name: "Der Zugriff von Dr Tomas Lind ist beendet" }).waitFor();
  await page.goto(`${base}/history?who=everyone`);
  await page.getByText(/Sie haben den Zugriff von Dr Tomas Lind beendet/).waitFor();
  await german(patient, "history");
  for (const path of ["account", "notices", "notices/settings", "prescriptions", "access/ended", "record/add", "record/add/weight", "record/add/file", "keys"]) {
    assert.equal((await page.goto(`${base}/${path}`)).status(), 200, path);
    await german(patient, path.replaceAll("/", "-"));
  }
  // A decimal comma is one.
  await page.goto(`${base}/record/add/weight`);
  await page.getByLabel("Gewicht").fill("71,5");
  await page.getByRole("button", { name: "In die Akte eintragen" }).click();
  await page.waitForURL(`${base}/record`);
  await page.locator("article", { hasText: "Von Ihnen hinzugefügt" }).getByText("71,5").waitFor();
});

/** NFR-UX5: a choice is kept for the account, works without script and from the keyboard, and can be taken back. */
test("a doctor chooses German, keeps it, and goes back", DEADLINE, async () => {
  const { account } = await world();
  const plain = await visitor({ javaScriptEnabled: false });
  await plain.page.goto(plain.base);
  await plain.page.getByRole("heading", { name: "Sign in to your health record" }).waitFor();
  await plain.page.getByRole("button", { name: "Deutsch" }).click();
  await plain.page.getByRole("heading", { name: "Bei Ihrer Gesundheitsakte anmelden" }).waitFor();
  assert.equal(plain.page.url(), `${plain.base}/sign-in`);

  const doctor = await visitor();
  const { page, base } = doctor;
  await page.goto(`${base}/invitation`);
  await page.getByLabel("Invitation code").fill(await invitation(account("Dr Ana Reyes")));
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByRole("button", { name: "Make a passkey" }).click();
  await page.getByRole("heading", { name: /^Worklist/ }).waitFor();
  await page.goto(`${base}/ask?x=1`);
  await page.getByRole("button", { name: "Deutsch" }).focus();
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Um Zugriff bitten" }).waitFor();
  assert.equal(page.url(), `${base}/ask?x=1`, "the choice leads back to the page");
  await german(doctor, "ask");
  await page.goto(`${base}/worklist`);
  assert.match(await page.getByRole("heading", { level: 1 }).textContent(), /^Arbeitsliste, \d\d\.\d\d\.\d{4}$/);
  await german(doctor, "worklist");
  // Another browser, which asks for English: the account's choice counts from the sign-in on.
  await doctor.context.clearCookies();
  await page.goto(base);
  await page.getByRole("button", { name: "Sign in with a passkey" }).click();
  await page.getByRole("heading", { name: /^Arbeitsliste/ }).waitFor();
  await page.getByLabel("Name", { exact: true }).fill("a");
  await page.getByRole("button", { name: "Suchen" }).click();
  const found = page.locator("tbody th a").first();
  await found.waitFor();
  assert.match(await page.locator("tbody").last().textContent(), /\d\d\.\d\d\.\d{4} \(\d+ J\.\)/);
  await german(doctor, "worklist-found");
  await found.click();
  await page.getByRole("heading", { name: "Diagnosen" }).waitFor();
  await german(doctor, "chart");
  const chart = page.url();
  for (const [way, name] of [["Medikament verordnen", "prescribe"], ["Untersuchung anordnen", "order"]]) {
    await page.goto(chart);
    await page.getByRole("link", { name: way }).click();
    await german(doctor, name);
  }
  const missing = await page.request.get(`${base}/nothing-here`, { headers: { accept: "text/html" } });
  assert.match(await missing.text(), /Hier ist nichts/);
  await page.getByRole("button", { name: "English" }).click();
  await page.getByRole("heading", { name: "Order a test" }).waitFor();
  assert.equal(await page.locator("html").getAttribute("lang"), "en");
});

/** NFR-UX5: the desks of the other roles. */
test("pharmacists, laboratories, administrators and auditors read German", DEADLINE, async () => {
  const { account } = await world();
  const desks = {
    "Jonas Weber": ["dispense"],
    "Mira Osei": ["laboratory"],
    "Eva Stone": ["members", "members/requests", "members/acts", "emergencies", "health", "health/keys"],
    "Paul Marsh": ["ledger"],
  };
  for (const [name, paths] of Object.entries(desks)) {
    const person = await visitor({ locale: "de-AT" });
    const { page, base } = person;
    await page.goto(`${base}/invitation`);
    await page.getByLabel("Einladungscode").fill(await invitation(account(name)));
    await page.getByRole("button", { name: "Weiter" }).click();
    await page.getByRole("button", { name: "Passkey erstellen" }).click();
    await page.getByRole("button", { name: "Abmelden" }).waitFor();
    for (const path of paths) {
      assert.equal((await page.goto(`${base}/${path}`)).status(), 200, path);
      await german(person, path.replaceAll("/", "-"));
    }
  }
});
