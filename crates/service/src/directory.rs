//! Organisations, their staff and their patients: accounts on the ledger, keys in the key service.

use std::ops::RangeInclusive;

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_sol_types::{SolCall as _, SolValue as _};
use stele_core::{
    abi::{
        consent::IConsent::grantBySigCall,
        governance::IGovernance::{proposeCall, voteCall},
        identity::IIdentity::{
            commitmentOfCall, organizationAtCall, organizationCountCall, organizationOfCall,
            registerMemberCall, registerPatientCall, updateMemberCall,
        },
    },
    account::AccountKey,
    consent::{Period, Permissions, Purpose, Terms},
    crypto::os_rng,
    id::{GOVERNANCE, IDENTITY, OrganizationId, PatientId},
    time::Timestamp,
};
use stele_fhir::category::Category;
use stele_vault::keys::{Directory, Grant, RootKey};

use crate::{
    Service,
    error::{Error, Result},
    grants::signed_grant,
    network::rules::Standing,
    ports::{BlockRef, Call},
    transactions::{Order, refused},
};

/// Kind of an organisation, as `Identity` numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum OrganizationKind {
    /// Hospital or other provider of care.
    Hospital = 1,
    /// Laboratory.
    Laboratory = 2,
    /// Pharmacy.
    Pharmacy = 3,
    /// Insurer.
    Insurer = 4,
    /// Regulator or auditor.
    Regulator = 5,
    /// Research institution.
    Research = 6,
}

impl OrganizationKind {
    /// From its number in `Identity`.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Hospital,
            2 => Self::Laboratory,
            3 => Self::Pharmacy,
            4 => Self::Insurer,
            5 => Self::Regulator,
            6 => Self::Research,
            _ => return None,
        })
    }
}

/// Roles of a member, as bits in `Identity`.
pub mod role {
    /// Doctor.
    pub const DOCTOR: u32 = 1;
    /// Nurse.
    pub const NURSE: u32 = 2;
    /// Pharmacist.
    pub const PHARMACIST: u32 = 4;
    /// Laboratory staff.
    pub const LABORATORY: u32 = 8;
    /// Insurance staff.
    pub const INSURANCE: u32 = 16;
    /// Administrator.
    pub const ADMINISTRATOR: u32 = 32;
    /// Auditor.
    pub const AUDITOR: u32 = 64;
    /// Researcher.
    pub const RESEARCHER: u32 = 128;
}

/// How long the default grant of a registration lasts: five years, then the patient is asked again.
pub const DEFAULT_GRANT_MS: u64 = 5 * 365 * 24 * 3600 * 1000;
/// Months of sealing that a grant opens when nothing else is said: all.
pub const ALL_MONTHS: RangeInclusive<u16> = 0..=u16::MAX;

/// An account on the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountView {
    /// 0 none, 1 organisation, 2 member, 3 patient, 4 device.
    pub kind: u8,
    /// Whether it may act now.
    pub active: bool,
    /// Organisation that vouches for it.
    pub sponsor: OrganizationId,
    /// Roles, see [`role`].
    pub roles: u32,
}

impl Service {
    /// What the ledger says of an account; `None` when it is not registered.
    ///
    /// # Errors
    /// The ledger can't answer.
    pub fn account(&self, who: Address) -> Result<Option<AccountView>> {
        Standing::account(self, who)
    }

    /// The organisation of a member, patient or device.
    ///
    /// # Errors
    /// The ledger can't answer.
    pub fn organization_of(&self, who: Address) -> Result<OrganizationId> {
        const WHAT: &str = "reading an account's organisation";
        let output = self.view(WHAT, IDENTITY, organizationOfCall { who }.abi_encode())?;
        organizationOfCall::abi_decode_returns(&output)
            .map(OrganizationId)
            .map_err(|error| Error::internal(WHAT, error))
    }

