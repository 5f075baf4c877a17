// Notices: at the portal at once, by e-mail through a real SMTP server over TLS, through a signed webhook that fails first and
// survives a restart. Never a name, never anything clinical.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { SMTPServer } from "smtp-server";

import { patients, signedUp, sound, world } from "./browser.mjs";

const DEADLINE = { timeout: 240_000 };
const SECRET = "a secret of the test, long enough";
const PASSWORD = "a password of the test";
/** A certificate for localhost and the authority that made it, both of this test alone. */
const MAIL = join(import.meta.dirname, "mail");

/** What arrived, and a way to wait for what is to come. */
function box() {
  const kept = [];
  const waiting = new Set();
  return {
    kept,
    put(one) {
      kept.push(one);
      for (const look of [...waiting]) look();
    },
    wait: (wanted) =>
      new Promise((done) => {
        const look = () => {
          const found = kept.find(wanted);
          if (!found) return;
          waiting.delete(look);
          done(found);
        };
        waiting.add(look);
        look();
      }),
  };
}

const mails = box();
const calls = box();
let broken = true;
let people;
let address;

const listening = (server) => new Promise((done) => server.listen(0, "127.0.0.1", () => done(server.address().port)));

/** A message with its text as its receiver reads it (RFC 2045, 6.7). */
const plain = (message) => {
  if (!/^Content-Transfer-Encoding: quoted-printable/m.test(message)) return message;
  const joined = message.replace(/=\r\n/g, "");
  const bytes = joined.replace(/=([0-9A-F]{2})/g, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16)));
  return Buffer.from(bytes, "latin1").toString();
};

const mailServer = new SMTPServer({
  key: readFileSync(join(MAIL, "key.pem")),
  cert: readFileSync(join(MAIL, "certificate.pem")),
  onAuth({ username, password }, { secure }, done) {
    // What is said before the connection is encrypted anybody could have read.
    const isRight = secure && username === "stele" && password === PASSWORD;
    done(isRight ? null : new Error("not signed in"), { user: username });
  },
  onData(stream, session, done) {
    const parts = [];
    stream.on("data", (part) => parts.push(part));
    stream.on("end", () => {
      mails.put({ to: session.envelope.rcptTo[0].address, isSecure: session.secure, user: session.user, text: plain(Buffer.concat(parts).toString()) });
      done();
    });
  },
});

const hook = createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    const body = Buffer.concat(parts).toString();
    const [, seconds, code] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(request.headers["stele-signature"]);
    const expected = createHmac("sha256", SECRET).update(`${seconds}.${body}`).digest("hex");
    calls.put({ id: request.headers["stele-notice"], refused: broken, signed: code === expected, ...JSON.parse(body) });
    response.writeHead(broken ? 500 : 204).end();
  });
});

before(async () => {
  const folder = mkdtempSync(join(tmpdir(), "stele-notices-"));
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  const mailPort = await new Promise((done) => {
    const server = mailServer.listen(0, "127.0.0.1", () => done(server.address().port));
  });
  process.env.STELE_WEBHOOK_SECRET = SECRET;
  process.env.STELE_SMTP_PASSWORD = PASSWORD;
  const config = join(folder, "stele.toml");
  writeFileSync(
    config,
    `[notices]
smtp = "localhost:${mailPort}"
smtp_tls = "starttls"
smtp_user = "stele"
smtp_ca_file = "${join(MAIL, "ca.pem")}"
from = "Epidaurus <notices@example.org>"
webhook = "http://127.0.0.1:${await listening(hook)}/stele"
webhook_name = "text message"
`,
  );
  const { account } = await world("--config", config);
  const [found] = await patients();
  people = { patient: await signedUp(found.id), other: await signedUp(account("Dr Tomas Lind")), name: found.name[0].family };
  address = "eva@example.org";
}, DEADLINE);

after(() => {
  mailServer.close();
  hook.close();
});

const numberOf = async ({ page, base }) => {
  await page.goto(`${base}/account`);
  return (await page.locator("dd.mono").first().textContent()).trim();
};

/** The first passkey is told of as any other: whoever's code was used by somebody else sees it. */
test("a person is told of the first passkey", DEADLINE, async () => {
  for (const { page, base } of [people.patient, people.other]) {
    await page.goto(`${base}/notices`);
    await page.getByText("A new way to sign in was added to your account.").waitFor();
  }
});

