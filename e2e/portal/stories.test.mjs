// The stories that people told of such a system, each as they would live it, in one hospital over one afternoon. The
// pictures of the guides are taken here, and what a guide shows is held against what is taken.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";

import { patients, scanned, shot, signedUp, visitor, world } from "./browser.mjs";

const DEADLINE = { timeout: 480_000 };
const DOCS = new URL("../../docs/", import.meta.url).pathname;

let patient;
let doctor;
let administrator;
let number;
let fhirId;

before(async () => {
  const { account } = await world();
  const [, , { id }] = await patients();
  fhirId = id;
  patient = await signedUp(id);
  doctor = await signedUp(account("Dr Ana Reyes"));
  administrator = await signedUp(account("Eva Stone"));
  await patient.page.goto(`${patient.base}/account`);
  number = (await patient.page.locator("dd.mono").first().textContent()).trim();
}, DEADLINE);

async function add({ page, base }, kind, name, fields) {
  await page.goto(`${base}/patients/${number}`);
  await page.getByLabel("What", { exact: true }).selectOption(kind);
  await page.getByLabel("Name", { exact: true }).fill(name);
  for (const [label, value] of Object.entries(fields)) await page.getByLabel(label).fill(value);
}

/** S01, story 1: securely stored, reached from anywhere, easily shared. */
test("patient: my records are stored securely, reachable anywhere and easy to share", DEADLINE, async () => {
  const { page, base, context } = patient;
  await page.goto(`${base}/record`);
  await page.getByRole("heading", { name: "Your record" }).waitFor();
  const entries = await page.locator("article.entry").count();
  assert.equal(await page.locator("details.verify.ok").count(), entries, "every entry is what was recorded");
  await shot(patient, "patient-record");
  // Another device, with the same passkey: the authenticator's credentials travel as a password manager's would.
  const { credentials } = await patient.devtools.send("WebAuthn.getCredentials", { authenticatorId: patient.authenticatorId });
  const elsewhere = await visitor({ viewport: { width: 390, height: 844 } });
  const [credential] = credentials;
  await elsewhere.devtools.send("WebAuthn.addCredential", { authenticatorId: elsewhere.authenticatorId, credential });
  await elsewhere.page.goto(`${base}/sign-in`);
  await elsewhere.page.getByRole("button", { name: "Sign in with a passkey" }).click();
  await elsewhere.page.waitForURL(`${base}/record`);
  assert.equal(await elsewhere.page.locator("article.entry").count(), entries);
  await elsewhere.context.close();
  // What leaves the browser and is stored is never clear text without a session.
  assert.equal((await fetch(`${base}/record`, { redirect: "manual" })).headers.get("location"), "/sign-in");
  await page.goto(`${base}/access/share`);
  await page.getByLabel("Name", { exact: true }).fill("Tomas Lind");
  await page.getByRole("button", { name: "Find" }).click();
  await page.getByRole("radio", { name: /Tomas Lind/ }).check();
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByText("Choose single parts").click();
  for (const part of ["Name, address and contacts", "Medicines", "Laboratory results"]) await page.getByLabel(part, { exact: true }).check();
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByRole("radio", { name: /^See They can read/ }).check();
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByRole("radio", { name: /^30 days/ }).check();
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByRole("radio", { name: /Treatment/ }).check();
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByRole("heading", { name: "Check your answers" }).waitFor();
  await shot(patient, "patient-share");
  await page.getByRole("button", { name: "Allow with passkey" }).click();
  await page.getByRole("heading", { name: "Dr Tomas Lind now has access" }).waitFor();
  await page.goto(`${base}/access`);
  await page.getByText("Dr Tomas Lind").first().waitFor();
  await shot(patient, "patient-access");
  assert.ok(await context.cookies());
});

/** FR-D07, story 2: updated and read securely, accurate and up to date. */
test("provider: I securely update and access records that are accurate and up to date", DEADLINE, async () => {
  const { page } = doctor;
  await add(doctor, "measurement", "Potassium", { "Value, of a measurement": "4.1", Unit: "mmol/L" });
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await page.getByRole("link", { name: "Potassium", exact: true }).first().click();
  await page.getByText("This is exactly what").waitFor();
  await page.getByRole("link", { name: "Amend this entry" }).click();
  await page.getByLabel("Value").fill("4.4");
  await page.getByLabel("Why").fill("The laboratory corrected its result.");
  await shot(doctor, "doctor-amend");
  await page.getByRole("button", { name: "Record the new version" }).click();
  await page.getByRole("heading", { name: "2 versions" }).waitFor();
  await page.getByText("Verified").first().waitFor();
  assert.match(await page.locator("#entry").textContent(), /4\.1.*4\.4/s);
});