    /// Makes keys for a new organisation on this node, without registering it: what genesis needs.
    ///
    /// # Errors
    /// The vault refuses.
    pub async fn make_organization_keys(vault: &stele_vault::Vault) -> Result<OrganizationId> {
        const WHAT: &str = "making an organisation's keys";
        let key =
            AccountKey::random(&mut os_rng()).map_err(|error| Error::internal(WHAT, error))?;
        let account = key.address();
        let keys = vault.keys();
        keys.add_signing(account, key.secret())
            .await
            .map_err(Error::vault(WHAT))?;
        keys.ensure_kem(account, &mut os_rng())
            .await
            .map_err(Error::vault(WHAT))?;
        keys.add_root(account, &RootKey::random(&mut os_rng()))
            .await
            .map_err(Error::vault(WHAT))?;
        Ok(OrganizationId(account))
    }

    /// Admits an organisation that this node hosts. The organisations hosted here vote for it; where others
    /// have a say, the proposal stays open for them.
    ///
    /// # Errors
    /// The vault or the ledger refuses.
    pub async fn add_organization(&self, kind: OrganizationKind) -> Result<OrganizationId> {
        const WHAT: &str = "admitting an organisation";
        let organization = Self::make_organization_keys(&self.vault).await?;
        let payload = (
            organization.0,
            U256::from(kind as u8),
            B256::ZERO,
            B256::ZERO,
        )
            .abi_encode_params();
        let propose = proposeCall {
            kind: 1,
            payload: payload.into(),
        };
        let receipt = self
            .transactions
            .settle(
                WHAT,
                self.organization.0,
                Order::new(GOVERNANCE, &propose, 2_000_000),
            )
            .await?;
        let id = receipt
            .receipt
            .logs
            .iter()
            .find_map(|log| log.topics().get(1))
            .map(|topic| u32::from_be_bytes(topic.0[28..].try_into().unwrap_or_default()))
            .unwrap_or_default();
        for voter in self.hosted_organizations()? {
            if self
                .account(organization.0)?
                .is_some_and(|account| account.active)
            {
                break;
            }
            if voter == self.organization || voter == organization {
                continue;
            }
            let vote = voteCall { id, support: true };
            self.transactions
                .settle(WHAT, voter.0, Order::new(GOVERNANCE, &vote, 2_000_000))
                .await?;
        }
        Ok(organization)
    }

    /// Active organisations whose keys this node keeps, its own first.
    ///
    /// # Errors
    /// The index or the vault can't answer.
    pub fn hosted_organizations(&self) -> Result<Vec<OrganizationId>> {
        const WHAT: &str = "listing organisations";
        let mut hosted = vec![self.organization];
        for account in self.all_organizations()? {
            if account != self.organization.0
                && self.account(account)?.is_some_and(|found| found.active)
                && self
                    .vault
                    .keys()
                    .signing(account)
                    .map_err(Error::vault(WHAT))?
                    .is_some()
            {
                hosted.push(OrganizationId(account));
            }
        }
        Ok(hosted)
    }

    /// Every organisation that was ever admitted, those of the genesis first.
    pub(crate) fn all_organizations(&self) -> Result<Vec<Address>> {
        const WHAT: &str = "listing organisations";
        let output = self.view(WHAT, IDENTITY, organizationCountCall {}.abi_encode())?;
        let count = organizationCountCall::abi_decode_returns(&output)
            .map_err(|error| Error::internal(WHAT, error))?
            .registered;
        (0..count)
            .map(|index| {
                let output =
                    self.view(WHAT, IDENTITY, organizationAtCall { index }.abi_encode())?;
                organizationAtCall::abi_decode_returns(&output)
                    .map_err(|error| Error::internal(WHAT, error))
            })
            .collect()
    }

    /// Registers a member of an organisation's staff and keeps the keys here. `licence` is committed to, salted.
    ///
    /// # Errors
    /// The vault or the ledger refuses.
    pub async fn add_practitioner(
        &self,
        organization: OrganizationId,
        roles: u32,
        licence: &str,
    ) -> Result<Address> {
        let member = self.make_member_keys().await?;
        self.enrol_member(organization, member, roles, licence)
            .await?;
        Ok(member)
    }

