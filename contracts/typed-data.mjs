// What a patient signs (EIP-712) for others to send: wallets show these fields by name.

import { addresses } from "./addresses.mjs";

/** EIP-712 types of `grantBySig`, `revokeBySig` and `dispense`. */
export const types = Object.freeze({
  Grant: [
    { name: "patient", type: "address" },
    { name: "grantee", type: "address" },
    { name: "categories", type: "uint64" },
    { name: "permissions", type: "uint8" },
    { name: "purposes", type: "uint16" },
    { name: "notBefore", type: "uint40" },
    { name: "expires", type: "uint40" },
    { name: "recordsFrom", type: "uint16" },
    { name: "recordsTo", type: "uint16" },
    { name: "envelopeDigest", type: "bytes32" },
    { name: "request", type: "uint32" },
    { name: "nonce", type: "uint64" },
    { name: "deadline", type: "uint40" },
  ],
  Revoke: [
    { name: "patient", type: "address" },
    { name: "grantee", type: "address" },
    { name: "id", type: "uint32" },
    { name: "directoryRoot", type: "bytes32" },
    { name: "nonce", type: "uint64" },
    { name: "deadline", type: "uint40" },
  ],
  Dispense: [
    { name: "id", type: "address" },
    { name: "dispenser", type: "address" },
    { name: "sequence", type: "uint16" },
    { name: "portions", type: "uint16" },
  ],
});

/** EIP-712 domain of Consent on a chain. */
export function domain(chainId) {
  return { name: "Stele Consent", version: "1", chainId, verifyingContract: addresses.IConsent };
}

/** EIP-712 domain of Prescriptions on a chain: what a prescription's own key signs to dispense. */
export function prescriptionsDomain(chainId) {
  return { name: "Stele Prescriptions", version: "1", chainId, verifyingContract: addresses.IPrescriptions };
}
