// HPKE (RFC 9180) with X-Wing, HKDF-SHA256 and AES-256-GCM in base mode, over the vendored library.

import { Aes256Gcm } from "../vendor/hpke-core/esm/src/aeads/aesGcm.js";
import { HkdfSha256Native } from "../vendor/hpke-common/esm/src/kdfs/hkdf.js";
import { CipherSuiteNative } from "../vendor/hpke-core/esm/src/cipherSuiteNative.js";
import { XWing } from "../vendor/hpke-x-wing/esm/src/xWing.js";
import { concat } from "./bytes.js";

export const ENCAPSULATION_LEN = 1120;
export const PUBLIC_LEN = 1216;

const kem = new XWing();
const suite = new CipherSuiteNative({ kem, kdf: new HkdfSha256Native(), aead: new Aes256Gcm() });

/** The bytes alone, in a buffer of their own, which the library expects. */
const buffer = (bytes) => Uint8Array.from(bytes).buffer;

/** The public key, 1,216 bytes, of the key pair whose X-Wing seed this is. */
export const publicOf = async (seed) => {
  const { publicKey } = await kem.generateKeyPairDerand(Uint8Array.from(seed));
  return new Uint8Array(await kem.serializePublicKey(publicKey));
};

const exporter = (context) => async (of) => new Uint8Array(await context.export(buffer(of), 32));

/** An encapsulation to a public key, and the function that gives a key for each context. */
export const send = async (to, info) => {
  const recipientPublicKey = await kem.importKey("raw", buffer(to), true);
  const context = await suite.createSenderContext({ recipientPublicKey, info: buffer(info) });
  return { encapsulation: new Uint8Array(context.enc), key: exporter(context) };
};

/** The function of `send`, found with the private key. A wrong key gives other keys, not an error. */
export const receive = async (seed, encapsulation, info) => {
  const recipientKey = await kem.importKey("raw", buffer(seed), false);
  return exporter(await suite.createRecipientContext({ recipientKey, enc: buffer(encapsulation), info: buffer(info) }));
};

/** Opens `encapsulation ‖ ciphertext ‖ tag`, the single-shot form. */
export const openMessage = async (seed, info, aad, sealed) => {
  const recipientKey = await kem.importKey("raw", buffer(seed), false);
  const enc = buffer(sealed.subarray(0, ENCAPSULATION_LEN));
  const context = await suite.createRecipientContext({ recipientKey, enc, info: buffer(info) });
  return new Uint8Array(await context.open(buffer(sealed.subarray(ENCAPSULATION_LEN)), buffer(aad)));
};

/** Seals to a public key what `openMessage` opens. */
export const sealMessage = async (to, info, aad, plain) => {
  const recipientPublicKey = await kem.importKey("raw", buffer(to), true);
  const context = await suite.createSenderContext({ recipientPublicKey, info: buffer(info) });
  const body = new Uint8Array(await context.seal(buffer(plain), buffer(aad)));
  return concat(new Uint8Array(context.enc), body);
};
