// The laboratory: an order arrives, the patient lets results be added and nothing be read, results go in, both are told.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { patients, signedUp, sound, world } from "./browser.mjs";

const DEADLINE = { timeout: 240_000 };
const PDF = Buffer.from("%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n");

let people;
let number;

before(async () => {
  const { account } = await world();
  const [{ id }] = await patients();
  people = { patient: await signedUp(id), doctor: await signedUp(account("Dr Ana Reyes")), laboratory: await signedUp(account("Mira Osei")) };
  await people.patient.page.goto(`${people.patient.base}/account`);
  number = (await people.patient.page.locator("dd.mono").first().textContent()).trim();
}, DEADLINE);

/** FR-L1: an order reaches the laboratory's list, which shows the slip and nothing else of the record. */
test("a doctor orders a test and the laboratory sees the order", DEADLINE, async () => {
  const { doctor, laboratory } = people;
  const { page, base } = doctor;
  await page.goto(`${base}/patients/${number}`);
  await page.getByRole("link", { name: "Order a test" }).click();
  await sound(doctor, "order");
  await page.getByRole("button", { name: "Order", exact: true }).click();
  await page.getByRole("alert").getByText("what is to be measured").waitFor();
  await page.getByLabel("What is to be measured").fill("Potassium");
  await page.getByLabel("Laboratory", { exact: true }).selectOption({ label: "Meridian Laboratory" });
  await page.getByLabel("For the laboratory").fill(`fasting <script>alert(1)</script>`);
  await page.getByLabel("Urgent").check();
  await page.getByRole("button", { name: "Order", exact: true }).click();
  await page.waitForURL(/ServiceRequest/);
  await laboratory.page.goto(`${base}/laboratory`);
  await laboratory.page.getByText("Urgent").waitFor();
  await sound(laboratory, "orders");
  await laboratory.page.getByRole("link", { name: "Potassium" }).click();
  await laboratory.page.getByText("fasting <script>").waitFor();
  await laboratory.page.getByText("has not allowed").waitFor();
  await sound(laboratory, "order-waits");
});

/** FR-L1: with the patient's permission to add, and only that, results go in; patient and doctor are told. */
test("the laboratory answers under a permission that lets it read nothing", DEADLINE, async () => {
  const { patient, doctor, laboratory } = people;
  const { page, base } = laboratory;
  await page.getByRole("link", { name: "Ask the patient" }).click();
  assert.ok(await page.getByLabel("Add entries only").isChecked());
  await sound(laboratory, "ask-to-add");
  await page.getByRole("button", { name: "Ask", exact: true }).click();
  await page.waitForURL(`${base}/worklist`);
  await patient.page.goto(`${base}/access`);
  await patient.page.getByRole("button", { name: "Allow Mira Osei" }).click();
  await patient.page.getByText(/to add to my /).waitFor();
  await sound(patient, "allow-to-add");
  await patient.page.getByRole("button", { name: "Allow with passkey" }).click();
  await patient.page.getByRole("heading", { name: "Mira Osei now has access" }).waitFor();
  await page.goto(`${base}/laboratory`);
  await page.getByRole("link", { name: "Potassium" }).click();
  await page.getByLabel("Value, row 1").fill("6.30");
  await page.getByLabel("Unit, row 1").fill("mmol per litre");
  await page.getByRole("button", { name: "Send results" }).click();
  await page.getByRole("alert").getByText("unit of UCUM").waitFor();
  await sound(laboratory, "results-wrong");
  await page.getByLabel("Unit, row 1").fill("mmol/L");
  await page.getByLabel("LOINC, row 1").fill("2823-4");
  await page.getByRole("button", { name: "Send results" }).click();
  await page.getByRole("alert").getByText("check digit").waitFor();
  await page.getByLabel("LOINC, row 1").fill("2823-3");
  await page.getByLabel("From, row 1").fill("3.5");
  await page.getByLabel("To, row 1").fill("5.1");
  await page.getByLabel("Conclusion").fill("Repeat with a fresh sample");
  await page.getByLabel("Report as PDF").setInputFiles({ name: "report.pdf", mimeType: "application/pdf", buffer: PDF });
  await page.getByRole("button", { name: "Send results" }).click();
  await page.getByText("Answered").waitFor();
  await sound(laboratory, "order-answered");
  // It reads nothing back: not the chart, not what it wrote itself.
  await patient.page.goto(`${base}/record?show=results&find=Potassium`);
  const entry = patient.page.getByRole("link", { name: "Potassium", exact: true });
  const addresses = await entry.evaluateAll((links) => links.map((link) => link.getAttribute("href")));
  const reports = addresses.filter((one) => one.includes("DiagnosticReport"));
  const results = addresses.filter((one) => one.includes("Observation"));
  assert.equal(reports.length, 1);
  for (const one of [reports[0], results[0]]) {
    const answer = await page.request.get(base + one.replace("/record/", `/patients/${number}/`));
    assert.equal(answer.status(), 404, one);
    const file = await page.request.get(`${base}${one.replace("/record/", `/patients/${number}/`)}/file`);
    assert.equal(file.status(), 404, one);
  }
  // Patient and doctor have it, with range and report.
  await patient.page.goto(base + results[0]);
  await patient.page.getByText("6.30 mmol/L").first().waitFor();
  await patient.page.goto(base + reports[0]);
  const answer = await patient.page.request.get(`${base}${reports[0]}/file`);
  assert.deepEqual(await answer.body(), PDF);
  await sound(patient, "entry-report");
  await patient.page.goto(`${base}/notices`);
  await patient.page.getByText("Mira Osei added to your record").waitFor();
  await doctor.page.goto(`${base}/notices`);
  await doctor.page.getByText(`A result that you ordered for ${number} is there`).waitFor();
  await sound(doctor, "notices-doctor");
});

