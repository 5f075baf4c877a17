//! Writes the parts of the corpora that are made, not written by hand: `cargo run --release --example corpus`.
//!
//! Signatures and sealed streams are random, so a second run gives other bytes of the same kinds. The resources are the
//! demonstration's (Synthea, Apache-2.0).

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a tool for whoever works on the corpora"
)]

use std::{collections::BTreeMap, fs, io::Read as _, path::Path};

use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use alloy_rlp::Encodable as _;
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use stele_core::{
    account::{AccountKey, UnsignedCall},
    block::{Block, Header},
    crypto::{Secret32, os_rng, stream, webauthn},
    id::DEFAULT_CHAIN_ID,
    tx::{AccountCall, AccountSignature, AccountTransaction, Transaction},
};
use stele_fuzz_targets::Case;

fn main() {
    transactions();
    assertions();
    blobs();
    resources();
}

fn write(target: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../corpus")
        .join(target);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(name), bytes).unwrap();
}

fn transactions() {
    let key = AccountKey::new(Secret32::new([0x42; 32])).unwrap();
    let call = |input: &[u8], to| UnsignedCall {
        chain_id: DEFAULT_CHAIN_ID,
        nonce: 3,
        gas_limit: 100_000,
        to,
        input: Bytes::copy_from_slice(input),
    };
    let to = TxKind::Call(Address::repeat_byte(9));
    let plain = key.sign(call(b"", to)).unwrap();
    write("transaction", "eip1559", &plain);
    write(
        "transaction",
        "eip1559-calldata",
        &key.sign(call(&[7; 300], to)).unwrap(),
    );
    write(
        "transaction",
        "eip1559-create",
        &key.sign(call(&[0x60, 0x00], TxKind::Create)).unwrap(),
    );
    let call = AccountCall {
        chain_id: DEFAULT_CHAIN_ID,
        account: Address::repeat_byte(0x77),
        nonce: 1,
        gas_limit: 500_000,
        to: Address::repeat_byte(9),
        input: Bytes::from_static(b"\x01\x02\x03\x04"),
    };
    let signature = AccountSignature::Secp256k1(key.sign_hash(call.signing_hash()).unwrap());
    let account = Transaction::Account(Box::new(AccountTransaction {
        call: call.clone(),
        signature,
    }));
    write("transaction", "account-secp256k1", &account.encode());
    let case = assertion(
        call.signing_hash().as_slice(),
        "http://localhost:8480",
        ",\"crossOrigin\":false}",
        5,
    );
    let signature = AccountSignature::WebAuthn(webauthn::Assertion {
        authenticator_data: case.authenticator_data,
        client_data_json: case.client_data_json,
        r: case.r,
        s: case.s,
        x: case.x,
        y: case.y,
    });
    let passkey = Transaction::Account(Box::new(AccountTransaction { call, signature }));
    write("transaction", "account-passkey", &passkey.encode());
    let header = Header {
        number: 7,
        timestamp_ms: 1_767_225_600_000,
        ..Header::default()
    };
    let block = Block {
        header,
        transactions: vec![plain, account.encode(), passkey.encode()],
    };
    write("transaction", "block", &block.encode());
    write(
        "transaction",
        "block-empty",
        &Block {
            transactions: Vec::new(),
            ..block
        }
        .encode(),
    );
}

