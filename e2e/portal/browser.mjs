// A demonstration node, a real Chromium, people with passkeys in virtual authenticators, and what is checked on every
// page that any test looks at.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { after } from "node:test";

import jsqr from "jsqr";
import { chromium } from "playwright-core";

import { start } from "../start.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const PICTURES = process.env.STELE_PICTURES;
/** Where the guides' pictures go, where they are to be made anew: docs/images/guide. */
const GUIDE = process.env.STELE_GUIDE;
const PICTURE_BYTES_MAX = 250_000;
const WIDE = { width: 1280, height: 900 };
const PHONE = { width: 390, height: 844 };

let running;

after(async () => (await running)?.browser.close());

/** The node and the browser, started once for a test file; flags count at the first call. */
export const world = (...flags) => (running ??= begin(flags));

async function begin(flags) {
  const node = await start("--demo", ...flags);
  const executablePath = process.env.STELE_CHROMIUM ?? execFileSync("which", ["chromium"]).toString().trim();
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
  const { data } = node;
  const { practitioners, organizations } = JSON.parse(readFileSync(join(data, "demo.json"), "utf8"));
  const account = (name) => [...practitioners, ...organizations].find((one) => one.name === name).account;
  const token = await node.stele("token", "--scope", "system/*.cruds");
  return { ...node, browser, base: node.ready.http, fhir: node.ready.fhir, account, token };
}

/** Patients of the node's own hospital: FHIR ids, by name. */
export async function patients() {
  const { fhir, token } = await world();
  const answer = await fetch(`${fhir}/Patient?_sort=family`, { headers: { authorization: `Bearer ${token}` } });
  const { entry } = await answer.json();
  return entry.map(({ resource }) => resource);
}

export async function invitation(who) {
  const { stele } = await world();
  return JSON.parse(await stele("portal", "invite", who, "--json")).code;
}

/** A browser of its own, with an authenticator that always confirms. Whatever it must not do is noted. */
export async function visitor({ hasPrf = true, ...options } = {}) {
  const { browser, base } = await world();
  // A worker would answer for pages that a test wants to change on their way.
  const context = await browser.newContext({ viewport: WIDE, locale: "en-GB", serviceWorkers: "block", ...options });
  const page = await context.newPage();
  const wrong = [];
  page.on("request", (request) => {
    if (!request.url().startsWith(base)) wrong.push(`asked elsewhere: ${request.url()}`);
  });
  page.on("console", (message) => {
    if (/Content Security Policy|Refused to/.test(message.text())) wrong.push(message.text());
  });
  page.on("pageerror", (error) => wrong.push(String(error)));
  page.on("dialog", (dialog) => {
    wrong.push(`a script of a record ran: ${dialog.message()}`);
    dialog.dismiss();
  });
  const devtools = await context.newCDPSession(page);
  await devtools.send("WebAuthn.enable");
  const authenticatorId = await authenticator(devtools, { hasPrf });
  return { context, page, base, wrong, devtools, authenticatorId };
}

/** Adds an authenticator that always confirms; a second one must be of another transport. */
export async function authenticator(devtools, options) {
  const { authenticatorId } = await devtools.send("WebAuthn.addVirtualAuthenticator", {
    options: {
      protocol: "ctap2",
      ctap2Version: "ctap2_1",
      transport: "internal",
      hasResidentKey: true,
      hasUserVerification: true,
      isUserVerified: true,
      automaticPresenceSimulation: true,
      ...options,
    },
  });
  return authenticatorId;
}

/** Somebody who accepted an invitation and is signed in. */
export async function signedUp(who, options) {
  const person = await visitor(options);
  const { page, base } = person;
  await page.goto(`${base}/invitation`);
  await page.getByLabel("Invitation code").fill(await invitation(who));
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByRole("button", { name: "Make a passkey" }).click();
  await page.getByRole("button", { name: "Sign out" }).waitFor();
  return person;
}

/** What a camera reads from the code on a patient's page. */
export async function scanned({ page }) {
  const picture = await page.locator("svg.qr").screenshot();
  const { data, width, height } = await page.evaluate(async (bytes) => {
    const image = await createImageBitmap(new Blob([Uint8Array.from(bytes)], { type: "image/png" }));
    const canvas = new OffscreenCanvas(image.width, image.height);
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    return { ...context.getImageData(0, 0, image.width, image.height), data: [...context.getImageData(0, 0, image.width, image.height).data], width: image.width, height: image.height };
  }, [...picture]);
  const read = jsqr(Uint8ClampedArray.from(data), width, height);
  assert.ok(read, "the code can be scanned from the screen");
  return read.data;
}

/** A picture for a guide, as a patient sees it on a phone or staff on a desk. Made only where STELE_GUIDE says where to. */
export async function shot({ page }, name, on = name.startsWith("patient") ? PHONE : WIDE) {
  if (!GUIDE) return;
  await page.setViewportSize(on);
  await page.evaluate(() => document.fonts.ready);
  await page.evaluate(() => document.activeElement?.blur());
  mkdirSync(GUIDE, { recursive: true });
  const { length } = await page.screenshot({ path: join(GUIDE, `${name}.png`) });
  assert.ok(length < PICTURE_BYTES_MAX, `${name}.png has ${length} bytes`);
  await page.setViewportSize(WIDE);
}

/** What holds on every page: WCAG by axe-core, no sideways scrolling on a phone, nothing forbidden done. */
export async function sound({ page, wrong }, name) {
  assert.deepEqual(wrong, [], name);
  for (const colorScheme of ["light", "dark"]) {
    for (const [size, viewport] of [["wide", WIDE], ["phone", PHONE]]) {
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize(viewport);
      await page.evaluate(AXE);
      const found = await page.evaluate(async () => {
        const { violations } = await globalThis.axe.run(document, { resultTypes: ["violations"] });
        return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target.join(" ")).join(", ")}`);
      });
      assert.deepEqual(found, [], `${name}, ${colorScheme}, ${size}`);
      const sideways = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(sideways <= 0, `${name} scrolls sideways by ${sideways} px, ${size}`);
      if (PICTURES) {
        const path = join(PICTURES, `${name}-${size}-${colorScheme}.png`);
        mkdirSync(dirname(path), { recursive: true });
        await page.screenshot({ path, fullPage: true });
      }
    }
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize(WIDE);
  assert.deepEqual(wrong, [], name);
}
