use alloy_primitives::address;

use super::*;

const FILE: &str = r#"{
    "timestamp_ms": 1767225600000,
    "consortium": "Example",
    "organizations": [
        {"address": "0x00000000000000000000000000000000000000a1", "kind": 2},
        {"address": "0x00000000000000000000000000000000000000a2"}
    ],
    "validators": [{
        "key": "0x0101010101010101010101010101010101010101010101010101010101010101",
        "organization": "0x00000000000000000000000000000000000000a1"
    }],
    "parameters": {"block_gas_limit": 50000000},
    "deployers": ["0x00000000000000000000000000000000000000b1"],
    "alloc": {"0x00000000000000000000000000000000000000c1": {"balance": "0x5"}}
}"#;

fn example() -> Genesis {
    Genesis::from_json(FILE.as_bytes()).unwrap()
}

/// The same file gives the same chain everywhere.
#[test]
fn the_same_file_gives_the_same_first_block() {
    let (first, second) = (example().block().unwrap(), example().block().unwrap());
    assert_eq!(first, second);
    assert_eq!(first.header.gas_limit, 50_000_000);
    assert_eq!(first.header.number, 0);
    let again = Genesis::from_json(example().to_json().unwrap().as_bytes()).unwrap();
    assert_eq!(again, example());
    assert_eq!(again.block().unwrap().hash(), first.hash());
}

#[test]
fn every_difference_makes_another_chain() {
    type Change = fn(&mut Genesis);
    let changes: [Change; 10] = [
        |genesis| genesis.protocol = 2,
        |genesis| genesis.chain_id += 1,
        |genesis| genesis.timestamp_ms += 1,
        |genesis| genesis.consortium.push('!'),
        |genesis| {
            genesis.organizations.pop();
        },
        |genesis| genesis.organizations[0].kind = 3,
        |genesis| genesis.validators[0].key = B256::repeat_byte(2),
        |genesis| {
            genesis.parameters.insert("staleness_ms".into(), 5_000);
        },
        |genesis| genesis.deployers.clear(),
        |genesis| {
            let address = address!("0x00000000000000000000000000000000000000c2");
            genesis.alloc.insert(
                address,
                Allocation {
                    nonce: 1,
                    ..Allocation::default()
                },
            );
        },
    ];
    let mut hashes = vec![example().block().unwrap().hash()];
    for change in changes {
        let mut other = example();
        change(&mut other);
        hashes.push(other.block().unwrap().hash());
    }
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), 11);
}

#[test]
fn a_genesis_that_cannot_work_is_refused() {
    let cases = [
        (
            FILE.replace("\"consortium\"", "\"consortum\""),
            "unknown field `consortum`",
        ),
        (
            FILE.replace("block_gas_limit", "block_gas"),
            "is no parameter",
        ),
        (FILE.replace("50000000", "1"), "block_gas_limit"),
        (FILE.replacen("00a2", "00a1", 1), "named twice"),
        (
            FILE.replace("\"consortium\"", "\"open\": true, \"consortium\""),
            "consortium of one",
        ),
        (
            FILE.replace("\"0x5\"", "\"0x0\""),
            "without balance, nonce or code",
        ),
        (
            FILE.replace(
                "0x00000000000000000000000000000000000000c1",
                "0x5e1e000000000000000000000000000000000009",
            ),
            "an address of the system contracts",
        ),
        (
            FILE.replace("\"consortium\"", "\"protocol\": 3, \"consortium\""),
            "`protocol` is 3",
        ),
        ("{".into(), "EOF"),
    ];
    for (text, problem) in cases {
        let refused = Genesis::from_json(text.as_bytes()).and_then(|genesis| genesis.block());
        let error = refused.unwrap_err().to_string();
        assert!(error.contains(problem), "{error:?} should say {problem:?}");
    }
}

/// A chain begun before there were versions is read as it was written: the same text, the same contracts.
#[test]
fn a_genesis_without_protocol_is_of_the_first() {
    let first = example();
    assert_eq!(first.protocol, 1);
    assert!(!first.to_json().unwrap().contains("protocol"));
    let begun = |genesis: &Genesis| {
        let state = State::in_memory().unwrap();
        let block = genesis.begin(&state).unwrap();
        let view = state.view_on(block.hash()).unwrap();
        [contracts::ADDRESSES[0], stele_core::id::PRESCRIPTIONS]
            .map(|address| view.account(address).unwrap().map(|account| account.nonce))
    };
    assert_eq!(begun(&first), [Some(1), None]);
    let mut second = example();
    second.protocol = 2;
    assert_eq!(begun(&second), [Some(1), Some(1)]);
}
