// Addresses of Stele's system contracts.

/** Addresses by interface name; the same on every Stele chain. */
export const addresses = Object.freeze({
  IIdentity: "0x5e1e000000000000000000000000000000000001",
  IRecords: "0x5e1e000000000000000000000000000000000002",
  IConsent: "0x5e1e000000000000000000000000000000000003",
  IAudit: "0x5e1e000000000000000000000000000000000004",
  IGovernance: "0x5e1e000000000000000000000000000000000007",
});
