//! Browsers derive the same keys and open the same records: vectors that `e2e/own/vectors.test.mjs` holds the portal's
//! modules against, and what those modules sealed, opened here. `STELE_WRITE_VECTORS=1` writes the part made here anew;
//! `node own/vectors.mjs --write` in `e2e/` the browser's.

use alloy_primitives::{Address, B256, hex};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use stele_core::{
    crypto::{
        Secret32,
        hpke::{self, KemSecret},
        os_rng,
        stream::{self, Encoding},
    },
    element,
    id::{LogId, RecordId},
    leaf::{LeafKind, LeafPreimage, content_digest},
};

use super::{
    directory::Directory,
    grant::Grant,
    tree::{KeyPlace, OwnRoot, RootKey, cover_nodes},
};
use crate::{
    SealedRecord,
    cid::{import, sha256},
    custodian::Pepper,
    envelope::{Encapsulation, Envelope, content_key},
};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../e2e/own/vectors.json");
const CONTENT: &str = r#"{"resourceType":"Observation","valueQuantity":{"value":6.30,"unit":"%"}}"#;

fn root() -> RootKey {
    RootKey::new(Secret32::new([1; 32])).taken_over(OwnRoot {
        secret: Secret32::new([2; 32]),
        from_generation: 2,
    })
}

fn log() -> LogId {
    LogId::repeat_byte(0x5a)
}

fn grantee() -> (Address, KemSecret) {
    let secret = KemSecret::from_seed(&Secret32::new([9; 32])).unwrap();
    (Address::repeat_byte(7), secret)
}

/// What follows from the root key alone.
fn derived() -> Value {
    let root = root();
    let slots: Vec<u8> = (0..64).map(|c| root.slot_of(c).unwrap()).collect();
    let covers: Vec<Value> = [(0, u16::MAX), (600, 650), (680, 680), (1, 65_534)]
        .map(|(from, to)| {
            let seeds: Vec<u8> = root
                .category(9, 4)
                .cover(from..=to)
                .iter()
                .flat_map(|seed| *seed.expose())
                .collect();
            json!({
                "from": from, "to": to, "nodes": cover_nodes(&(from..=to)), "seeds": hex::encode(sha256(&seeds))
            })
        })
        .into();
    let keys: Vec<Value> = [(0, 0, 0), (3, 1, 680), (3, 2, 680), (32, 7, 65_535)]
        .map(|(category, generation, month)| {
            let secret = root.category(category, generation).leaf(month).unwrap();
            json!({
                "category": category, "generation": generation, "month": month,
                "seed": hex::encode(secret.seed().expose()),
                "public": hex::encode(sha256(&secret.public().to_bytes()))
            })
        })
        .into();
    let pairs = [(3, 0), (5, 2)];
    let directory = Directory::derive(&root, log(), &pairs, 680, 24).unwrap();
    json!({
        "root": hex::encode([1; 32]), "own": hex::encode([2; 32]), "fromGeneration": 2,
        "account": hex::encode_prefixed(log()), "slots": slots, "covers": covers, "keys": keys,
        "directory": {
            "categories": pairs, "firstMonth": 680, "root": hex::encode(directory.root()),
            "encoded": hex::encode(sha256(&directory.encode()))
        },
        "grantee": {
            "account": hex::encode_prefixed(grantee().0),
            "key": STANDARD.encode(grantee().1.public().to_bytes())
        }
    })
}

/// A record as it is handed to a patient, compressed or not.
fn sealed(record: RecordId, generation: u32, encoding: Encoding) -> Value {
    let root = root();
    let place = KeyPlace {
        log: log(),
        slot: root.slot_of(9).unwrap(),
        generation,
        epoch: 680,
    };
    let public = root.category(9, generation).leaf(680).unwrap().public();
    let (encapsulation, exporter) = Encapsulation::new(place, &public, &mut os_rng()).unwrap();
    let digest = encapsulation.digest();
    let (envelope, key) = Envelope::seal(digest, &exporter, &record, 1, &mut os_rng()).unwrap();
    let pepper = Pepper::new(Secret32::new([4; 32]));
    let key = content_key(&key, &pepper, &record, 1);
    let content = match encoding {
        Encoding::Plain => CONTENT.as_bytes().to_vec(),
        Encoding::Deflate => {
            use std::io::Write as _;
            let mut out =
                flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::new(6));
            out.write_all(CONTENT.as_bytes()).unwrap();
            out.finish().unwrap()
        }
    };
    let element_salt = [5; 32];
    let sealed = SealedRecord {
        record,
        version: 1,
        size_bytes: CONTENT.len() as u64,
        element_salt: STANDARD.encode(element_salt),
        encapsulation: STANDARD.encode(encapsulation.encode()),
        wrapped: STANDARD.encode(envelope.wrapped),
        pepper: STANDARD.encode(pepper.secret().expose()),
        sealed: STANDARD.encode(stream::seal(&key, encoding, &content, &mut os_rng()).unwrap()),
    };
    let leaf = LeafPreimage {
        record,
        version: 1,
        kind: LeafKind::Create,
        category_slot: place.slot,
        cid: vec![1, 85, 18, 32].into(),
        content: content_digest(&element_salt, CONTENT.as_bytes()),
        element_root: B256::repeat_byte(6),
        envelope_digest: envelope.digest(&record, 1).into(),
        author: Address::repeat_byte(8),
        previous: B256::ZERO,
    };
    let salt = B256::repeat_byte(3);
    json!({ "sealed": sealed, "leaf": leaf, "leafSalt": salt, "commitment": leaf.commit(&salt.0) })
}

