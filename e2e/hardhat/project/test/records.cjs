// `hardhat test`: Hardhat's own provider and accounts, as its tests use them.

const assert = require("node:assert/strict");
const hre = require("hardhat");
const { Interface } = require("ethers");

/** Sends through Hardhat's provider, which signs with the configured accounts, and waits. */
async function send(transaction) {
  const hash = await hre.network.provider.send("eth_sendTransaction", [transaction]);
  for (;;) {
    const receipt = await hre.network.provider.send("eth_getTransactionReceipt", [hash]);
    if (receipt) return receipt;
  }
}

describe("HealthRecords", () => {
  let accounts, address, contract;

  before(async () => {
    accounts = await hre.network.provider.send("eth_accounts");
    const { abi, bytecode } = await hre.artifacts.readArtifact("HealthRecords");
    contract = new Interface(abi);
    const receipt = await send({ from: accounts[0], data: bytecode });
    address = receipt.contractAddress;
    assert.equal(receipt.status, "0x1");
  });

  it("creates and reads a record", async () => {
    const data = contract.encodeFunctionData("createRecord", [1, "Ann", accounts[1], "", ""]);
    const receipt = await send({ from: accounts[0], to: address, data });
    const log = contract.parseLog(receipt.logs[0]);
    assert.equal(log.args.patientAddress.toLowerCase(), accounts[1]);
    const call = { to: address, data: contract.encodeFunctionData("getRecordOwner", [1]) };
    const [owner] = contract.decodeFunctionResult("getRecordOwner", await hre.network.provider.send("eth_call", [call, "latest"]));
    assert.equal(owner.toLowerCase(), accounts[1]);
  });

  it("tells why a transfer is refused", async () => {
    const data = contract.encodeFunctionData("transferRecord", [1, accounts[0]]);
    await assert.rejects(send({ from: accounts[0], to: address, data }), /Only contract owner can call this/);
    const receipt = await send({ from: accounts[1], to: address, data });
    assert.equal(receipt.status, "0x1");
  });
});

describe("Claims", () => {
  it("acts only with the patient's consent", async () => {
    const accounts = await hre.network.provider.send("eth_accounts");
    const { abi, bytecode } = await hre.artifacts.readArtifact("contracts/examples/Claims.sol:Claims");
    const claims = new Interface(abi);
    const { contractAddress } = await send({ from: accounts[0], data: bytecode });
    const file = claims.encodeFunctionData("file", [accounts[2], 0, `0x${"11".repeat(32)}`]);
    await assert.rejects(hre.network.provider.send("eth_call", [{ from: accounts[3], to: contractAddress, data: file }, "latest"]), (error) => {
      const reason = claims.parseError(error.data);
      assert.deepEqual([reason.name, reason.args.patient.toLowerCase()], ["NoConsent", accounts[2]]);
      return true;
    });
    assert.equal(await hre.network.provider.send("eth_getCode", [contractAddress, "latest"]).then((code) => code.length > 100), true);
  });
});
