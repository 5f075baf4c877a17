// Prescriptions, end to end in a real Chromium: a doctor signs with a passkey, the patient shows a code, pharmacists
// dispense in parts, and what must not be dispensed is refused with the reason. Over FHIR the same.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { patients, scanned, signedUp, sound, visitor, world } from "./browser.mjs";

const DEADLINE = { timeout: 240_000 };
const MEDICINE = `Bisoprolol 2.5 mg <img src=x onerror=alert(1)>`;

let doctor, patient, pharmacist, second, lea, number, code;

before(async () => {
  const { account, stele } = await world();
  const [first] = await patients();
  patient = await signedUp(first.id);
  await patient.page.goto(`${patient.base}/account`);
  number = (await patient.page.locator("dd.mono").first().textContent()).trim();
  doctor = await signedUp(account("Dr Ana Reyes"));
  pharmacist = await signedUp(account("Jonas Weber"));
  lea = JSON.parse(await stele("practitioner", "add", "Lea Brandt", "--roles", "pharmacist", "--json")).practitioner;
  second = await signedUp(lea);
}, DEADLINE);

/** Fills the form of a prescription and gives the page that is to be signed. */
async function prescribe({ page, base }, { medicine, amount, portion = "packs of 28", dose = "One tablet each morning" }) {
  await page.goto(`${base}/patients/${number}`);
  await page.getByRole("link", { name: "Prescribe a medicine" }).click();
  await page.getByLabel("Medicine, strength and form").fill(medicine);
  await page.getByLabel("How to take it").fill(dose);
  await page.getByLabel("How many portions").fill(amount);
  await page.getByLabel("What a portion is").fill(portion);
  await page.getByRole("button", { name: "Continue" }).click();
}

async function check({ page, base }, text) {
  await page.goto(`${base}/dispense`);
  await page.getByLabel("Code", { exact: true }).fill(text);
  await page.getByRole("button", { name: "Check" }).click();
}

/** FR-D16, FR-D12: prescribed on a page, signed with the doctor's passkey, with the sheet that is committed to in view. */
test("a doctor prescribes with a passkey", DEADLINE, async () => {
  const { page } = doctor;
  await prescribe(doctor, { medicine: "", amount: "many" });
  await page.getByRole("alert").getByText("Enter the medicine").waitFor();
  await sound(doctor, "prescribe-wrong");
  assert.equal(await page.getByLabel("How to take it").inputValue(), "One tablet each morning");
  await prescribe(doctor, { medicine: MEDICINE, amount: "3" });
  await page.getByRole("heading", { name: "Check before you sign" }).waitFor();
  assert.match(await page.locator(".sentence").textContent(), /prescribe Bisoprolol .* for .*: 3 packs of 28, to be dispensed until/);
  await sound(doctor, "prescribe-check");
  await page.getByRole("button", { name: "Prescribe with passkey" }).click();
  await page.getByRole("heading", { name: "Prescription", exact: true }).waitFor();
  await page.locator("#prescription").getByText("3 of 3 packs of 28 left").waitFor();
  await sound(doctor, "prescription-entry");
});

/** FR-PH1: the patient sees it and shows a code that a camera reads. */
test("the patient shows a code", DEADLINE, async () => {
  const { page, base } = patient;
  await page.goto(`${base}/prescriptions`);
  await sound(patient, "prescriptions");
  await page.getByRole("link", { name: /Bisoprolol/ }).click();
  await page.getByText("Show the code to any pharmacist").waitFor();
  await sound(patient, "prescription");
  code = await scanned(patient);
  assert.match(code, /^STELERX1[A-Z2-7]+$/);
});

/** FR-PH1, FR-PH3: a pharmacist of another organisation, without access to the record, sees that it is genuine, with what
 * matters for dispensing, and dispenses a part. */
test("a pharmacist checks the code and dispenses a part", DEADLINE, async () => {
  const { page, base } = pharmacist;
  await page.waitForURL(`${base}/dispense`);
  await sound(pharmacist, "dispense-empty");
  await check(pharmacist, code);
  await page.getByText("Valid. You may dispense 3 packs of 28").waitFor();
  await page.getByText("Signed by Dr Ana Reyes, unchanged").waitFor();
  assert.match(await page.locator("#verdict").textContent(), /Bisoprolol 2\.5 mg <img/);
  await sound(pharmacist, "dispense-valid");
  await page.getByLabel("How many packs of 28").fill("4");
  await page.getByRole("button", { name: "Dispense", exact: true }).click();
  await page.getByRole("alert").getByText("Between 1 and 3").waitFor();
  await sound(pharmacist, "dispense-wrong");
  await page.getByLabel("How many packs of 28").fill("1");
  await page.getByRole("button", { name: "Dispense", exact: true }).click();
  await page.getByText("You may dispense 2 packs of 28").waitFor();
  await sound(pharmacist, "dispense-part");
  await patient.page.reload();
  await patient.page.locator("#prescription").getByText("2 of 3 packs of 28 left").waitFor();
  assert.match(await patient.page.locator("#prescription").textContent(), /1 packs of 28 dispensed by Jonas Weber/);
  await sound(patient, "prescription-part");
});

