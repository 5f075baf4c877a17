// Bytes as the formats of the vault write them: big-endian numbers, base64, hexadecimal.

const EMPTY = new Uint8Array(0);

export const utf8 = (text) => new TextEncoder().encode(text);

export const concat = (...parts) => {
  const out = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
};

export const u16 = (number) => Uint8Array.of(number >>> 8, number & 255);
export const u32 = (number) => Uint8Array.of(number >>> 24, (number >>> 16) & 255, (number >>> 8) & 255, number & 255);

export const readU16 = (bytes, at) => (bytes[at] << 8) | bytes[at + 1];
export const readU32 = (bytes, at) => readU16(bytes, at) * 65_536 + readU16(bytes, at + 2);

export const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/** Of `0x…` or bare digits. */
export const unhex = (text) => {
  const digits = text.startsWith("0x") ? text.slice(2) : text;
  if (digits.length % 2 || !/^[0-9a-fA-F]*$/.test(digits)) throw new Error("not hexadecimal");
  return Uint8Array.from({ length: digits.length / 2 }, (_, at) => Number.parseInt(digits.slice(2 * at, 2 * at + 2), 16));
};

/** Of standard or URL-safe base64, with or without padding. */
export const unbase64 = (text) =>
  Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));

export const base64 = (bytes) => {
  let letters = "";
  // In parts: a call takes some ten thousand arguments at most.
  for (let at = 0; at < bytes.length; at += 8192) letters += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(letters);
};

export const base64url = (bytes) => base64(bytes).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");

export const equal = (one, other) => one.length === other.length && one.every((byte, at) => byte === other[at]);

export const sha256 = async (...parts) => new Uint8Array(await crypto.subtle.digest("SHA-256", concat(...parts)));

export const random = (length) => crypto.getRandomValues(new Uint8Array(length));

/** HKDF-SHA256 over a secret imported by `hkdfKey`: the label, then each part with its length before it. */
export const derive = async (secret, label, parts = [], salt = EMPTY, length = 32) => {
  const info = concat(utf8(label), ...parts.flatMap((part) => [u32(part.length), part]));
  return new Uint8Array(await crypto.subtle.deriveBits({ name: "HKDF", hash: "SHA-256", salt, info }, secret, length * 8));
};

/** A secret that keys are derived from, and that no script can read again. */
export const hkdfKey = (secret) => crypto.subtle.importKey("raw", secret, "HKDF", false, ["deriveBits"]);

const aesKey = (key) => crypto.subtle.importKey("raw", key, "AES-GCM", false, ["encrypt", "decrypt"]);
const gcm = (iv, additionalData = EMPTY) => ({ name: "AES-GCM", iv, additionalData });

/** `nonce (12) ‖ ciphertext ‖ tag (16)` under a fresh random nonce, with a key of `importAes`. */
export const sealWith = async (key, context, plain) => {
  const iv = random(12);
  return concat(iv, new Uint8Array(await crypto.subtle.encrypt(gcm(iv, context), key, plain)));
};

export const openWith = async (key, context, sealed) =>
  new Uint8Array(await crypto.subtle.decrypt(gcm(sealed.subarray(0, 12), context), key, sealed.subarray(12)));

/** As `sealWith` and `openWith`, with the key's bytes. */
export const seal = async (key, context, plain) => sealWith(await aesKey(key), context, plain);

export const open = async (key, context, sealed) => openWith(await aesKey(key), context, sealed);

/** Opens under a given nonce of 12 bytes. */
export const openAt = async (key, iv, sealed) => new Uint8Array(await crypto.subtle.decrypt(gcm(iv), key, sealed));

/** Seals under a given nonce of 12 bytes, which must not be used with that key again. */
export const sealAt = async (key, iv, plain) => new Uint8Array(await crypto.subtle.encrypt(gcm(iv), key, plain));

export const importAes = aesKey;
