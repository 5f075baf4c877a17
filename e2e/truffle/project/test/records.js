const HealthRecords = artifacts.require("HealthRecords");
const Claims = artifacts.require("Claims");

contract("HealthRecords", ([doctor, patient]) => {
  it("creates, transfers and tells", async () => {
    const records = await HealthRecords.deployed();
    const { logs } = await records.createRecord(1, "Ann", patient, "none", "", { from: doctor });
    assert.equal(logs[0].event, "RecordCreated");
    assert.equal(logs[0].args.patientAddress, patient);
    await records.transferRecord(1, doctor, { from: patient });
    assert.equal(await records.getRecordOwner(1), doctor);
  });

  it("tells why a transfer is refused", async () => {
    const records = await HealthRecords.deployed();
    try {
      await records.transferRecord(1, patient, { from: patient });
    } catch (error) {
      assert.match(error.message, /Only contract owner can call this/);
      return;
    }
    assert.fail("it was not refused");
  });
});

contract("Claims", ([insurer, patient]) => {
  it("is refused without consent", async () => {
    const claims = await Claims.deployed();
    assert.equal(await claims.insurer(), insurer);
    try {
      await claims.file.call(patient, 0, `0x${"11".repeat(32)}`);
    } catch (error) {
      return;
    }
    assert.fail("it was not refused");
  });
});
