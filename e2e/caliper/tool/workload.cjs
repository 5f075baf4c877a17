// One round: numbered requests of one kind. Each worker is an account that speaks for itself, as a patient or as a user of
// the papers' contract.

"use strict";

const { createRequire } = require("node:module");

const { WorkloadModuleBase } = require("@hyperledger/caliper-core");

const NOTHING = `0x${"00".repeat(32)}`;
/** Until the year 2100. */
const EXPIRES = 4_102_444_800;
/** Category 0, to read, for treatment, at once, until then, for records of any month. */
const TERMS = [1, 1, 1, 0, EXPIRES, 0, 65_535];

/** One grantee after the other, the same in every round. */
function grantee(worker, number) {
  return `0x11${(worker * 1_000_000 + number).toString(16).padStart(38, "0")}`;
}

/** What is asked, by kind of round; `right` judges the answer to what only reads. */
const KINDS = {
  "solidity create": ({ record, self }) => ({ contract: "HealthRecords", verb: "createRecord", args: [record, "Ann", self, "none", ""] }),
  "solidity transfer": ({ record, other }) => ({ contract: "HealthRecords", verb: "transferRecord", args: [record, other] }),
  "solidity query": ({ record, other }) => ({
    contract: "HealthRecords", verb: "getRecordData", args: [record], readOnly: true,
    right: (answer) => answer[0] === "Ann" && answer[1].toLowerCase() === other,
  }),
  "native create": (one) => ({ contract: "IRecords", verb: "anchor", args: one.batch() }),
  "native grant": ({ other }) => ({ contract: "IConsent", verb: "grant", args: [other, TERMS, NOTHING, 0] }),
  "native query": ({ self, other }) => ({
    contract: "IConsent", verb: "can", args: [self, other, 0, 1, 1], readOnly: true, right: (answer) => answer === true,
  }),
  "native revoke": ({ other }) => ({ contract: "IConsent", verb: "revoke", args: [other, 1, NOTHING] }),
};

class Round extends WorkloadModuleBase {
  async initializeWorkloadModule(...args) {
    await super.initializeWorkloadModule(...args);
    this.number = 0;
    this.wrong = 0;
    if (this.roundArguments.kind === "native create") this.custodian = new Custodian(this.roundArguments, this.sutContext);
  }

  async submitTransaction() {
    // Requests beyond what a worker created begin again at its first.
    const number = this.number++ % this.roundArguments.created;
    const { right, ...request } = KINDS[this.roundArguments.kind]({
      record: this.workerIndex * 1_000_000 + number,
      self: this.sutContext.fromAddress,
      other: grantee(this.workerIndex, number),
      batch: () => this.custodian.batch(number),
    });
    const status = await this.sutAdapter.sendRequests(request);
    if (right && !right(status.GetResult())) this.wrong += 1;
  }

  async cleanupWorkloadModule() {
    // Caliper itself judges no answer; whoever started it looks for this line.
    if (this.wrong > 0) console.log(`WRONG ANSWERS: ${this.wrong} of ${this.roundArguments.kind}`);
  }
}

/** The organisation that stores what a patient writes: it signs for each batch. */
class Custodian {
  constructor({ leaves, ethers }, { fromAddress, chainId, contracts }) {
    this.ethers = createRequire(__filename)(ethers);
    this.key = new this.ethers.SigningKey(process.env.STELE_ORGANIZATION_KEY);
    Object.assign(this, { author: fromAddress, chainId, leaves, records: contracts.IRecords.contract.options.address });
  }

  /** A batch for the author's own log. */
  batch(number) {
    const { AbiCoder, computeAddress, id, keccak256 } = this.ethers;
    const leaves = Array.from({ length: this.leaves }, (_, leaf) => id(`${this.author}/${number}/${leaf}`));
    const entries = [[this.author, `0x${"00".repeat(this.leaves)}`, leaves]];
    const abi = AbiCoder.defaultAbiCoder();
    const encoded = abi.encode(["tuple(address log, bytes categories, bytes32[] leaves)[]"], [entries]);
    const message = abi.encode(
      ["string", "uint256", "address", "address", "bytes32"],
      ["stele/custody/1", this.chainId, this.records, this.author, keccak256(encoded)],
    );
    return [entries, this.author, computeAddress(this.key), this.key.sign(keccak256(message)).serialized];
  }
}

module.exports.createWorkloadModule = () => new Round();
