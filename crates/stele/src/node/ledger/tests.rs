use alloy_primitives::TxKind;
use alloy_sol_types::SolCall as _;
use stele_chain::{ChainOptions, Committed, Genesis, Organization, Seat};
use stele_core::{
    abi::identity::IIdentity,
    account::{AccountKey, UnsignedCall},
    crypto::{Secret32, keystore::Unlock},
    id::{DEFAULT_CHAIN_ID, IDENTITY},
};

use super::*;

const START_MS: u64 = 1_767_225_600_000;

/// A ledger without consensus: blocks are made by hand.
struct World {
    ledger: Arc<NodeLedger>,
    hospital: AccountKey,
    nurse: AccountKey,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = |byte| AccountKey::new(Secret32::new([byte; 32])).unwrap();
        let (hospital, nurse) = (key(1), key(2));
        let genesis = Genesis {
            chain_id: DEFAULT_CHAIN_ID,
            protocol: stele_chain::PROTOCOL,
            timestamp_ms: START_MS,
            consortium: "Test".into(),
            open: false,
            organizations: vec![Organization {
                address: hospital.address(),
                kind: 1,
                endpoints_digest: B256::ZERO,
                keys_digest: B256::ZERO,
            }],
            validators: vec![Seat {
                key: B256::repeat_byte(9),
                organization: hospital.address(),
            }],
            parameters: Default::default(),
            deployers: Vec::new(),
            alloc: Default::default(),
        };
        let options = ChainOptions::default();
        let chain = Chain::open(&folder.path().join("chain"), &genesis, options).unwrap();
        let index = folder.path().join("index");
        std::fs::create_dir(&index).unwrap();
        let index = Index::open(&index, &Secret32::new([3; 32])).unwrap();
        let config = stele_vault::Config::new(folder.path().join("vault"));
        let unlock = Unlock::Passphrase("a passphrase of these tests".to_owned().into());
        let vault = Vault::open(&config, &unlock).await.unwrap();
        Self {
            ledger: NodeLedger::new(
                Arc::new(chain),
                Arc::new(index),
                Arc::new(vault),
                Arc::new(super::super::gossip::channel(Vec::new()).0),
            ),
            hospital,
            nurse,
            _folder: folder,
        }
    }

    async fn send(&self, key: &AccountKey, nonce: u64, to: Address, input: Vec<u8>) -> B256 {
        let call = UnsignedCall {
            chain_id: DEFAULT_CHAIN_ID,
            nonce,
            gas_limit: 1_000_000,
            to: TxKind::Call(to),
            input: input.into(),
        };
        self.ledger.submit(key.sign(call).unwrap()).await.unwrap()
    }

    /// Builds a block of what waits and makes it final, telling those who wait at each step.
    fn step(&self) {
        let chain = &self.ledger.chain;
        let (header, _) = chain.finalized();
        let parent = Arc::new(chain.view().block(header.number).unwrap().unwrap());
        let proposer = B256::repeat_byte(9);
        let built = chain
            .propose(&parent, &[], proposer, header.timestamp_ms + 1_000, &|| {
                true
            })
            .unwrap()
            .unwrap();
        self.ledger.answer_refused();
        let Committed::New {
            block,
            transactions,
            receipts,
        } = chain.commit(&Arc::new(built), b"").unwrap()
        else {
            panic!("the block is new");
        };
        self.ledger
            .publish(&block, &transactions, &receipts)
            .unwrap();
        self.ledger.answer_refused();
    }
}

#[tokio::test]
async fn a_final_transaction_is_told_to_those_who_wait() {
    let world = World::new().await;
    let register = IIdentity::registerMemberCall {
        member: world.nurse.address(),
        roles: 1,
        licence: B256::ZERO,
    };
    let hash = world
        .send(&world.hospital, 0, IDENTITY, register.abi_encode())
        .await;
    let waiting = tokio::spawn({
        let ledger = Arc::clone(&world.ledger);
        async move { ledger.wait(hash, u64::MAX).await }
    });
    while world.ledger.waiting().is_empty() {
        tokio::task::yield_now().await;
    }
    world.step();
    let receipt = waiting.await.unwrap().unwrap();
    assert!(receipt.receipt.success);
    assert_eq!((receipt.position.height, receipt.hash), (1, hash));
    // Whoever asks later is answered at once, and nobody is remembered.
    assert_eq!(world.ledger.wait(hash, u64::MAX).await.unwrap(), receipt);
}

#[tokio::test]
async fn a_refused_transaction_is_told_at_once() {
    let world = World::new().await;
    let register = IIdentity::registerMemberCall {
        member: world.nurse.address(),
        roles: 1,
        licence: B256::ZERO,
    };
    world
        .send(&world.hospital, 0, IDENTITY, register.abi_encode())
        .await;
    world.step();
    // Admitted while active, suspended before it is executed.
    let suspend = IIdentity::updateMemberCall {
        member: world.nurse.address(),
        status: 2,
        roles: 1,
        licence: B256::ZERO,
    };
    world
        .send(&world.hospital, 1, IDENTITY, suspend.abi_encode())
        .await;
    let hash = world
        .send(&world.nurse, 0, Address::repeat_byte(7), Vec::new())
        .await;
    let waiting = tokio::spawn({
        let ledger = Arc::clone(&world.ledger);
        async move { ledger.wait(hash, u64::MAX).await }
    });
    while world.ledger.waiting().is_empty() {
        tokio::task::yield_now().await;
    }
    world.step();
    let refused = |answer| {
        matches!(
            answer,
            Err(LedgerError::Refused {
                kind: RefusalKind::NotPermitted,
                ..
            })
        )
    };
    assert!(refused(waiting.await.unwrap()));
    // And so is whoever asks later.
    assert!(refused(world.ledger.wait(hash, u64::MAX).await));
    assert!(world.ledger.waiting().is_empty());
}
