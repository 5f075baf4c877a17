const HealthRecords = artifacts.require("HealthRecords");
const Claims = artifacts.require("Claims");

module.exports = async (deployer) => {
  await deployer.deploy(HealthRecords);
  await deployer.deploy(Claims);
};