/** FR-PH1, story 3: whether a prescription is authentic. */
test("pharmacist: I verify that a prescription is authentic", DEADLINE, async () => {
  const { account } = await world();
  const { page, base } = doctor;
  await page.goto(`${base}/patients/${number}/prescribe`);
  await page.getByLabel("Medicine, strength and form").fill("Bisoprolol 2.5 mg tablets");
  await page.getByLabel("How to take it").fill("One tablet each morning");
  await page.getByLabel("How many portions").fill("3");
  await page.getByLabel("What a portion is").fill("packs of 28");
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByRole("heading", { name: "Check before you sign" }).waitFor();
  await shot(doctor, "doctor-prescribe");
  await page.getByRole("button", { name: "Prescribe with passkey" }).click();
  await page.locator("#prescription").getByText("3 of 3 packs of 28 left").waitFor();
  await patient.page.goto(`${base}/prescriptions`);
  await patient.page.getByRole("link", { name: /Bisoprolol/ }).first().click();
  await patient.page.getByText("Show the code to any pharmacist").waitFor();
  await shot(patient, "patient-prescription");
  const code = await scanned(patient);
  const pharmacist = await signedUp(account("Jonas Weber"));
  const check = async (text) => {
    await pharmacist.page.goto(`${base}/dispense`);
    await pharmacist.page.getByLabel("Code", { exact: true }).fill(text);
    await pharmacist.page.getByRole("button", { name: "Check" }).click();
  };
  await check(code);
  await pharmacist.page.getByText("Signed by Dr Ana Reyes, unchanged").waitFor();
  await shot(pharmacist, "pharmacist-dispense");
  const forged = `${code.slice(0, -8)}${code.endsWith("AAAAAAAA") ? "BBBBBBBB" : "AAAAAAAA"}`;
  await check(forged);
  await pharmacist.page.locator(".verdict.refused").or(pharmacist.page.getByRole("alert")).first().waitFor();
  assert.equal(await pharmacist.page.getByRole("button", { name: "Dispense", exact: true }).count(), 0);
});

/** FR-D01, FR-A1, story 4: tools for access and permissions, and for compliance. */
test("system administrator: I have the tools to manage access and permissions, and to comply", DEADLINE, async () => {
  const { page, base } = administrator;
  const newcomer = await visitor();
  await newcomer.page.goto(`${base}/register`);
  await newcomer.page.getByLabel("Organisation you work for").selectOption({ label: "Epidaurus General Hospital" });
  const claim = {
    "Your name": "Dr Ines Okafor",
    "Number in the national register": "7001234",
    "Branch of medicine": "cardiology",
    "Address of your clinic": "1 Harbour Street, Epidaurus",
    "Number of your licence": "MD 1234-A",
  };
  for (const [label, value] of Object.entries(claim)) await newcomer.page.getByLabel(label).fill(value);
  await shot(newcomer, "doctor-register");
  await newcomer.page.getByRole("button", { name: "Continue" }).click();
  await newcomer.page.getByRole("button", { name: "Send with a passkey" }).click();
  await newcomer.page.getByText("Waits to be checked").waitFor();
  await page.goto(`${base}/members`);
  await page.getByText("A doctor waits for your check").waitFor();
  await shot(administrator, "administrator-members");
  await page.getByRole("link", { name: "Look at the licence and decide" }).click();
  await page.getByRole("link", { name: "Dr Ines Okafor" }).click();
  await page.getByLabel("How you checked it").fill("Register of the medical council, entry of today");
  await shot(administrator, "administrator-request");
  await page.getByRole("button", { name: "Licence verified" }).click();
  await page.getByText("By Eva Stone").waitFor();
  await page.goto(`${base}/members`);
  const row = page.getByRole("row", { name: /Dr Ines Okafor/ });
  await row.getByRole("button", { name: /Suspend/ }).click();
  await row.getByText("Suspended").waitFor();
  await row.getByRole("button", { name: /Reinstate/ }).click();
  await row.getByText("Active").waitFor();
  await page.goto(`${base}/members/acts`);
  for (const words of [/verified a licence/, /suspended a member/, /reinstated a member/]) {
    await page.getByRole("row", { name: words }).first().waitFor();
  }
  await shot(administrator, "administrator-acts");
  await page.goto(`${base}/health`);
  await page.getByRole("heading", { name: "Backups and checks" }).waitFor();
  await shot(administrator, "administrator-health");
});

/** FR-P15, story 5: told when records are accessed or modified. */
test("patient: I am told when my records are accessed or modified", DEADLINE, async () => {
  const { page, base } = patient;
  await page.goto(`${base}/record`);
  await page.getByRole("heading", { name: "Your record" }).waitFor();
  await add(doctor, "note", "Visit of today", { "Dose or text": "Feels well. Blood pressure to be taken at home." });
  await doctor.page.getByRole("button", { name: "Add", exact: true }).click();
  // The open page follows, without reload.
  await page.getByRole("link", { name: "Visit of today" }).first().waitFor();
  await page.goto(`${base}/history`);
  const lines = page.locator("#visits");
  await lines.getByText(/Dr Ana Reyes/).first().waitFor();
  assert.match(await lines.textContent(), /opened|added/);
  await shot(patient, "patient-history");
});