/** FR-PH2: two pharmacies have the same code on their screens and dispense at the same moment: one wins. */
test("of two pharmacies at the same moment one wins", DEADLINE, async () => {
  for (const { page } of [pharmacist, second]) {
    await check(page === pharmacist.page ? pharmacist : second, code);
    await page.getByLabel("How many packs of 28").fill("2");
  }
  const answers = [pharmacist, second].map(async ({ page }) => {
    await page.getByRole("button", { name: "Dispense", exact: true }).click();
    await page.locator(".verdict.refused").waitFor();
    return page.getByRole("alert").count();
  });
  const refused = await Promise.all(answers);
  assert.deepEqual(refused.toSorted(), [0, 1], "exactly one is told that the other was first");
  const loser = refused[0] === 1 ? pharmacist : second;
  assert.match(await loser.page.getByRole("alert").textContent(), /was first|dispensed already/);
  await sound(loser, "dispense-second");
  await patient.page.goto(`${patient.base}/prescriptions`);
  await patient.page.getByText("All dispensed").waitFor();
});

/** FR-PH1: forged, altered, damaged, cancelled and dispensed codes are refused, each with its reason. */
test("what must not be dispensed is refused with the reason", DEADLINE, async () => {
  const { page } = pharmacist;
  await check(pharmacist, code);
  await page.getByText("Refused. All of it has been dispensed already.").waitFor();
  // Another text under the same key, as a forger with a copy of the code would make it.
  const bytes = base32(code.slice(8));
  const sheet = JSON.parse(Buffer.from(bytes.subarray(32)).toString());
  const again = (key, text) => `STELERX1${encoded(Buffer.concat([key, Buffer.from(JSON.stringify(text))]))}`;
  await check(pharmacist, again(bytes.subarray(0, 32), { ...sheet, portions: 90 }));
  await page.getByText("Refused. Its text is not what the doctor signed.").waitFor();
  assert.equal(await page.getByText("90 packs").count(), 0, "a text that cannot be trusted is not shown");
  await sound(pharmacist, "dispense-altered");
  await check(pharmacist, again(Buffer.alloc(32, 7), sheet));
  await page.getByText("Refused. No doctor of this consortium issued it.").waitFor();
  await check(pharmacist, `${code.slice(0, 60)}1`);
  await page.getByRole("alert").getByText("incomplete or damaged").waitFor();
  await check(pharmacist, "<script>alert(1)</script>");
  await page.getByRole("alert").getByText("not the code of a prescription").waitFor();
  await sound(pharmacist, "dispense-no-code");
  // Cancelled by its doctor while the pharmacist has it on the screen.
  await prescribe(doctor, { medicine: "Atorvastatin 20 mg", amount: "1" });
  await doctor.page.getByRole("button", { name: "Prescribe with passkey" }).click();
  await doctor.page.getByRole("heading", { name: "Prescription", exact: true }).waitFor();
  await patient.page.goto(`${patient.base}/prescriptions`);
  await patient.page.getByRole("link", { name: /Atorvastatin/ }).click();
  const other = await scanned(patient);
  await check(pharmacist, other);
  await page.getByText("Valid. You may dispense 1").waitFor();
  await doctor.page.getByRole("button", { name: "Cancel this prescription" }).click();
  await doctor.page.locator("#prescription").getByText("Cancelled", { exact: true }).waitFor();
  await page.getByRole("button", { name: "Dispense", exact: true }).click();
  await page.getByRole("alert").getByText("It was cancelled").waitFor();
  await page.getByRole("button", { name: "Done, next patient" }).click();
  assert.equal(await page.locator(".verdict").count(), 0);
});