/** FR-L1: a report is corrected by new versions of what it wrote; patient and doctor are told, and the laboratory still reads nothing. */
test("the laboratory corrects a report that it cannot read", DEADLINE, async () => {
  const { patient, doctor, laboratory } = people;
  const { page, base } = laboratory;
  await page.goto(`${base}/laboratory`);
  await page.getByRole("link", { name: "Potassium" }).click();
  await page.getByRole("link", { name: "Correct the report" }).click();
  assert.equal(await page.getByLabel("Measured, row 1").inputValue(), "Potassium");
  assert.equal(await page.getByLabel("Value, row 1").inputValue(), "", "what was found is not shown");
  await page.getByRole("button", { name: "Send the correction" }).click();
  await page.getByRole("alert").getByText("Enter a result").waitFor();
  await sound(laboratory, "correction-wrong");
  await page.getByLabel("Value, row 1").fill("5.30");
  await page.getByLabel("Unit, row 1").fill("mmol/L");
  await page.getByLabel("Measured, row 2").fill("Chloride");
  await page.getByLabel("Value, row 2").fill("101");
  await page.getByLabel("Unit, row 2").fill("mmol/L");
  await page.getByLabel("Conclusion").fill("Samples were mixed up");
  await page.getByRole("button", { name: "Send the correction" }).click();
  await page.getByText(/^Corrected/).waitFor();
  await sound(laboratory, "order-corrected");
  await patient.page.goto(`${base}/record?show=results&find=Potassium`);
  const entries = patient.page.getByRole("link", { name: "Potassium", exact: true });
  const addresses = await entries.evaluateAll((links) => links.map((link) => link.getAttribute("href")));
  const [result, more] = addresses.filter((one) => one.includes("Observation"));
  assert.equal(more, undefined, "no second result beside the first");
  await patient.page.goto(base + result);
  await patient.page.getByText("5.30 mmol/L").first().waitFor();
  await patient.page.getByRole("heading", { name: "2 versions" }).waitFor();
  await patient.page.locator("del", { hasText: "6.3" }).first().waitFor();
  await patient.page.goto(base + addresses.find((one) => one.includes("DiagnosticReport")));
  await patient.page.getByText("Samples were mixed up").first().waitFor();
  assert.equal((await page.request.get(base + result.replace("/record/", `/patients/${number}/`))).status(), 404);
  await doctor.page.goto(`${base}/notices`);
  await doctor.page.getByText(`A result that you ordered for ${number} was corrected`).waitFor();
  // A second correction takes the added result back.
  await page.getByRole("link", { name: "Correct the report" }).click();
  await page.getByLabel("Value, row 1").fill("5.30");
  await page.getByLabel("Unit, row 1").fill("mmol/L");
  assert.equal(await page.getByLabel("Measured, row 2").inputValue(), "Chloride");
  await page.getByRole("button", { name: "Send the correction" }).click();
  await page.getByText(/^Corrected/).waitFor();
  await patient.page.goto(`${base}/record?show=results&find=Chloride`);
  await patient.page.getByText("Entered in error").waitFor();
});