/** NFR-UX1, LIM-21, story 6: easy to retrieve and to update. */
test("provider: the interface makes it easy to retrieve and update records", DEADLINE, async () => {
  const { page, base } = doctor;
  await page.goto(`${base}/worklist`);
  const [{ name }] = (await patients()).filter(({ id }) => id === fhirId);
  await page.getByLabel("Name").fill(name[0].family);
  await page.getByRole("button", { name: "Find" }).click();
  await page.getByRole("link", { name: new RegExp(name[0].family, "i") }).first().click();
  await page.getByRole("heading", { name: "Medicines" }).waitFor();
  await shot(doctor, "doctor-chart");
  await add(doctor, "problem", "Essential hypertension", { "Dose or text": "To be seen again in four weeks." });
  await page.getByText("Draft saved.").waitFor();
  await page.goto(`${base}/worklist`);
  await page.getByText("Not sent yet").waitFor();
  await shot(doctor, "doctor-worklist");
  await page.getByRole("row", { name: /An entry for the chart/ }).getByRole("link").click();
  await page.getByText("is below. It was not sent.").waitFor();
  await shot(doctor, "doctor-draft");
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await page.locator("#problems").getByRole("link", { name: "Essential hypertension" }).first().waitFor();
});

/** FR-A2, story 7: accuracy, security and compliance, for whoever oversees. */
test("regulator: I can see that data is accurate, secure and handled by the rules", DEADLINE, async () => {
  const { account, data } = await world();
  const auditor = await signedUp(account("Paul Marsh"));
  const { page, base } = auditor;
  await page.waitForURL(`${base}/ledger`);
  await shot(auditor, "auditor-ledger");
  await page.getByLabel("Block, transaction, account, patient number or name").fill(number);
  await page.getByRole("button", { name: "Find" }).click();
  await page.getByRole("button", { name: "Check that nothing is missing" }).click();
  await page.getByText("Nothing is missing", { exact: true }).waitFor();
  await shot(auditor, "auditor-account");
  await page.getByRole("link", { name: "Who looked" }).click();
  await page.getByRole("row", { name: /Dr Ana Reyes.*Allowed/ }).first().waitFor();
  await shot(auditor, "auditor-accesses");
  const [file] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Signed report, to print" }).click()]);
  const path = join(data, "..", "report.html");
  await file.saveAs(path);
  const flags = ["verify", "audit", path, "--genesis", join(data, "genesis.json"), "--json"];
  const said = await new Promise((resolve) => execFile(process.env.STELE, flags, (_, stdout) => resolve(JSON.parse(stdout))));
  assert.equal(said.ok, true, JSON.stringify(said));
  const report = await auditor.context.newPage();
  await report.goto(`file://${path}`);
  await shot({ page: report }, "auditor-report");
  await report.close();
  await page.goto(`${base}/ledger/check`);
  await page.getByRole("button", { name: "Begin" }).click();
  await page.getByText("The chain holds").waitFor();
});

/** A laboratory's staff see what was shared with them and add results, as clinicians do. */
test("laboratory: I enter results where the patient lets me", DEADLINE, async () => {
  const { account, stele } = await world();
  const scientist = account("Mira Osei");
  await stele("grant", fhirId, "--to", scientist, "--category", "demographics,vital-signs,laboratory", "--permission", "read,write", "--days", "30");
  const laboratory = await signedUp(scientist);
  const { page, base } = laboratory;
  await page.goto(`${base}/worklist`);
  await page.getByText(number).first().waitFor();
  await shot(laboratory, "laboratory-worklist");
  await page.goto(`${base}/patients/${number}`);
  await page.getByLabel("What", { exact: true }).selectOption("measurement");
  await page.getByLabel("Name", { exact: true }).fill("Haemoglobin A1c");
  await page.getByLabel("Value, of a measurement").fill("5.4");
  await page.getByLabel("Unit").fill("%");
  await shot(laboratory, "laboratory-result");
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await page.getByRole("link", { name: "Haemoglobin A1c" }).first().waitFor();
});

/** What a guide shows is what a test saw. */
test("every picture of a guide is taken by a test and is small", () => {
  const here = new URL("./", import.meta.url).pathname;
  const sources = readdirSync(here).filter((name) => name.endsWith(".test.mjs")).map((name) => readFileSync(join(here, name), "utf8"));
  const taken = new Set(sources.flatMap((text) => [...text.matchAll(/\bshot\([^,]+(?:\{[^}]*\})?, "([a-z-]+)"/g)]).map(([, name]) => name));
  const guides = readdirSync(join(DOCS, "guides")).filter((name) => name.endsWith(".md"));
  assert.ok(guides.length >= 6, guides.join(" "));
  const shown = guides.flatMap((name) => [...readFileSync(join(DOCS, "guides", name), "utf8").matchAll(/images\/guide\/([a-z-]+)\.png/g)]).map(([, name]) => name);
  assert.ok(taken.size >= 20, [...taken].join(" "));
  for (const name of shown) {
    assert.ok(taken.has(name), `${name}.png is taken by no test`);
    assert.ok(statSync(join(DOCS, "images/guide", `${name}.png`)).size < 250_000, `${name}.png is too large`);
  }
});
