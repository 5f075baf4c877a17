// Every page with the keyboard alone, at 200 % and on the narrowest screen; the record and a prescription on paper.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { patients, signedUp, world } from "./browser.mjs";

const DEADLINE = { timeout: 240_000 };
const WIDE = { width: 1280, height: 900 };
const TABS_MAX = 600;

let people;
let number;
let pages;

before(async () => {
  const { account } = await world();
  const [{ id }] = await patients();
  people = {
    patient: await signedUp(id),
    doctor: await signedUp(account("Dr Ana Reyes")),
    pharmacist: await signedUp(account("Jonas Weber")),
    laboratory: await signedUp(account("Mira Osei")),
    administrator: await signedUp(account("Eva Stone")),
    auditor: await signedUp(account("Paul Marsh")),
  };
  const { page, base } = people.patient;
  await page.goto(`${base}/account`);
  number = (await page.locator("dd.mono").first().textContent()).trim();
  await page.goto(`${base}/record?show=vitals`);
  const entry = await page.getByRole("heading").getByRole("link").first().getAttribute("href");
  pages = {
    patient: ["/record", entry, "/record/add", "/record/add/blood-pressure", "/record/add/file", "/access", "/access/ended", "/access/share/who", "/prescriptions", "/history", "/account", "/notices", "/notices/settings"],
    doctor: ["/worklist", "/ask", `/patients/${number}`, `/patients/${number}/order`, `/patients/${number}/prescribe`, entry.replace("/record", `/patients/${number}`)],
    pharmacist: ["/dispense"],
    laboratory: ["/laboratory"],
    administrator: ["/members", "/emergencies"],
    auditor: ["/ledger", "/emergencies"],
  };
}, DEADLINE);

const everyPage = async (look) => {
  for (const [who, paths] of Object.entries(pages)) {
    const { page, base } = people[who];
    await page.setViewportSize(WIDE);
    for (const path of paths) {
      const answer = await page.goto(base + path);
      assert.equal(answer.status(), 200, `${who} ${path}`);
      await look(page, `${who} ${path}`);
    }
  }
};

/** What can be used and therefore has to be reached, each with a number; of radio buttons of one name only one. */
const mark = () => {
  const groups = new Set();
  let count = 0;
  for (const one of document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex='0']")) {
    if (one.disabled || one.type === "hidden" || !one.checkVisibility({ visibilityProperty: true }) || one.closest("details:not([open]) > :not(summary)")) continue;
    if (one.type === "radio") {
      const group = document.querySelector(`input[type=radio][name="${one.name}"]:checked`) ?? one;
      if (group !== one || groups.has(one.name)) continue;
      groups.add(one.name);
    }
    one.dataset.reach = count;
    count += 1;
  }
  return count;
};

/** Notes which of them get the focus, and which of those do not show it. */
const watch = () => {
  globalThis.reached = new Set();
  globalThis.unseen = new Set();
  document.addEventListener("focusin", ({ target }) => {
    if (target.dataset.reach === undefined) return;
    reached.add(target.dataset.reach);
    const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(target);
    const isSeen = (outlineStyle !== "none" && parseFloat(outlineWidth) >= 2) || boxShadow !== "none";
    if (!isSeen) unseen.add(`${target.localName} ${(target.textContent || target.name || "").trim().slice(0, 40)}`);
  });
};

/** NFR-UX5: WCAG 2.1.1, 2.1.2, 2.4.7: whatever can be used is reached by the tabulator, seen, and left again. */
test("every page works with the keyboard alone", { timeout: 600_000 }, async () => {
  await everyPage(async (page, name) => {
    const count = await page.evaluate(mark);
    assert.ok(count > 3, name);
    await page.evaluate(watch);
    // A date field has four parts of its own to go through.
    for (let tabs = 0; tabs < count + 8 && tabs < TABS_MAX; tabs += 1) await page.keyboard.press("Tab");
    const missed = await page.evaluate(() =>
      [...document.querySelectorAll("[data-reach]")].filter(({ dataset }) => !reached.has(dataset.reach)).map((one) => one.outerHTML.slice(0, 100)),
    );
    assert.deepEqual(missed, [], `${name}: not all is reached`);
    assert.deepEqual(await page.evaluate(() => [...unseen]), [], `${name}: one does not see where one is`);
  });
});