/** An address counts once its code came back, and not before. */
test("a patient confirms an e-mail address by the code that was sent there", DEADLINE, async () => {
  const { patient } = people;
  const { page, base } = patient;
  await page.goto(`${base}/account`);
  await page.getByRole("link", { name: "What you are told, and how" }).click();
  await sound(patient, "notice-settings");
  await page.getByLabel("E-mail address").fill("not an address");
  await page.getByRole("button", { name: "Save address" }).click();
  await page.getByRole("alert").getByText("Enter an e-mail address").waitFor();
  await sound(patient, "notice-settings-wrong");
  await page.getByLabel("E-mail address").fill(address);
  await page.getByRole("button", { name: "Save address" }).click();
  await page.getByText("We sent a code").waitFor();
  const { text } = await mails.wait(({ to }) => to === address);
  const [, code] = /Your code is (\d{6})/.exec(text);
  await page.getByLabel("Code").fill(code === "000000" ? "111111" : "000000");
  await page.getByRole("button", { name: "Confirm" }).click();
  await page.getByRole("alert").getByText("wrong or too old").waitFor();
  await page.getByLabel("Code").fill(code);
  await page.getByRole("button", { name: "Confirm" }).click();
  await page.getByText(`Notices go to ${address}`).waitFor();
  await page.getByLabel(/Tell me at once/).check();
  await page.locator("#hook-access-requested").check();
  await page.getByRole("button", { name: "Save", exact: true }).click();
  assert.ok(await page.locator("#hook-access-requested").isChecked());
  assert.ok(await page.getByLabel(/Tell me at once/).isChecked());
  await sound(patient, "notice-settings-confirmed");
});

/** FR-P15: a look at the record is told by e-mail and at the portal; the e-mail has no name and nothing clinical. */
test("a patient is told that somebody looked, and by whom only at the portal", DEADLINE, async () => {
  const { patient, name } = people;
  const number = await numberOf(patient);
  const { account } = await world();
  // The list of the hospital's patients, where she arrives, is a look already.
  const doctor = await signedUp(account("Dr Ana Reyes"));
  await doctor.page.goto(`${doctor.base}/patients/${number}`);
  const mail = await mails.wait(({ text }) => /Subject: Somebody looked at your record/.test(text));
  assert.equal(mail.to, address);
  assert.deepEqual([mail.isSecure, mail.user], [true, "stele"]);
  for (const secret of [name, "Reyes", number, "general practitioner"]) assert.ok(!mail.text.includes(secret), secret);
  await patient.page.goto(`${patient.base}/notices`);
  await patient.page.getByText("Dr Ana Reyes looked at your record").waitFor();
  await sound(patient, "notices");
  // The same reader on the same day is told of once.
  await doctor.page.goto(`${doctor.base}/patients/${number}`);
  await ask(number);
  await mails.wait(({ text }) => /Subject: Somebody asks to see your record/.test(text));
  assert.equal(mails.kept.filter(({ text }) => /Somebody looked/.test(text)).length, 1);
});

/** NFR-UX5: an e-mail is in the language that its receiver chose. */
test("a patient who chose German is told in German", DEADLINE, async () => {
  const { patient } = people;
  const number = await numberOf(patient);
  await patient.page.getByRole("button", { name: "Deutsch" }).click();
  await patient.page.getByRole("heading", { name: "Ihr Konto" }).waitFor();
  const { account } = await world();
  const nurse = await signedUp(account("Mira Osei"));
  await nurse.page.goto(`${nurse.base}/ask?patient=${number}&parts=laboratory`);
  await nurse.page.getByLabel("Why, in words for the patient").fill("to add results");
  await nurse.page.getByRole("button", { name: "Ask", exact: true }).click();
  const { text } = await mails.wait(({ text }) => /Subject: Jemand bittet um Einsicht in Ihre Akte/.test(text));
  assert.match(text, /Jemand bittet um Einsicht in Ihre Akte\.\r\n\r\nMelden Sie sich an, um mehr zu sehen: http/);
  assert.match(text, /\d+\. \S+ \d{4}\. Worum es ging, wird nie per E-Mail gesendet\. Um zu ändern/);
  await patient.page.getByRole("button", { name: "English" }).click();
  await patient.page.getByRole("heading", { name: "Your account" }).waitFor();
});

const ask = async (number) => {
  const { page, base } = people.other;
  await page.goto(`${base}/ask?patient=${number}&parts=laboratory`);
  await page.getByLabel("Why, in words for the patient").fill("second opinion");
  await page.getByRole("button", { name: "Ask", exact: true }).click();
  await page.waitForURL(`${base}/worklist`);
};

/** FR-P15: the webhook is signed, tried again after an error, and what waits outlives the node. */
test("a webhook that fails is called again, also after a restart", DEADLINE, async () => {
  const first = await calls.wait(({ refused }) => refused);
  assert.equal(first.kind, "access-requested");
  assert.ok(first.signed);
  assert.deepEqual(Object.keys(first).sort(), ["account", "at", "id", "kind", "link", "refused", "signed", "text"]);
  assert.ok(!JSON.stringify(first).includes("second opinion"));
  const { stop, again } = await world();
  await stop();
  broken = false;
  await again();
  // By its id a receiver knows a message that comes twice.
  const good = await calls.wait(({ refused, id }) => !refused && id === first.id);
  assert.ok(good.signed);
});
