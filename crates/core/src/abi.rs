//! The ABIs of the system contracts, from the published Solidity interfaces: the one place that expands `sol!`.
//! The documentation of each item is the NatSpec in `contracts/interfaces/*.sol`.

pub mod identity {
    //! System contract Identity.
    alloy_sol_types::sol!(
        #![sol(abi = false, all_derives = true)]
        "../../contracts/interfaces/IIdentity.sol"
    );
}

pub mod records {
    //! System contract Records.
    alloy_sol_types::sol!(
        #![sol(abi = false, all_derives = true)]
        "../../contracts/interfaces/IRecords.sol"
    );
}

pub mod consent {
    //! System contract Consent.
    alloy_sol_types::sol!(
        #![sol(abi = false, all_derives = true)]
        "../../contracts/interfaces/IConsent.sol"
    );
}

pub mod audit {
    //! System contract Audit.
    alloy_sol_types::sol!(
        #![sol(abi = false, all_derives = true)]
        "../../contracts/interfaces/IAudit.sol"
    );
}

pub mod governance {
    //! System contract Governance.
    alloy_sol_types::sol!(
        #![sol(abi = false, all_derives = true)]
        "../../contracts/interfaces/IGovernance.sol"
    );
}

pub mod system {
    //! What every system contract answers alike.
    alloy_sol_types::sol!(
        #![sol(abi = false, all_derives = true)]
        "../../contracts/interfaces/ISystem.sol"
    );
}