    /// Makes the keys of somebody who is to be a member, and keeps them here. The ledger knows nothing of it yet.
    pub(crate) async fn make_member_keys(&self) -> Result<Address> {
        const WHAT: &str = "making a member's keys";
        let key =
            AccountKey::random(&mut os_rng()).map_err(|error| Error::internal(WHAT, error))?;
        let member = key.address();
        let keys = self.vault.keys();
        keys.add_signing(member, key.secret())
            .await
            .map_err(Error::vault(WHAT))?;
        keys.ensure_kem(member, &mut os_rng())
            .await
            .map_err(Error::vault(WHAT))?;
        Ok(member)
    }

    /// Registers a member whose keys are here.
    pub(crate) async fn enrol_member(
        &self,
        organization: OrganizationId,
        member: Address,
        roles: u32,
        licence: &str,
    ) -> Result<()> {
        const WHAT: &str = "registering a practitioner";
        let commitment = self
            .licence_commitment(member, licence)?
            .ok_or_else(|| Error::internal(WHAT, "the member's key is not here"))?;
        let call = registerMemberCall {
            member,
            roles,
            licence: commitment,
        };
        self.transactions
            .settle(WHAT, organization.0, Order::new(IDENTITY, &call, 500_000))
            .await
            .map(drop)
    }

    /// What the ledger says of a member's licence, if it is this one. The account's secret, which is random and never
    /// published, salts it. Nothing where the account's key is not here.
    pub(crate) fn licence_commitment(
        &self,
        member: Address,
        licence: &str,
    ) -> Result<Option<B256>> {
        let secret = self
            .vault
            .keys()
            .signing(member)
            .map_err(Error::vault("reading a member's key"))?;
        Ok(secret
            .map(|secret| keccak256([secret.expose().as_slice(), licence.as_bytes()].concat())))
    }

    /// Whether a member was registered with this licence, written exactly so.
    pub(crate) fn has_licence(&self, member: Address, licence: &str) -> Result<bool> {
        const WHAT: &str = "reading a member's licence";
        let output = self.view(
            WHAT,
            IDENTITY,
            commitmentOfCall { who: member }.abi_encode(),
        )?;
        let recorded = commitmentOfCall::abi_decode_returns(&output)
            .map_err(|error| Error::internal(WHAT, error))?;
        Ok(self.licence_commitment(member, licence)? == Some(recorded))
    }

    /// Suspends or reinstates a member; acts in its block.
    ///
    /// # Errors
    /// The ledger refuses.
    pub async fn set_practitioner_status(
        &self,
        organization: OrganizationId,
        member: Address,
        active: bool,
    ) -> Result<()> {
        const WHAT: &str = "changing a practitioner's status";
        let account = self
            .account(member)?
            .ok_or_else(|| Error::not_found("account", &member.to_string()))?;
        let call = updateMemberCall {
            member,
            status: if active { 1 } else { 2 },
            roles: account.roles,
            licence: B256::ZERO,
        };
        self.transactions
            .settle(WHAT, organization.0, Order::new(IDENTITY, &call, 500_000))
            .await?;
        Ok(())
    }

    /// Makes a managed patient: keys kept here, the account registered, the default grant given. The orders are
    /// returned unsent, so that a caller may send them with the first records in one go.
    pub(crate) async fn prepare_patient(
        &self,
        organization: OrganizationId,
    ) -> Result<(PatientId, Vec<Order>)> {
        const WHAT: &str = "registering a patient";
        let key =
            AccountKey::random(&mut os_rng()).map_err(|error| Error::internal(WHAT, error))?;
        let root = RootKey::random(&mut os_rng());
        let patient = PatientId(key.address());
        let keys = self.vault.keys();
        keys.add_signing(patient.0, key.secret())
            .await
            .map_err(Error::vault(WHAT))?;
        keys.add_root(patient.0, &root)
            .await
            .map_err(Error::vault(WHAT))?;
        keys.ensure_kem(patient.0, &mut os_rng())
            .await
            .map_err(Error::vault(WHAT))?;
        let now = self.clock.now();
        // A managed patient's keys are derived here when somebody writes; a directory is published when the
        // patient claims the account and the organisation can derive them no more.
        let register = registerPatientCall {
            patient: patient.0,
            directoryRoot: B256::ZERO,
        };
        let mut orders = vec![Order::new(IDENTITY, &register, 500_000)];
        let terms = default_terms(&root, now)?;
        let envelopes = self
            .seal_keys(patient, organization.0, &Category::ALL, ALL_MONTHS)
            .await?;
        keys.keep_grants(organization.0, &envelopes)
            .await
            .map_err(Error::vault(WHAT))?;
        let facts = self.ledger.facts();
        let consent = terms.to_abi();
        orders.push(signed_grant(
            facts.chain_id,
            &key,
            grantBySigCall {
                patient: patient.0,
                grantee: organization.0,
                terms: consent,
                envelopeDigest: envelopes_digest(&envelopes),
                request: 0,
                nonce: 0,
                deadline: alloy_primitives::aliases::U40::saturating_from(
                    now.seconds().saturating_add(3600),
                ),
                signature: Bytes::new(),
            },
        )?);
        Ok((patient, orders))
    }