/// An entry that a browser sealed opens with the patient's key, and its leaf commits to what sealing here would.
fn own_entry(entry: &Value) {
    let sealed: SealedRecord = serde_json::from_value(entry["sealed"].clone()).unwrap();
    let leaf: LeafPreimage = serde_json::from_value(entry["leaf"].clone()).unwrap();
    let text = entry["text"].as_str().unwrap();
    let content = sealed.open(&root()).unwrap();
    assert_eq!(std::str::from_utf8(&content).unwrap(), text);
    sealed.matches(&content, &leaf.content).unwrap();
    let salt = Secret32::new(sealed.element_salt().unwrap());
    assert_eq!(element::root(text, &salt).unwrap(), leaf.element_root);
    let ciphertext = STANDARD.decode(&sealed.sealed).unwrap();
    assert_eq!(
        ciphertext.len() as u64,
        stream::sealed_len(text.len() as u64)
    );
    assert_eq!(
        import(&ciphertext).unwrap().cid.to_bytes(),
        leaf.cid.as_ref()
    );
    let encapsulation = STANDARD.decode(&sealed.encapsulation).unwrap();
    let envelope = Envelope {
        encapsulation: Encapsulation::decode(&encapsulation).unwrap().digest(),
        wrapped: STANDARD
            .decode(&sealed.wrapped)
            .unwrap()
            .try_into()
            .unwrap(),
    };
    let digest = envelope.digest(&sealed.record, sealed.version);
    assert_eq!(leaf.envelope_digest, B256::new(digest));
    assert_eq!(leaf.category_slot, root().slot_of(6).unwrap());
}

#[test]
fn browsers_and_this_crate_agree() {
    let written = std::env::var_os("STELE_WRITE_VECTORS").is_some();
    let text = std::fs::read_to_string(FILE).unwrap_or_else(|_| "{}".into());
    let mut vectors: Value = serde_json::from_str(&text).unwrap();
    if written {
        vectors["derived"] = derived();
        vectors["content"] = CONTENT.into();
        vectors["records"] = json!([
            sealed(RecordId(B256::repeat_byte(11)), 1, Encoding::Plain),
            sealed(RecordId(B256::repeat_byte(12)), 2, Encoding::Deflate),
        ]);
        let text = serde_json::to_string_pretty(&vectors).unwrap();
        std::fs::write(FILE, text + "\n").unwrap();
    }
    assert_eq!(vectors["derived"], derived());
    let records = vectors["records"].as_array().unwrap();
    assert_eq!(records.len(), 2);
    for record in records {
        let sealed: SealedRecord = serde_json::from_value(record["sealed"].clone()).unwrap();
        let leaf: LeafPreimage = serde_json::from_value(record["leaf"].clone()).unwrap();
        let content = sealed.open(&root()).unwrap();
        assert_eq!(&**content, CONTENT.as_bytes());
        sealed.matches(&content, &leaf.content).unwrap();
    }
    if written {
        return;
    }
    let browser = &vectors["browser"];
    let bytes = |name: &str| STANDARD.decode(browser[name].as_str().unwrap()).unwrap();
    let (account, secret) = grantee();
    let grant = Grant::decode(&bytes("grant")).unwrap();
    let keys = grant.open(account, &secret).unwrap();
    let place = KeyPlace {
        log: log(),
        slot: root().slot_of(9).unwrap(),
        generation: 2,
        epoch: 640,
    };
    let expected = root().category(9, 2).leaf(640).unwrap();
    assert_eq!(keys.secret(&place).unwrap().seed(), expected.seed());
    assert_eq!((keys.category, grant.epochs), (9, 600..=650));
    let directory = Directory::decode(&bytes("directory")).unwrap();
    let own = Directory::derive(&root(), log(), &[(3, 0), (5, 2)], 680, 24).unwrap();
    assert_eq!(directory, own);
    for entry in browser["entries"].as_array().unwrap() {
        own_entry(entry);
    }
    let opened = hpke::open(
        &secret,
        b"stele/claim/v1",
        account.as_slice(),
        &bytes("message"),
    );
    assert_eq!(&**opened.unwrap(), b"a root key");
}
