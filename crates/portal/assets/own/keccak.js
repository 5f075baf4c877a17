// keccak-256, as the ledger hashes.

import { keccak_256 } from "../vendor/mlkem/esm/src/sha3/sha3.js";
import { concat } from "./bytes.js";

export const keccak256 = (...parts) => keccak_256(concat(...parts));