fn assertion(challenge: &[u8], origin: &str, tail: &str, flags: u8) -> Case {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let text = URL_SAFE_NO_PAD.encode(challenge);
    let client_data =
        format!(r#"{{"type":"webauthn.get","challenge":"{text}","origin":"{origin}"{tail}"#);
    let mut authenticator_data = Sha256::digest(b"localhost").to_vec();
    authenticator_data.push(flags);
    authenticator_data.extend_from_slice(&7_u32.to_be_bytes());
    let mut message = authenticator_data.clone();
    message.extend_from_slice(&Sha256::digest(client_data.as_bytes()));
    let signature = key.sign(&SystemRandom::new(), &message).unwrap();
    let (signature, public) = (signature.as_ref(), key.public_key().as_ref());
    Case {
        authenticator_data: authenticator_data.into(),
        client_data_json: client_data.into_bytes().into(),
        r: B256::from_slice(&signature[..32]),
        s: webauthn::low_s(signature[32..].try_into().unwrap()).into(),
        x: B256::from_slice(&public[1..33]),
        y: B256::from_slice(&public[33..]),
        challenge: Bytes::copy_from_slice(challenge),
    }
}

#[expect(clippy::too_many_lines, reason = "a list of cases")]
fn assertions() {
    let order = U256::from_be_bytes(alloy_primitives::hex!(
        "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"
    ));
    let put = |name: &str, case: &Case| {
        let mut out = Vec::new();
        case.encode(&mut out);
        write("webauthn", name, &out);
    };
    let plain = ",\"crossOrigin\":false}";
    let local = "http://localhost:8480";
    let good = assertion(b"challenge", local, plain, 5);
    put("good", &good);
    put("no-cross-origin", &assertion(b"challenge", local, "}", 5));
    put(
        "extra-members",
        &assertion(
            b"c",
            "https://a.example",
            ",\"crossOrigin\":false,\"other_keys_can_be_added_here\":\"x\"}",
            5,
        ),
    );
    put(
        "32-byte-challenge",
        &assertion(&[9; 32], local, plain, 0x1d),
    );
    put(
        "cross-origin",
        &assertion(b"c", local, ",\"crossOrigin\":true}", 5),
    );
    put("not-verified", &assertion(b"c", local, plain, 1));
    put("not-present", &assertion(b"c", local, plain, 4));
    put(
        "escaped-origin",
        &assertion(b"c", "http://localhost\\u002f", plain, 5),
    );
    put(
        "other-challenge",
        &Case {
            challenge: Bytes::from_static(b"other"),
            ..good.clone()
        },
    );
    put(
        "high-s",
        &Case {
            s: B256::from(order - U256::from_be_bytes(good.s.0)),
            ..good.clone()
        },
    );
    put(
        "zero-key",
        &Case {
            x: B256::ZERO,
            y: B256::ZERO,
            ..good.clone()
        },
    );
    put(
        "empty-client-data",
        &Case {
            client_data_json: Bytes::new(),
            ..good.clone()
        },
    );
    put(
        "short-authenticator-data",
        &Case {
            authenticator_data: Bytes::from_static(b"short"),
            ..good
        },
    );
}

fn blobs() {
    let key = Secret32::new([0x5a; 32]);
    for (name, encoding, length) in [
        ("stream-empty", stream::Encoding::Plain, 0),
        ("stream-small", stream::Encoding::Plain, 100),
        (
            "stream-two-chunks",
            stream::Encoding::Plain,
            stream::CHUNK_LEN + 5,
        ),
        ("stream-deflate", stream::Encoding::Deflate, 300),
    ] {
        let sealed = stream::seal(&key, encoding, &vec![7; length], &mut os_rng()).unwrap();
        write("cid_blob", name, &sealed);
    }
    let large = stele_vault::cid::import(&vec![3; 600_000]).unwrap();
    write("cid_blob", "dag-pb-node", &large.nodes[0].bytes);
    write("cid_blob", "cid-dag-pb", &large.cid.to_bytes());
    write("cid_blob", "cid-text", large.cid.to_string().as_bytes());
    let small = stele_vault::cid::import(b"hello").unwrap();
    write("cid_blob", "cid-raw", &small.cid.to_bytes());
    write("cid_blob", "cid-raw-text", small.cid.to_string().as_bytes());
    write(
        "cid_blob",
        "cid-v0-text",
        b"QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG",
    );
    write("cid_blob", "encapsulation-length", &[0x11; 27 + 1120]);
    write("cid_blob", "empty", b"");
}

/// The smallest resource of every type in the demonstration, and its smallest Bundle's first entries.
fn resources() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/stele/demo");
    let mut smallest: BTreeMap<String, String> = BTreeMap::new();
    for entry in fs::read_dir(demo).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "bz2") {
            continue;
        }
        let mut text = String::new();
        bzip2::read::MultiBzDecoder::new(fs::File::open(&path).unwrap())
            .read_to_string(&mut text)
            .unwrap();
        let mut bundle: serde_json::Value = serde_json::from_str(&text).unwrap();
        let entries = bundle["entry"].as_array_mut().unwrap();
        for entry in entries.iter() {
            let resource = &entry["resource"];
            let kind = resource["resourceType"].as_str().unwrap().to_owned();
            let text = resource.to_string();
            let kept = smallest.entry(kind).or_insert_with(|| text.clone());
            if text.len() < kept.len() {
                *kept = text;
            }
        }
        entries.truncate(3);
        let text = bundle.to_string();
        let kept = smallest
            .entry("Bundle".to_owned())
            .or_insert_with(|| text.clone());
        if text.len() < kept.len() {
            *kept = text;
        }
    }
    for (kind, text) in smallest {
        if text.len() < 24_000 {
            write("fhir", &format!("synthea-{kind}"), text.as_bytes());
        }
    }
}