/** NFR-UX5: WCAG 1.4.4 and 1.4.10: at 200 %, and on a screen of 320 px, nothing is lost and pages scroll one way only. */
test("every page holds at 200 % and on 320 px", { timeout: 600_000 }, async () => {
  const sideways = () => document.documentElement.scrollWidth - innerWidth;
  /** Text that is cut off by its own box; what is hidden on purpose is for screen readers. */
  const cut = () =>
    [...document.querySelectorAll("main a, main button, main p, main h1, main h2, main h3, main label, main td, main th, main dd, nav a")]
      .filter((one) => one.checkVisibility() && !one.closest(".hide, .scroll, pre, .nav") && getComputedStyle(one).overflowX !== "visible" && one.scrollWidth > one.clientWidth + 1)
      .map((one) => `${one.localName} ${one.textContent.trim().slice(0, 40)}`);
  await everyPage(async (page, name) => {
    // A browser at 200 % has half as many pixels to a side.
    for (const viewport of [{ width: 640, height: 450 }, { width: 320, height: 640 }]) {
      await page.setViewportSize(viewport);
      assert.ok((await page.evaluate(sideways)) <= 0, `${name} scrolls sideways by ${await page.evaluate(sideways)} px at ${viewport.width}`);
      assert.deepEqual(await page.evaluate(cut), [], `${name} at ${viewport.width}`);
    }
  });
});

/** On paper: no buttons, forms or navigation, dark on white, and whose it is. */
const onPaper = async (page, name) => {
  await page.emulateMedia({ media: "print", colorScheme: "dark" });
  const wrong = await page.evaluate(() =>
    [...document.querySelectorAll("nav, form, button, .actions, .foot, .skip")].filter((one) => one.checkVisibility()).map((one) => one.outerHTML.slice(0, 80)),
  );
  assert.deepEqual(wrong, [], name);
  const colours = await page.evaluate(() => {
    const { color } = getComputedStyle(document.querySelector("main h1"));
    return { ink: color, ground: getComputedStyle(document.body).backgroundColor };
  });
  const light = (colour) => colour.match(/[\d.]+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 765;
  assert.ok(light(colours.ink) < 0.3 && light(colours.ground) > 0.95, `${name}: ${JSON.stringify(colours)}`);
  const pdf = await page.pdf({ format: "A4", preferCSSPageSize: true });
  assert.equal(pdf.subarray(0, 5).toString(), "%PDF-");
  return pdf;
};

/** NFR-UX5: the summary and a prescription leave the screen as plain paper. */
test("the record and a prescription are printed", DEADLINE, async () => {
  const { doctor, patient } = people;
  const { page, base } = doctor;
  await page.goto(`${base}/patients/${number}/prescribe`);
  await page.getByLabel("Medicine, strength and form").fill("Bisoprolol 2.5 mg tablets");
  await page.getByLabel("How to take it").fill("One tablet each morning");
  await page.getByLabel("How many portions").fill("3");
  await page.getByLabel("What a portion is").fill("packs of 28");
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByRole("button", { name: "Prescribe with passkey" }).click();
  await page.getByRole("heading", { name: "Prescription", exact: true }).waitFor();
  const paper = patient.page;
  await paper.goto(`${base}/prescriptions`);
  await paper.getByRole("link", { name: /Bisoprolol/ }).click();
  await paper.locator("svg.qr").waitFor();
  await onPaper(paper, "prescription");
  assert.ok(await paper.locator("svg.qr").isVisible(), "the code is on the paper");
  const box = await paper.locator("svg.qr").boundingBox();
  assert.ok(box.width >= 150, "large enough for a camera");
  assert.ok(await paper.getByText("Bisoprolol 2.5 mg tablets").first().isVisible());
  assert.ok(await paper.getByText("One tablet each morning").first().isVisible());
  await paper.emulateMedia({ media: "screen" });
  await paper.goto(`${base}/record`);
  await onPaper(paper, "record");
  for (const heading of ["Allergies", "Medicines now", "Health problems"]) {
    assert.ok(await paper.getByRole("heading", { name: heading }).isVisible(), heading);
  }
  await paper.emulateMedia({ media: "screen", colorScheme: "light" });
});
