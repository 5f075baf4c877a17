// Files at the portal: added with and without script, byte for byte back, stopped, too large, corrected, never run.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { createReadStream, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";

import { patients, signedUp, sound, world } from "./browser.mjs";

const DEADLINE = { timeout: 180_000 };
const MB = 1024 * 1024;

let folder;
let patient;

before(async () => {
  const { data } = await world();
  folder = join(data, "..");
  const [{ id }] = await patients();
  patient = await signedUp(id);
}, DEADLINE);

const digest = async (stream) => {
  const hash = createHash("sha256");
  for await (const piece of stream) hash.update(piece);
  return hash.digest("hex");
};

const fill = async (page, title, file) => {
  await page.getByLabel("What is it?").fill(title);
  await page.getByLabel("File", { exact: true }).setInputFiles(file);
};

const downloaded = async (page) => {
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: "Download", exact: true }).click()]);
  return { name: download.suggestedFilename(), digest: await digest(await download.createReadStream()) };
};

/** FR-P07: a file of 24 MB with its progress shown, and the same bytes back. */
test("a patient adds a large file and gets it back byte for byte", DEADLINE, async () => {
  const { page, base } = patient;
  const file = join(folder, "Brief für mich.bin");
  writeFileSync(file, randomBytes(24 * MB));
  await page.goto(`${base}/record/add`);
  await sound(patient, "add-choose");
  await page.getByRole("link", { name: /another file/ }).click();
  await sound(patient, "add-file");
  await fill(page, "Scan of the knee", file);
  await page.getByRole("button", { name: "Add to your record" }).click();
  await page.getByRole("progressbar").waitFor();
  await page.waitForURL(/DocumentReference/);
  await page.getByRole("heading", { name: "Scan of the knee" }).waitFor();
  await page.getByText("24 MB").waitFor();
  await sound(patient, "entry-file");
  const back = await downloaded(page);
  assert.equal(back.name, "Brief für mich.bin");
  assert.equal(back.digest, await digest(createReadStream(file)));
  await page.goto(`${base}/record`);
  const entry = page.locator("article", { hasText: "Scan of the knee" });
  await entry.getByText("Added by you").waitFor();
  assert.equal(await page.locator("article", { hasText: "Binary" }).count(), 0, "the content is behind its entry");
});

/** FR-P07: without script the same form goes the plain way; what is a picture is shown. */
test("a photo goes in without script and is seen on its page", DEADLINE, async () => {
  const { page, base, context } = patient;
  const dot = Buffer.from("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==", "base64");
  const csrf = await page.goto(`${base}/record/add/file`).then(() => page.locator("form[data-upload] input[name=csrf]").inputValue());
  const send = (multipart) => context.request.post(`${base}/record/add/file`, { multipart, headers: { origin: base }, maxRedirects: 0 });
  const photo = { name: "dot.png", mimeType: "image/png", buffer: dot };
  const words = { title: "Photo of a spot", when: "2026-06-30", note: "left arm" };
  const answer = await send({ csrf, ...words, file: photo });
  assert.equal(answer.status(), 303);
  await page.goto(base + answer.headers().location);
  const picture = page.getByRole("img", { name: "Picture: Photo of a spot" });
  assert.ok(await picture.evaluate((one) => one.decode().then(() => one.naturalWidth === 1)));
  await sound(patient, "entry-photo");
  // Without the token, from another page, without a file, without words: nothing is kept.
  assert.equal((await send({ csrf: "00", ...words, file: photo })).status(), 400);
  const refused = await context.request.post(`${base}/record/add/file`, { multipart: { csrf, ...words, file: photo }, headers: { origin: "https://evil.example" } });
  assert.equal(refused.status(), 403);
  assert.equal((await send({ csrf, ...words })).status(), 422);
  assert.equal((await send({ csrf, ...words, when: "2999-01-01", title: "", file: photo })).status(), 422);
});

