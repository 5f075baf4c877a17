//! Checking a whole chain again from its genesis.

use std::path::Path;

use alloy_primitives::{B256, B512};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use stele_chain::{Certificates, Chain, ChainOptions, CheckStep, Error, verify_chain};
use stele_core::certificate::{CommitCertificate, ValidatorSignature, namespace};

use crate::support::{
    CHAIN_ID, HEALTH_RECORDS, chain_in, deploy, genesis, key, ping, propose, register_patient, step,
};

fn check(folder: &Path) -> Result<stele_chain::CheckReport, Error> {
    verify_chain(
        folder,
        None,
        &genesis(true),
        Certificates::Ignored,
        &mut |_| {},
    )
}

fn lived_in(folder: &Path) -> Chain {
    let chain = chain_in(folder);
    register_patient(&chain, key(80).address());
    deploy(&chain, &key(81), HEALTH_RECORDS);
    for nonce in 0..5 {
        chain.submit(ping(&key(82), nonce)).unwrap();
        step(&chain);
    }
    chain
}

/// NFR-INT1: every block is executed again from the genesis and every root compared.
#[test]
fn a_good_chain_passes() {
    let folder = tempfile::tempdir().unwrap();
    let chain = lived_in(folder.path());
    let (header, hash) = chain.finalized();
    drop(chain);
    let mut steps = Vec::new();
    let report = verify_chain(
        folder.path(),
        None,
        &genesis(true),
        Certificates::Ignored,
        &mut |step| steps.push(step),
    )
    .unwrap();
    assert_eq!((report.height, report.hash), (header.number, hash));
    assert_eq!(report.state_root, header.state_root);
    assert_eq!((report.blocks, report.transactions), (header.number + 1, 7));
    assert!(report.accounts >= 8 && report.slots > 0);
    assert!(steps.contains(&CheckStep::Executed(header.number, header.number)));
}

#[test]
fn a_chain_without_certificates_does_not_pass_for_final() {
    let folder = tempfile::tempdir().unwrap();
    drop(lived_in(folder.path()));
    let checked = verify_chain(
        folder.path(),
        None,
        &genesis(true),
        Certificates::Required,
        &mut |_| {},
    );
    let Err(Error::Check { height: 1, source }) = checked else {
        panic!("{checked:?}")
    };
    assert!(matches!(*source, Error::Certificate { height: 1, .. }));
}

/// Certificates as validators make them pass; one of another validator, another block or another chain does not.
#[test]
fn every_block_needs_its_certificate() {
    type Forge = fn(&mut CommitCertificate, &mut Vec<u8>);
    let cases: [(&str, Option<Forge>); 4] = [
        ("good", None),
        ("another chain's", Some(|_, namespace| namespace.push(1))),
        (
            "unsigned",
            Some(|certificate, _| certificate.signatures.clear()),
        ),
        (
            "another block's",
            Some(|certificate, _| certificate.block = B256::repeat_byte(1)),
        ),
    ];
    for (what, forge) in cases {
        let folder = tempfile::tempdir().unwrap();
        let validator = Ed25519KeyPair::from_seed_unchecked(&[5; 32]).unwrap();
        let mut genesis = genesis(true);
        genesis.validators[0].key = B256::from_slice(validator.public_key().as_ref());
        let chain = Chain::open(folder.path(), &genesis, ChainOptions::default()).unwrap();
        for height in 1..=4 {
            let block = propose(&chain);
            let mut namespace = namespace(CHAIN_ID, &chain.genesis_block().hash());
            let mut certificate = CommitCertificate {
                epoch: 0,
                view: height,
                parent_view: height - 1,
                block: block.hash(),
                signatures: Vec::new(),
            };
            let forge = forge.filter(|_| height == 3);
            let signature = ValidatorSignature {
                validator: 0,
                signature: Default::default(),
            };
            certificate.signatures.push(signature);
            if let Some(forge) = forge {
                forge(&mut certificate, &mut namespace);
            }
            for signature in &mut certificate.signatures {
                let signed = validator.sign(&certificate_bytes(&block.hash(), height, &namespace));
                signature.signature = B512::from_slice(signed.as_ref());
            }
            chain.commit(&block, &certificate.encode()).unwrap();
        }
        drop(chain);
        let checked = verify_chain(
            folder.path(),
            None,
            &genesis,
            Certificates::Required,
            &mut |_| {},
        );
        match (forge, checked) {
            (None, Ok(report)) => assert_eq!(report.certificates, 4),
            (Some(_), Err(Error::Check { height: 3, source })) => {
                assert!(
                    matches!(*source, Error::Certificate { height: 3, .. }),
                    "{what}"
                );
            }
            (_, other) => panic!("{what}: {other:?}"),
        }
    }
}

fn certificate_bytes(block: &B256, view: u64, namespace: &[u8]) -> Vec<u8> {
    let certificate = CommitCertificate {
        epoch: 0,
        view,
        parent_view: view - 1,
        block: *block,
        signatures: Vec::new(),
    };
    certificate.signed_bytes(namespace)
}

#[test]
fn another_genesis_does_not_pass() {
    let folder = tempfile::tempdir().unwrap();
    drop(lived_in(folder.path()));
    let mut other = genesis(true);
    other.timestamp_ms += 1;
    let checked = verify_chain(
        folder.path(),
        None,
        &other,
        Certificates::Ignored,
        &mut |_| {},
    );
    assert!(matches!(checked, Err(Error::OtherGenesis { .. })));
}

/// NFR-INT1: one flipped byte in the chain's files is found, or it lies where nothing is stored; what a chain with
/// one says is never wrong.
#[test]
fn a_flipped_byte_is_found_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let chain = lived_in(folder.path());
    let good = chain.finalized();
    drop(chain);
    let mut found = 0;
    for (path, size) in files(folder.path()) {
        // One place in every file; the state's own tests go through more.
        if size > 0 {
            let position = size / 2;
            let copy = tempfile::tempdir().unwrap();
            copy_all(folder.path(), copy.path());
            let damaged = copy.path().join(&path);
            let mut bytes = std::fs::read(&damaged).unwrap();
            bytes[position] ^= 0x10;
            std::fs::write(&damaged, bytes).unwrap();
            match check(copy.path()) {
                Ok(report) => assert_eq!((report.height, report.hash), (good.0.number, good.1)),
                Err(_) => found += 1,
            }
        }
    }
    assert!(found > 2, "only {found} flips were found");
}

fn files(folder: &Path) -> Vec<(std::path::PathBuf, usize)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                // The journal is preallocated with zeros; flips there say little.
                let bytes = std::fs::read(&path).unwrap();
                let used = bytes
                    .iter()
                    .rposition(|byte| *byte != 0)
                    .map_or(0, |last| last + 1);
                found.push((path.strip_prefix(folder).unwrap().to_path_buf(), used));
            }
        }
    }
    found.sort();
    found
}

fn copy_all(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy_all(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}