    /// Registers a patient who keeps their own keys: the account and the public directory come from their key
    /// file, nothing secret does.
    ///
    /// # Errors
    /// The directory is another's, or the ledger refuses.
    pub async fn register_own_patient(
        &self,
        organization: OrganizationId,
        directory: &Directory,
    ) -> Result<PatientId> {
        const WHAT: &str = "registering a patient";
        let patient = PatientId(directory.log());
        let register = registerPatientCall {
            patient: patient.0,
            directoryRoot: directory.root(),
        };
        self.vault
            .keys()
            .add_directory(directory)
            .await
            .map_err(Error::vault(WHAT))?;
        self.transactions
            .settle(
                WHAT,
                organization.0,
                Order::new(IDENTITY, &register, 500_000),
            )
            .await?;
        Ok(patient)
    }

    /// Seals the keys of a managed patient's categories to a grantee, of this node or of another member's.
    pub(crate) async fn seal_keys(
        &self,
        patient: PatientId,
        grantee: Address,
        categories: &[Category],
        months: RangeInclusive<u16>,
    ) -> Result<Vec<Grant>> {
        const WHAT: &str = "sealing keys to a grantee";
        let keys = self.vault.keys();
        let public = self.public_key_of(grantee).await?;
        let categories: Vec<u8> = categories.iter().map(|one| one.number()).collect();
        keys.seal_grants(
            patient.0,
            &categories,
            &months,
            (grantee, &public),
            &mut os_rng(),
        )
        .map_err(Error::vault(WHAT))
    }

    /// Calls a view of a system contract.
    pub(crate) fn view(&self, what: &'static str, to: Address, input: Vec<u8>) -> Result<Bytes> {
        let call = Call {
            to: Some(to),
            input: input.into(),
            ..Call::default()
        };
        self.ledger
            .call(&call, BlockRef::Latest)
            .map_err(|source| refused(what, source))
    }
}

/// The category slots of a patient for a list of categories, as a bit set.
pub(crate) fn slots_of(root: &RootKey, categories: &[Category]) -> Result<u64> {
    categories.iter().try_fold(0_u64, |slots, category| {
        root.slot_of(category.number())
            .map(|slot| slots | 1 << slot)
            .map_err(Error::vault("placing a category"))
    })
}

/// Terms of the grant that registration gives the organisation: treatment, all categories, five years.
fn default_terms(root: &RootKey, now: Timestamp) -> Result<Terms> {
    Ok(Terms {
        categories: slots_of(root, &Category::ALL)?,
        permissions: Permissions::READ.and(Permissions::WRITE),
        purposes: vec![Purpose::Treat],
        period: Period {
            from: Timestamp(0),
            until: now.plus_ms(DEFAULT_GRANT_MS),
        },
        records_from: *ALL_MONTHS.start(),
        records_to: *ALL_MONTHS.end(),
    })
}

/// What a grant on the ledger says of the key envelopes handed over with it: keccak-256 over their digests.
pub(crate) fn envelopes_digest(envelopes: &[Grant]) -> B256 {
    let digests: Vec<u8> = envelopes
        .iter()
        .flat_map(|grant| grant.digest().0)
        .collect();
    keccak256(digests)
}
