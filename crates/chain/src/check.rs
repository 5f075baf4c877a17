//! Checking a whole chain: every block is executed again from the genesis, in a state of its own, and every root
//! and certificate is held against what is stored.

use std::{path::Path, sync::Arc};

use alloy_primitives::B256;
use stele_core::{
    block::Block,
    certificate::{CommitCertificate, namespace},
    epoch::Epoch,
};

use crate::{
    chain::{Chain, Committed, Verdict},
    error::Error,
    genesis::Genesis,
    pool::PoolLimits,
    state::{self, State, StateOptions, StateView, VerifyStep},
};

/// Whether blocks must come with certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificates {
    /// Every block above height 0 must be finalized by the validators of its epoch, the first by those of the genesis.
    Required,
    /// Not looked at: for chains made without validators, in tests and tools.
    Ignored,
}

/// Progress of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckStep {
    /// Blocks executed again so far, and how many there are.
    Executed(u64, u64),
    /// Stored files: blocks read so far, and how many there are; then accounts.
    Stored(VerifyStep),
}

/// What was checked and found good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Height of the last block.
    pub height: u64,
    /// Its digest.
    pub hash: B256,
    /// State root after it.
    pub state_root: B256,
    /// Blocks, the first included.
    pub blocks: u64,
    /// Transactions executed again.
    pub transactions: u64,
    /// Certificates whose signatures were verified.
    pub certificates: u64,
    /// Accounts in the state.
    pub accounts: u64,
    /// Storage slots in the state.
    pub slots: u64,
}

/// Checks the chain in `folder`, which no node may have open. `scratch`, an empty or missing folder, holds the
/// state of the execution; without one it is in memory.
///
/// # Errors
/// The first thing that is not as it should be: [`Error::Check`] names its height.
pub fn verify_chain(
    folder: &Path,
    scratch: Option<&Path>,
    genesis: &Genesis,
    certificates: Certificates,
    progress: &mut dyn FnMut(CheckStep),
) -> Result<CheckReport, Error> {
    let stored = State::open(folder, StateOptions::default())?;
    let view = stored.latest();
    let begin = genesis.block()?.hash();
    let head = view.head().ok_or_else(|| Error::Genesis {
        problem: "the folder is empty".into(),
    })?;
    if head.genesis_hash != begin {
        return Err(Error::OtherGenesis {
            stored: head.genesis_hash,
            given: begin,
        });
    }
    let verified = view.verify(&mut |step| progress(CheckStep::Stored(step)))?;
    let replayed = match scratch {
        Some(scratch) => State::open(scratch, StateOptions::default())?,
        None => State::in_memory()?,
    };
    let replay = Chain::over(replayed, genesis, PoolLimits::default())?;
    let mut check = Check {
        namespace: namespace(genesis.chain_id, &begin),
        certificates,
        verified: None,
        report: CheckReport {
            blocks: 1,
            ..CheckReport::default()
        },
    };
    for height in 1..=head.height {
        check
            .block(&view, &replay, height)
            .map_err(|source| Error::Check {
                height,
                source: Box::new(source),
            })?;
        progress(CheckStep::Executed(height, head.height));
    }
    Ok(CheckReport {
        height: head.height,
        hash: head.hash,
        state_root: head.state_root,
        accounts: verified.accounts,
        slots: verified.slots,
        ..check.report
    })
}

struct Check {
    namespace: Vec<u8>,
    certificates: Certificates,
    /// The certificate whose signatures were verified last; several blocks may share one.
    verified: Option<(CommitCertificate, u64)>,
    report: CheckReport,
}

impl Check {
    fn block(&mut self, view: &StateView, replay: &Chain, height: u64) -> Result<(), Error> {
        let missing = || state::Error::damaged(height, "the block is missing");
        let block = Arc::new(view.block(height)?.ok_or_else(missing)?);
        let certificate = view.certificate(height)?.ok_or_else(missing)?;
        replay.recover_as(view)?;
        if let Verdict::Invalid(reason) = replay.verify(&block, &[])? {
            return Err(Error::FinalButInvalid {
                block: block.hash(),
                height,
                reason,
            });
        }
        if self.certificates == Certificates::Required {
            self.certificate(view, &replay.epoch(), &block, &certificate)?;
        }
        let Committed::New { receipts, .. } = replay.commit(&block, &certificate)? else {
            return Err(state::Error::Invariant("a block was executed twice").into());
        };
        if view.receipts(height)?.as_ref() != Some(&*receipts) {
            return Err(state::Error::damaged(height, "the receipts are others").into());
        }
        let transactions = u64::try_from(block.transactions.len()).unwrap_or(u64::MAX);
        self.report.blocks = self.report.blocks.saturating_add(1);
        self.report.transactions = self.report.transactions.saturating_add(transactions);
        Ok(())
    }

    /// A certificate finalizes the block it names and all its ancestors.
    fn certificate(
        &mut self,
        view: &StateView,
        epoch: &Epoch,
        block: &Block,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let height = block.header.number;
        let wrong = |problem: String| Error::Certificate { height, problem };
        let certificate =
            CommitCertificate::decode(bytes).map_err(|error| wrong(error.to_string()))?;
        let known = self
            .verified
            .as_ref()
            .filter(|(verified, _)| *verified == certificate);
        let finalizes = match known {
            Some((_, finalizes)) => *finalizes,
            None => {
                certificate
                    .verify_in(
                        epoch.number(),
                        &certificate.block,
                        epoch.set(),
                        &self.namespace,
                    )
                    .map_err(|error| wrong(error.to_string()))?;
                self.report.certificates = self.report.certificates.saturating_add(1);
                let finalizes = view.height_of(certificate.block)?.ok_or_else(|| {
                    wrong(format!(
                        "it is for block {}, which is not stored",
                        certificate.block
                    ))
                })?;
                self.verified = Some((certificate, finalizes));
                finalizes
            }
        };
        if finalizes < height {
            return Err(wrong(format!("it is for height {finalizes}")));
        }
        Ok(())
    }
}
