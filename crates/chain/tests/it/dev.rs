//! The development chain, and that no other chain can become one.

use alloy_primitives::{Address, Bytes, TxKind, U256};
use stele_chain::{
    Committed, Error, InvalidTransaction, Rejected,
    dev::{DevChain, Edit, UnsignedTransaction},
};
use stele_core::id::CONSENT;

use crate::support::{START_MS, chain, genesis, hospital, key, ping};

fn nothing(nonce: u64, to: Address) -> UnsignedTransaction {
    UnsignedTransaction {
        nonce,
        gas_limit: 100_000,
        to: TxKind::Call(to),
        value: U256::ZERO,
        input: Bytes::new(),
    }
}

fn dev() -> DevChain {
    DevChain::new(&genesis(true)).unwrap()
}

fn mine(dev: &DevChain) -> usize {
    let Committed::New { transactions, .. } = dev.mine(START_MS).unwrap() else {
        panic!("the block is known")
    };
    transactions.len()
}

/// FR-X2: a consortium's genesis begins no development chain.
#[test]
fn a_consortium_is_no_development_chain() {
    let closed = genesis(false);
    assert!(matches!(DevChain::new(&closed), Err(Error::Genesis { .. })));
    let mut two = genesis(true);
    two.organizations.extend(two.organizations.clone());
    assert!(matches!(DevChain::new(&two), Err(Error::Genesis { .. })));
    let mut two = genesis(true);
    two.validators.extend(two.validators.clone());
    assert!(matches!(DevChain::new(&two), Err(Error::Genesis { .. })));
}

/// FR-X2: what speaks for an account without its key is a transaction on a development chain and on no other, not even an
/// open one, neither from a sender nor in a block.
#[test]
fn only_a_development_chain_takes_what_nobody_signed() {
    let (dev, open) = (dev(), chain(true));
    let stranger = key(90).address();
    let unsigned = dev.impersonate(stranger, nothing(0, hospital().address()));
    let Err(Rejected::Invalid(InvalidTransaction::Unreadable(reason))) =
        open.submit(unsigned.clone())
    else {
        panic!("it was taken")
    };
    assert!(reason.to_string().contains("signature"), "{reason}");
    dev.chain().submit(unsigned).unwrap();
    assert_eq!(mine(&dev), 1);
    let account = dev.chain().view().account(stranger).unwrap().unwrap();
    assert_eq!(account.nonce, 1);
    // The block of the one is no block of the other, whatever its header claims.
    let block = dev.chain().view().block(1).unwrap().unwrap();
    let verdict = open.verify(&block.into(), &[]).unwrap();
    assert!(!verdict.is_valid());
}

#[test]
fn the_past_is_returned_to_and_goes_on() {
    let dev = dev();
    dev.chain().submit(ping(&key(91), 0)).unwrap();
    mine(&dev);
    let before = dev.chain().finalized();
    let moment = dev.snapshot();
    for nonce in 1..4 {
        dev.chain().submit(ping(&key(91), nonce)).unwrap();
        mine(&dev);
    }
    dev.chain().submit(ping(&key(91), 4)).unwrap();
    for _ in 0..2 {
        dev.revert(&moment).unwrap();
        assert_eq!(dev.chain().finalized(), before);
        assert_eq!(dev.chain().pool_status().transactions, 0);
        // The same nonce again, in another block.
        dev.chain().submit(ping(&key(91), 1)).unwrap();
        assert_eq!(mine(&dev), 1);
        assert_eq!(dev.chain().finalized().0.number, 2);
    }
}

#[test]
fn an_edit_is_a_block_whose_root_has_it() {
    let dev = dev();
    let account = key(92).address();
    let (slot, word) = (U256::from(7), U256::from(9));
    let code = Bytes::from_static(&[0x60, 0x00, 0x54, 0x00]);
    let edits = [
        Edit::Balance(account, U256::from(5)),
        Edit::Nonce(account, 3),
        Edit::Code(account, code.clone()),
        Edit::Slot(account, slot, word),
    ];
    dev.edit(0, &edits).unwrap();
    let chain = dev.chain();
    let (header, _) = chain.finalized();
    let view = chain.view();
    assert_eq!((header.number, header.state_root), (1, view.state_root()));
    let found = view.account(account).unwrap().unwrap();
    assert_eq!((found.balance, found.nonce), (U256::from(5), 3));
    assert_eq!(view.code(found.code_hash).unwrap(), code);
    assert_eq!(view.slot(account, slot).unwrap(), word);
    let refused = dev.edit(0, &[Edit::Code(CONSENT, Bytes::new())]);
    assert!(matches!(refused, Err(Error::Genesis { .. })));
    assert_eq!(dev.chain().finalized().0.number, 1);
}