/** A page that somebody uploads is saved, never opened: its script has no home. */
test("an uploaded page never runs", DEADLINE, async () => {
  const { page, base, context } = patient;
  await page.goto(`${base}/record/add/file`);
  const file = { name: `<img src=x onerror=alert(1)>.html`, mimeType: "text/html", buffer: Buffer.from("<script>alert(document.cookie)</script>") };
  await fill(page, `"><script>alert(3)</script>`, file);
  await page.getByRole("button", { name: "Add to your record" }).click();
  await page.waitForURL(/DocumentReference/);
  await sound(patient, "entry-nasty");
  const answer = await context.request.get(`${page.url()}/file`);
  assert.equal(answer.headers()["content-type"], "application/octet-stream");
  assert.equal(answer.headers()["x-content-type-options"], "nosniff");
  assert.match(answer.headers()["content-disposition"], /^attachment; /);
  assert.equal(await answer.text(), "<script>alert(document.cookie)</script>");
});

/** The size is named before a byte is sent, and again where no script says it; a stopped file leaves nothing. */
test("a file that is too large is refused and one that is stopped leaves nothing", DEADLINE, async () => {
  const { page, base } = patient;
  await page.goto(`${base}/record`);
  const count = await page.locator("article.entry").count();
  await page.goto(`${base}/record/add/file`);
  await page.locator("form[data-upload]").evaluate((form) => (form.dataset.max = "1000"));
  await fill(page, "Too large", { name: "a.bin", mimeType: "application/octet-stream", buffer: randomBytes(2000) });
  await page.getByRole("button", { name: "Add to your record" }).click();
  await page.getByRole("alert").getByText("at most 200 MB").waitFor();
  // Slowed down, so that it can be stopped on the way.
  const { devtools } = patient;
  await devtools.send("Network.enable");
  await devtools.send("Network.emulateNetworkConditions", { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: 256 * 1024 });
  await page.goto(`${base}/record/add/file`);
  await fill(page, "Stopped", { name: "b.bin", mimeType: "application/octet-stream", buffer: randomBytes(8 * MB) });
  await page.getByRole("button", { name: "Add to your record" }).click();
  await page.getByRole("button", { name: "Stop sending" }).click();
  await page.getByRole("alert").getByText("Nothing was kept").waitFor();
  await devtools.send("Network.emulateNetworkConditions", { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
  assert.equal(await page.getByLabel("What is it?").inputValue(), "Stopped", "what was typed is still there");
  await page.goto(`${base}/record`);
  assert.equal(await page.locator("article.entry").count(), count);
});

/** FR-P06: what a patient added can be corrected; the earlier version stays, and a mistake is struck through. */
test("a patient corrects an own entry and takes one back", DEADLINE, async () => {
  const { page, base } = patient;
  await page.goto(`${base}/record/add/blood-pressure`);
  await page.getByLabel("Upper number").fill("182");
  await page.getByLabel("Lower number").fill("82");
  await page.getByRole("button", { name: "Add to your record" }).click();
  await page.waitForURL(`${base}/record`);
  await page.getByRole("link", { name: "Blood pressure" }).first().click();
  await page.getByRole("link", { name: "Correct this entry" }).click();
  assert.equal(await page.getByLabel("Upper number").inputValue(), "182");
  await sound(patient, "correct");
  await page.getByLabel("Upper number").fill("128");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByRole("heading", { name: "2 versions" }).waitFor();
  await page.getByText("128/82 mmHg").first().waitFor();
  assert.equal(await page.locator("del", { hasText: "182" }).count(), 1);
  await page.getByRole("link", { name: "Correct this entry" }).click();
  await page.getByRole("button", { name: "Mark as a mistake" }).click();
  await page.getByText("Entered in error").first().waitFor();
  await sound(patient, "entry-mistake");
  // Another file in the place of one, and the words with it.
  await page.goto(`${base}/record?show=documents`);
  await page.getByRole("link", { name: "Photo of a spot" }).click();
  await page.getByRole("link", { name: "Correct this entry" }).click();
  await page.getByLabel("What is it?").fill("Photo of the other spot");
  await page.getByLabel(/Another file/).setInputFiles({ name: "other.txt", mimeType: "text/plain", buffer: Buffer.from("other") });
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByRole("heading", { name: "Photo of the other spot" }).waitFor();
  assert.equal((await downloaded(page)).digest, createHash("sha256").update("other").digest("hex"));
  // What a hospital wrote is not the patient's to correct.
  await page.goto(`${base}/record?show=vitals`);
  const theirs = page.locator("article", { hasNotText: "Added by you" }).getByRole("heading").getByRole("link").first();
  const address = await theirs.getAttribute("href");
  assert.equal((await page.goto(`${base}${address}/correct`)).status(), 403);
});
