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

pub mod prescriptions {
    //! System contract Prescriptions.
    alloy_sol_types::sol!(
        #![sol(abi = false, all_derives = true)]
        "../../contracts/interfaces/IPrescriptions.sol"
    );
}

pub mod emergency {
    //! System contract Emergency.
    alloy_sol_types::sol!(
        #![sol(abi = false, all_derives = true)]
        "../../contracts/interfaces/IEmergency.sol"
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

pub mod typed {
    //! EIP-712 structures that people sign, with the domain of the contract that checks them.
    use alloy_sol_types::Eip712Domain;

    alloy_sol_types::sol! {
        /// Terms of a grant as signed for `IConsent.grantBySig`.
        #[derive(Debug, PartialEq, Eq)]
        struct Grant {
            address patient;
            address grantee;
            uint64 categories;
            uint8 permissions;
            uint16 purposes;
            uint40 notBefore;
            uint40 expires;
            uint16 recordsFrom;
            uint16 recordsTo;
            bytes32 envelopeDigest;
            uint32 request;
            uint64 nonce;
            uint40 deadline;
        }

        /// End of a grant as signed for `IConsent.revokeBySig`.
        #[derive(Debug, PartialEq, Eq)]
        struct Revoke {
            address patient;
            address grantee;
            uint32 id;
            bytes32 directoryRoot;
            uint64 nonce;
            uint40 deadline;
        }

        /// A dispensing as the prescription's own key signs it for `IPrescriptions.dispense`.
        #[derive(Debug, PartialEq, Eq)]
        struct Dispense {
            address id;
            address dispenser;
            uint16 sequence;
            uint16 portions;
        }

        /// What a key signs to get an access token for the account it speaks for. Its domain is not that of any
        /// contract, so that it can't be mistaken for a grant, and no transaction has its form.
        #[derive(Debug, PartialEq, Eq)]
        struct SignIn {
            address account;
            string audience;
            bytes32 id;
            uint40 issued;
        }
    }

    /// Domain of [`SignIn`]: name `Stele Sign-in`, version `1`, the chain.
    #[must_use]
    pub fn sign_in_domain(chain_id: u64) -> Eip712Domain {
        Eip712Domain::new(
            Some("Stele Sign-in".into()),
            Some("1".into()),
            Some(alloy_primitives::U256::from(chain_id)),
            None,
            None,
        )
    }

    /// Domain of [`Dispense`]: name `Stele Prescriptions`, version `1`, the chain, the contract.
    #[must_use]
    pub fn prescriptions_domain(chain_id: u64) -> Eip712Domain {
        Eip712Domain::new(
            Some("Stele Prescriptions".into()),
            Some("1".into()),
            Some(alloy_primitives::U256::from(chain_id)),
            Some(crate::id::PRESCRIPTIONS),
            None,
        )
    }

    /// Domain of both structures: name `Stele Consent`, version `1`, the chain, the contract.
    #[must_use]
    pub fn consent_domain(chain_id: u64) -> Eip712Domain {
        Eip712Domain::new(
            Some("Stele Consent".into()),
            Some("1".into()),
            Some(alloy_primitives::U256::from(chain_id)),
            Some(crate::id::CONSENT),
            None,
        )
    }
}