/** Over FHIR: `$prescribe`, `$check-prescription`, `$dispense`, with the MedicationDispense in the record. */
test("the same over FHIR", DEADLINE, async () => {
  const { fhir, stele, account } = await world();
  const [{ id }] = await patients();
  const token = async (name) => stele("token", "--scope", "system/*.cruds", "--as", name);
  const tokens = { doctor: await token(account("Dr Ana Reyes")), pharmacist: await token(lea) };
  const post = async (who, path, body) => {
    const answer = await fetch(`${fhir}/${path}`, {
      method: "POST",
      headers: { authorization: `Bearer ${tokens[who]}`, "content-type": "application/fhir+json" },
      body: JSON.stringify(body),
    });
    return { status: answer.status, body: await answer.json() };
  };
  const request = {
    resourceType: "MedicationRequest", status: "draft", intent: "order", subject: { reference: `Patient/${id}` },
    medicationCodeableConcept: { text: "Metformin 500 mg" }, dosageInstruction: [{ text: "Twice a day" }],
    dispenseRequest: { quantity: { value: 30, unit: "tablets" }, numberOfRepeatsAllowed: 1 },
  };
  const made = await post("doctor", "MedicationRequest/$prescribe", request);
  assert.equal(made.status, 201, JSON.stringify(made.body));
  assert.equal(made.body.status, "active");
  const written = made.body.extension.find(({ url }) => url.endsWith("prescription-code")).valueString;
  const parameters = (...list) => ({ resourceType: "Parameters", parameter: list });
  const shown = { name: "code", valueString: written };
  const value = (answer, name) => Object.entries(answer.body.parameter.find((one) => one.name === name) ?? {}).find(([key]) => key.startsWith("value"))?.[1];
  const checked = await post("pharmacist", "MedicationRequest/$check-prescription", parameters(shown));
  assert.equal(value(checked, "verdict"), "good");
  assert.equal(value(checked, "left"), 60);
  assert.equal((await post("doctor", "MedicationDispense/$dispense", parameters(shown, { name: "portions", valuePositiveInt: 1 }))).status, 403);
  const given = await post("pharmacist", "MedicationDispense/$dispense", parameters(shown, { name: "portions", valuePositiveInt: 20 }));
  assert.equal(given.status, 201, JSON.stringify(given.body));
  assert.equal(value(given, "left"), 40);
  const { resource } = given.body.parameter.find(({ name }) => name === "return");
  assert.equal(resource.resourceType, "MedicationDispense");
  assert.equal(resource.authorizingPrescription[0].reference, `MedicationRequest/${made.body.id}`);
  const refused = await post("pharmacist", "MedicationDispense/$dispense", parameters(shown, { name: "portions", valuePositiveInt: 41 }));
  assert.equal(refused.status, 409);
  assert.match(refused.body.issue[0].diagnostics, /Between 1 and 40/);
  const ended = await post("doctor", `MedicationRequest/${made.body.id}/$cancel-prescription`, {});
  assert.equal(ended.body.status, "cancelled");
  const late = await post("pharmacist", "MedicationDispense/$dispense", parameters(shown, { name: "portions", valuePositiveInt: 1 }));
  assert.equal(late.status, 409);
  assert.match(late.body.issue[0].diagnostics, /cancelled/);
  const poor = await post("doctor", "MedicationRequest/$prescribe", { ...request, dispenseRequest: { numberOfRepeatsAllowed: 1, quantity: { value: 1.5, unit: "tablets" } } });
  assert.equal(poor.status, 422);
  assert.match(JSON.stringify(poor.body), /dispenseRequest\.quantity/);
});

/** NFR-PRI3: only doctors prescribe, only pharmacists dispense, only the patient sees the code's page. */
test("prescribing and dispensing are for their roles", DEADLINE, async () => {
  const { base } = pharmacist;
  const status = async ({ page }, path) => (await page.request.get(base + path)).status();
  assert.equal(await status(pharmacist, `/patients/${number}/prescribe`), 403);
  assert.equal(await status(doctor, "/dispense"), 403);
  assert.equal(await status(patient, "/dispense"), 403);
  assert.equal(await status(doctor, "/prescriptions"), 403);
  const stranger = await visitor();
  for (const path of ["/prescriptions", "/dispense", `/patients/${number}/prescribe`]) {
    await stranger.page.goto(base + path);
    assert.equal(stranger.page.url(), `${base}/sign-in`);
  }
  const csrf = await doctor.page.goto(`${base}/account`).then(() => doctor.page.locator("input[name=csrf]").first().inputValue());
  for (const path of ["/dispense", "/dispense/now"]) {
    const answer = await doctor.page.request.post(base + path, { form: { csrf, code, amount: "1" }, headers: { origin: base } });
    assert.equal(answer.status(), 403, path);
    const forged = await pharmacist.page.request.post(base + path, { form: { csrf, code, amount: "1" }, headers: { origin: base } });
    assert.equal(forged.status(), 400, path);
  }
});

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/** RFC 4648 §6, without padding. */
function base32(text) {
  const bits = [...text].map((letter) => LETTERS.indexOf(letter).toString(2).padStart(5, "0")).join("");
  return Buffer.from(bits.match(/.{8}/g).map((byte) => Number.parseInt(byte, 2)));
}

function encoded(bytes) {
  const bits = [...bytes].map((byte) => byte.toString(2).padStart(8, "0")).join("");
  return bits.match(/.{1,5}/g).map((five) => LETTERS[Number.parseInt(five.padEnd(5, "0"), 2)]).join("");
}
