//! Every method: its shape, and what it refuses.

use alloy_consensus::{SignableTransaction as _, TxEip2930, TxLegacy};
use alloy_eips::{Encodable2718 as _, eip2930::AccessList};
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, hex, keccak256};
use alloy_sol_types::{Panic, PanicKind, Revert, SolError as _};
use serde_json::{Value, json};
use stele_core::{
    account::{AccountKey, UnsignedCall},
    crypto::{Secret32, webauthn::Assertion},
    tx::{AccountCall, AccountSignature, AccountTransaction, Transaction},
};
use stele_gateway::rpc::RpcConfig;

use super::{
    Server,
    ledger::{BROKEN, CHAIN_ID, HALTS, REVERTS, TOPIC},
};

pub(super) fn key() -> AccountKey {
    AccountKey::new(Secret32::new([7; 32])).unwrap()
}

/// A signed EIP-1559 transaction.
pub(super) fn transfer(nonce: u64, input: &'static [u8]) -> Bytes {
    let to = TxKind::Call(Address::repeat_byte(0x42));
    let input = Bytes::from_static(input);
    key()
        .sign(UnsignedCall {
            chain_id: CHAIN_ID,
            nonce,
            gas_limit: 50_000,
            to,
            input,
        })
        .unwrap()
}

fn legacy(nonce: u64) -> Bytes {
    let tx = TxLegacy {
        chain_id: Some(CHAIN_ID),
        nonce,
        gas_price: 9,
        gas_limit: 50_000,
        to: TxKind::Create,
        value: U256::ZERO,
        input: Bytes::from_static(&[0x60]),
    };
    let signature = key().sign_hash(tx.signature_hash()).unwrap();
    tx.into_signed(signature).encoded_2718().into()
}

fn with_access_list(nonce: u64) -> Bytes {
    let tx = TxEip2930 {
        chain_id: CHAIN_ID,
        nonce,
        gas_price: 0,
        gas_limit: 50_000,
        to: TxKind::Call(Address::ZERO),
        value: U256::from(3),
        access_list: AccessList::default(),
        input: Bytes::new(),
    };
    let signature = key().sign_hash(tx.signature_hash()).unwrap();
    tx.into_signed(signature).encoded_2718().into()
}

/// An account transaction signed by a passkey; the ledger in memory takes it without looking at the signature.
fn by_passkey() -> Transaction {
    let call = AccountCall {
        chain_id: CHAIN_ID,
        account: Address::repeat_byte(9),
        nonce: 4,
        gas_limit: 70_000,
        to: Address::repeat_byte(0x42),
        input: Bytes::from_static(&[1, 2]),
    };
    let signature = AccountSignature::WebAuthn(Assertion {
        authenticator_data: Bytes::from_static(&[0; 37]),
        client_data_json: Bytes::from_static(b"{}"),
        r: B256::repeat_byte(0x31),
        s: B256::repeat_byte(0x32),
        x: B256::ZERO,
        y: B256::ZERO,
    });
    Transaction::Account(Box::new(AccountTransaction { call, signature }))
}

async fn send(server: &Server, transaction: &Bytes) -> String {
    let hash = server
        .ask("eth_sendRawTransaction", json!([transaction]))
        .await;
    hash.as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_node_says_what_it_is() {
    let server = Server::start().await;
    for (method, expected) in [
        ("eth_chainId", json!("0xe1e7")),
        ("net_version", json!("57831")),
        ("net_listening", json!(true)),
        ("net_peerCount", json!("0x0")),
        ("eth_syncing", json!(false)),
        ("eth_accounts", json!([])),
        ("eth_gasPrice", json!("0x0")),
        ("eth_maxPriorityFeePerGas", json!("0x0")),
        ("eth_blockNumber", json!("0x0")),
        ("txpool_status", json!({"pending": "0x2", "queued": "0x1"})),
        (
            "rpc_modules",
            json!({
                "debug": "1.0", "eth": "1.0", "net": "1.0", "rpc": "1.0", "txpool": "1.0", "web3": "1.0",
            }),
        ),
    ] {
        assert_eq!(server.ask(method, json!([])).await, expected, "{method}");
    }
    let version = server.ask("web3_clientVersion", json!([])).await;
    assert!(version.as_str().unwrap().starts_with("Stele/v"));
    assert_eq!(
        server.ask("web3_sha3", json!(["0x68656c6c6f"])).await,
        json!(keccak256(b"hello"))
    );
    let (code, _) = server.refused("eth_sign", json!([])).await;
    assert_eq!(code, -32601);
}

#[tokio::test]
async fn blocks_have_every_field_libraries_want() {
    let server = Server::start().await;
    let hash = send(&server, &transfer(0, b"\x01")).await;
    let block = server
        .ask("eth_getBlockByNumber", json!(["latest", false]))
        .await;
    let genesis = server
        .ask("eth_getBlockByNumber", json!(["earliest", false]))
        .await;
    assert_eq!(block["number"], "0x1");
    assert_eq!(block["parentHash"], genesis["hash"]);
    assert_eq!(block["mixHash"], genesis["hash"]);
    // 1 767 225 601 999 ms in whole seconds.
    assert_eq!(block["timestamp"], format!("{:#x}", 1_767_225_601));
    assert_eq!(block["transactions"], json!([hash]));
    assert_eq!(block["gasUsed"], "0x5208");
    assert_eq!(block["extraData"], json!(B256::repeat_byte(0x11)));
    for zero in ["difficulty", "baseFeePerGas"] {
        assert_eq!(block[zero], "0x0", "{zero}");
    }
    assert_eq!(block["nonce"], "0x0000000000000000");
    assert_eq!(block["sha3Uncles"], json!(keccak256([0xc0])));
    assert_eq!(block["uncles"], json!([]));
    assert_eq!(block["size"], "0x2bc");
    assert_eq!(block["logsBloom"].as_str().unwrap().len(), 514);
    for field in [
        "stateRoot",
        "transactionsRoot",
        "receiptsRoot",
        "miner",
        "gasLimit",
    ] {
        assert!(block[field].is_string(), "{field}");
    }
    for absent in [
        "parentBeaconBlockRoot",
        "withdrawals",
        "withdrawalsRoot",
        "blobGasUsed",
    ] {
        assert!(block.get(absent).is_none(), "{absent}");
    }
}

#[tokio::test]
async fn blocks_are_found_by_every_name() {
    let server = Server::start().await;
    let hash = send(&server, &transfer(0, b"\x01")).await;
    let block = server
        .ask("eth_getBlockByNumber", json!(["latest", false]))
        .await;
    let genesis = server
        .ask("eth_getBlockByNumber", json!(["earliest", false]))
        .await;
    for same in [
        server
            .ask("eth_getBlockByHash", json!([block["hash"], false]))
            .await,
        server
            .ask("eth_getBlockByNumber", json!(["pending", false]))
            .await,
        server.ask("eth_getBlockByNumber", json!(["0x1"])).await,
        server
            .ask(
                "eth_getBlockByNumber",
                json!([{"blockHash": block["hash"]}, false]),
            )
            .await,
    ] {
        assert_eq!(same, block);
    }
    let full = server
        .ask("eth_getBlockByNumber", json!(["latest", true]))
        .await;
    assert_eq!(full["transactions"][0]["hash"], json!(hash));
    assert_eq!(full["transactions"][0]["from"], json!(key().address()));

    assert_eq!(
        server
            .ask("eth_getBlockByNumber", json!(["0x99", true]))
            .await,
        Value::Null
    );
    assert_eq!(
        server
            .ask("eth_getBlockByHash", json!([B256::ZERO, false]))
            .await,
        Value::Null
    );
    let count = "eth_getBlockTransactionCountByNumber";
    assert_eq!(server.ask(count, json!(["0x1"])).await, "0x1");
    assert_eq!(server.ask(count, json!(["0x99"])).await, Value::Null);
    let count = "eth_getBlockTransactionCountByHash";
    assert_eq!(server.ask(count, json!([genesis["hash"]])).await, "0x0");
    assert_eq!(
        server
            .ask("eth_getUncleCountByBlockNumber", json!(["0x1"]))
            .await,
        "0x0"
    );
    let (code, text) = server
        .refused("eth_getBlockByNumber", json!(["0xzz", false]))
        .await;
    assert_eq!(code, -32602);
    assert!(text.starts_with("invalid argument 0 `block`"), "{text}");
}

#[tokio::test]
async fn transactions_have_the_fields_of_their_type() {
    let server = Server::start().await;
    let dynamic = send(&server, &transfer(0, b"\xab")).await;
    let tx = server
        .ask("eth_getTransactionByHash", json!([dynamic]))
        .await;
    assert_eq!(tx["type"], "0x2");
    assert_eq!(tx["input"], "0xab");
    assert_eq!(tx["blockNumber"], "0x1");
    assert_eq!(tx["transactionIndex"], "0x0");
    assert_eq!(tx["maxFeePerGas"], "0x0");
    assert_eq!(tx["chainId"], "0xe1e7");
    assert_eq!(tx["accessList"], json!([]));
    assert_eq!(tx["v"], tx["yParity"]);

    let legacy = send(&server, &legacy(1)).await;
    let tx = server
        .ask("eth_getTransactionByHash", json!([legacy]))
        .await;
    assert_eq!(tx["type"], "0x0");
    assert_eq!(tx["to"], Value::Null);
    assert_eq!(tx["gasPrice"], "0x9");
    let v = u64::from_str_radix(&tx["v"].as_str().unwrap()[2..], 16).unwrap();
    assert!(v == 35 + 2 * CHAIN_ID || v == 36 + 2 * CHAIN_ID, "{v}");
    for absent in ["yParity", "accessList", "maxFeePerGas", "signatureKind"] {
        assert!(tx.get(absent).is_none(), "{absent}");
    }

    let listed = send(&server, &with_access_list(2)).await;
    let tx = server
        .ask("eth_getTransactionByHash", json!([listed]))
        .await;
    assert_eq!((&tx["type"], &tx["value"]), (&json!("0x1"), &json!("0x3")));
    assert_eq!(tx["accessList"], json!([]));

    let at = json!(["0x1", "0x0"]);
    let by_index = server
        .ask("eth_getTransactionByBlockNumberAndIndex", at)
        .await;
    assert_eq!(by_index["hash"], json!(dynamic));
    let at = json!([by_index["blockHash"], "0x0"]);
    assert_eq!(
        server
            .ask("eth_getTransactionByBlockHashAndIndex", at)
            .await,
        by_index
    );
    let at = json!(["0x1", "0x1"]);
    assert_eq!(
        server
            .ask("eth_getTransactionByBlockNumberAndIndex", at)
            .await,
        Value::Null
    );
    assert_eq!(
        server
            .ask("eth_getTransactionByHash", json!([B256::ZERO]))
            .await,
        Value::Null
    );
    let raw = server
        .ask("eth_getRawTransactionByHash", json!([dynamic]))
        .await;
    assert_eq!(raw, json!(transfer(0, b"\xab")));
}

#[tokio::test]
async fn passkey_transactions_show_a_signature_libraries_can_read() {
    let server = Server::start().await;
    let transaction = by_passkey();
    let hash = transaction.hash();
    server
        .ledger
        .finalize(&[(transaction, Address::repeat_byte(9))]);
    let tx = server.ask("eth_getTransactionByHash", json!([hash])).await;
    assert_eq!(tx["type"], "0x5e");
    assert_eq!(tx["from"], json!(Address::repeat_byte(9)));
    assert_eq!(tx["r"], json!(B256::repeat_byte(0x31)));
    assert_eq!(tx["s"], json!(B256::repeat_byte(0x32)));
    assert_eq!((&tx["v"], &tx["yParity"]), (&json!("0x0"), &json!("0x0")));
    assert_eq!(tx["signatureKind"], "webauthn");
    assert_eq!(tx["gasPrice"], "0x0");
    let receipt = server.ask("eth_getTransactionReceipt", json!([hash])).await;
    assert_eq!(
        (&receipt["type"], &receipt["status"]),
        (&json!("0x5e"), &json!("0x1"))
    );
}

#[tokio::test]
async fn receipts_say_what_happened() {
    let server = Server::start().await;
    let hash = send(&server, &legacy(0)).await;
    let receipt = server.ask("eth_getTransactionReceipt", json!([hash])).await;
    let created = json!(key().address().create(0));
    assert_eq!(receipt["contractAddress"], created);
    assert_eq!(receipt["to"], Value::Null);
    assert_eq!(receipt["status"], "0x1");
    assert_eq!(receipt["effectiveGasPrice"], "0x0");
    assert_eq!(receipt["cumulativeGasUsed"], "0x5208");
    let log = &receipt["logs"][0];
    assert_eq!(log["address"], created);
    assert_eq!(log["topics"], json!([TOPIC, key().address().into_word()]));
    assert_eq!(log["removed"], false);
    assert_eq!(log["transactionHash"], json!(hash));
    assert_ne!(receipt["logsBloom"], json!(alloy_primitives::Bloom::ZERO));
    let of_block = server.ask("eth_getBlockReceipts", json!(["latest"])).await;
    assert_eq!(of_block, json!([receipt]));
    let of_block = server
        .ask("eth_getBlockReceipts", json!([receipt["blockHash"]]))
        .await;
    assert_eq!(of_block, json!([receipt]));
    assert_eq!(
        server
            .ask("eth_getTransactionReceipt", json!([B256::ZERO]))
            .await,
        Value::Null
    );
}

#[tokio::test]
async fn transactions_are_refused_in_words() {
    let server = Server::start().await;
    let good = transfer(0, b"");
    send(&server, &good).await;
    let refused = server
        .refused("eth_sendRawTransaction", json!([good]))
        .await;
    assert_eq!(refused, (-32000, "already known".to_owned()));
    for (bytes, words) in [
        (Bytes::new(), "malformed transaction"),
        (
            Bytes::from_static(&[0xc0]),
            "malformed transaction: input too short",
        ),
        (
            Bytes::from_static(&[0, 0xc0]),
            "a list and has no type byte",
        ),
        (
            Bytes::from_static(&[3]),
            "transaction type 0x03 is not supported",
        ),
        (
            good[..good.len() - 1].to_vec().into(),
            "malformed transaction",
        ),
        (vec![0; 300 * 1024].into(), "over the limit"),
    ] {
        let (code, text) = server
            .refused("eth_sendRawTransaction", json!([bytes]))
            .await;
        assert_eq!(code, -32000);
        assert!(text.contains(words), "{text}");
    }
    let (code, text) = server
        .refused("eth_sendRawTransaction", json!(["0xabc"]))
        .await;
    assert_eq!(code, -32602);
    assert!(text.contains("`transaction`"), "{text}");
    let (code, text) = server.refused("eth_sendRawTransaction", json!([])).await;
    assert_eq!(
        (code, &*text),
        (-32602, "missing value for argument 0 `transaction`")
    );
}

#[tokio::test]
async fn state_is_read_at_the_latest_block() {
    let server = Server::start().await;
    send(&server, &transfer(0, b"")).await;
    let me = key().address();
    assert_eq!(
        server.ask("eth_getBalance", json!([me, "latest"])).await,
        "0x5"
    );
    assert_eq!(server.ask("eth_getBalance", json!([me])).await, "0x5");
    assert_eq!(
        server.ask("eth_getBalance", json!([me, "pending"])).await,
        "0x5"
    );
    assert_eq!(server.ask("eth_getCode", json!([me, "0x1"])).await, "0xfe");
    assert_eq!(
        server
            .ask("eth_getTransactionCount", json!([me, "latest"]))
            .await,
        "0x1"
    );
    assert_eq!(
        server
            .ask("eth_getTransactionCount", json!([me, "pending"]))
            .await,
        "0x2"
    );
    let slot = server
        .ask("eth_getStorageAt", json!([me, "0x1", "latest"]))
        .await;
    let padded = server
        .ask(
            "eth_getStorageAt",
            json!([me, B256::with_last_byte(1), "latest"]),
        )
        .await;
    assert_eq!(slot, padded);
    assert_eq!(slot.as_str().unwrap().len(), 66);

    let (code, text) = server.refused("eth_getBalance", json!([me, "0x0"])).await;
    assert_eq!(code, -32001);
    assert!(text.contains("only the latest is kept"), "{text}");
    let (code, text) = server.refused("eth_getBalance", json!(["0x1234"])).await;
    assert_eq!(code, -32602);
    assert!(text.contains("`address`"), "{text}");
    let (code, text) = server
        .refused("eth_getBalance", json!([me, "latest", 1]))
        .await;
    assert_eq!(
        (code, &*text),
        (-32602, "too many arguments, want at most 2")
    );
}

#[tokio::test]
async fn proofs_come_as_eip_1186_has_them() {
    let server = Server::start().await;
    let me = key().address();
    let long = B256::with_last_byte(2);
    let proof = server
        .ask("eth_getProof", json!([me, ["0x1", long], "latest"]))
        .await;
    assert_eq!(proof["address"], json!(me));
    assert_eq!(proof["accountProof"], json!(["0xc1"]));
    assert_eq!(proof["balance"], "0x5");
    assert_eq!(proof["nonce"], "0x0");
    assert_eq!(proof["codeHash"], json!(keccak256([0xfe])));
    assert_eq!(proof["storageHash"], json!(B256::ZERO));
    let expected = json!([
        {"key": "0x1", "value": "0x1", "proof": ["0xc0"]},
        {"key": long, "value": "0x2", "proof": ["0xc0"]},
    ]);
    assert_eq!(proof["storageProof"], expected);
    let many = vec!["0x1"; 1_025];
    assert_eq!(
        server
            .refused("eth_getProof", json!([me, many, "latest"]))
            .await
            .0,
        -32005
    );
}

#[tokio::test]
async fn calls_return_revert_or_halt() {
    let server = Server::start().await;
    let to = Address::repeat_byte(0x42);
    let call = json!([{"to": to, "data": "0x0102"}, "latest"]);
    assert_eq!(server.ask("eth_call", call).await, "0x0102");
    assert_eq!(
        server
            .ask("eth_call", json!([{"data": "0x0102"}, "latest", {}]))
            .await,
        "0x0102"
    );
    let estimate = json!([{"to": to, "input": "0x0102"}]);
    assert_eq!(server.ask("eth_estimateGas", estimate).await, "0x520a");

    let reason = Revert::from("not the owner").abi_encode();
    let panic = Panic::from(PanicKind::UnderOverflow).abi_encode();
    for (data, words) in [
        (reason, "execution reverted: not the owner"),
        (
            panic,
            "execution reverted: panic: arithmetic underflow or overflow (0x11)",
        ),
        (
            vec![0xde, 0xad, 0xbe, 0xef, 1],
            "execution reverted: custom error 0xdeadbeef",
        ),
        (Vec::new(), "execution reverted"),
    ] {
        let data = hex::encode_prefixed(data);
        for method in ["eth_call", "eth_estimateGas"] {
            let params = json!([{"to": REVERTS, "data": data}, "latest"]);
            let answer = server.http.call(method, params).await;
            assert_eq!(
                answer["error"],
                json!({"code": 3, "message": words, "data": data})
            );
        }
    }
    let (code, text) = server
        .refused("eth_call", json!([{"to": HALTS}, "latest"]))
        .await;
    assert_eq!((code, &*text), (-32000, "execution failed: out of gas"));
    let overrides = json!([{"to": to}, "latest", {to.to_string(): {"balance": "0x1"}}]);
    let (code, text) = server.refused("eth_call", overrides).await;
    assert_eq!(code, -32602);
    assert!(text.contains("`stateOverrides`"), "{text}");
}

#[tokio::test]
async fn faults_of_ours_are_not_told_to_callers() {
    let server = Server::start().await;
    let refused = server
        .refused("eth_call", json!([{"to": BROKEN}, "latest"]))
        .await;
    assert_eq!(refused, (-32603, "internal error".to_owned()));
}

#[tokio::test]
async fn fees_are_zero_for_all_history() {
    let server = Server::start().await;
    send(&server, &transfer(0, b"")).await;
    let history = server
        .ask("eth_feeHistory", json!(["0x5", "latest", [25.0, 75]]))
        .await;
    assert_eq!(history["oldestBlock"], "0x0");
    assert_eq!(history["baseFeePerGas"], json!(["0x0", "0x0", "0x0"]));
    assert_eq!(history["reward"], json!([["0x0", "0x0"], ["0x0", "0x0"]]));
    assert_eq!(
        history["gasUsedRatio"],
        json!([0.0, 21_000.0 / 60_000_000.0])
    );
    let history = server.ask("eth_feeHistory", json!(["0x1", "0x0"])).await;
    assert_eq!(history["gasUsedRatio"], json!([0.0]));
    assert!(history.get("reward").is_none());
    for percentiles in [json!([101]), json!([50, 10]), json!([-1])] {
        let (code, text) = server
            .refused("eth_feeHistory", json!(["0x1", "latest", percentiles]))
            .await;
        assert_eq!(code, -32602);
        assert!(text.contains("`rewardPercentiles`"), "{text}");
    }
}

#[tokio::test]
async fn logs_are_found_by_range_hash_address_and_topic() {
    let server = Server::with(RpcConfig {
        log_limit: 3,
        ..RpcConfig::default()
    })
    .await;
    for nonce in 0..3 {
        send(&server, &transfer(nonce, b"\x01")).await;
    }
    let logs = |filter: Value| server.ask("eth_getLogs", json!([filter]));
    let all = logs(json!({"fromBlock": "earliest", "toBlock": "latest"})).await;
    assert_eq!(all.as_array().unwrap().len(), 3);
    assert_eq!(all[2]["blockNumber"], "0x3");
    assert_eq!(all[2]["data"], "0x01");
    let by_hash = logs(json!({"blockHash": all[1]["blockHash"]})).await;
    assert_eq!(by_hash, json!([all[1]]));
    // Without a range it is the latest block alone.
    assert_eq!(logs(json!({"topics": [TOPIC]})).await, json!([all[2]]));
    let nobody = B256::with_last_byte(1);
    let range =
        json!({"fromBlock": "0x0", "topics": [null, [nobody, key().address().into_word()]]});
    assert_eq!(logs(range).await, all);
    assert_eq!(
        logs(json!({"fromBlock": "0x0", "topics": [nobody]})).await,
        json!([])
    );
    assert_eq!(
        logs(json!({"fromBlock": "0x0", "address": Address::ZERO})).await,
        json!([])
    );
    assert_eq!(logs(json!({"fromBlock": "0x9"})).await, json!([]));

    let reversed = json!([{"fromBlock": "0x2", "toBlock": "0x1"}]);
    assert_eq!(server.refused("eth_getLogs", reversed).await.0, -32602);
    let unknown = json!([{"blockHash": B256::ZERO}]);
    let refused = server.refused("eth_getLogs", unknown).await;
    assert_eq!(refused, (-32000, "unknown block".to_owned()));
    send(&server, &transfer(3, b"")).await;
    let (code, text) = server
        .refused("eth_getLogs", json!([{"fromBlock": "0x0"}]))
        .await;
    assert_eq!(code, -32005);
    assert!(text.contains("more than 3"), "{text}");
}

#[tokio::test]
async fn filters_tell_what_is_new() {
    let server = Server::with(RpcConfig {
        log_limit: 2,
        ..RpcConfig::default()
    })
    .await;
    send(&server, &transfer(0, b"")).await;
    let logs = server
        .ask(
            "eth_newFilter",
            json!([{"fromBlock": "0x0", "topics": [TOPIC]}]),
        )
        .await;
    let blocks = server.ask("eth_newBlockFilter", json!([])).await;
    let transactions = server
        .ask("eth_newPendingTransactionFilter", json!([]))
        .await;
    let changes = |id: &Value| server.ask("eth_getFilterChanges", json!([id]));
    for id in [&logs, &blocks, &transactions] {
        assert_eq!(changes(id).await, json!([]));
    }
    let mut sent = Vec::new();
    for nonce in 1..5 {
        sent.push(send(&server, &transfer(nonce, b"")).await);
    }
    assert_eq!(changes(&transactions).await, json!(sent));
    assert_eq!(changes(&blocks).await.as_array().unwrap().len(), 4);
    // Four logs are more than one answer takes: none is lost.
    let mut told = Vec::new();
    for _ in 0..2 {
        for log in changes(&logs).await.as_array().unwrap() {
            told.push(log["transactionHash"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(told, sent);
    assert_eq!(changes(&logs).await, json!([]));
    assert_eq!(
        server.refused("eth_getFilterLogs", json!([logs])).await.0,
        -32005
    );
    assert_eq!(
        server.refused("eth_getFilterLogs", json!([blocks])).await.0,
        -32000
    );
    let one = server
        .ask(
            "eth_newFilter",
            json!([{"fromBlock": "0x1", "toBlock": "0x1"}]),
        )
        .await;
    let found = server.ask("eth_getFilterLogs", json!([one])).await;
    assert_eq!(found.as_array().unwrap().len(), 1);

    assert_eq!(server.ask("eth_uninstallFilter", json!([logs])).await, true);
    assert_eq!(
        server.ask("eth_uninstallFilter", json!([logs])).await,
        false
    );
    let refused = server.refused("eth_getFilterChanges", json!([logs])).await;
    assert_eq!(refused, (-32000, "filter not found".to_owned()));
    assert_eq!(
        server
            .refused("eth_getFilterChanges", json!(["nonsense"]))
            .await
            .0,
        -32000
    );
}

#[tokio::test]
async fn batches_are_answered_one_by_one() {
    let server = Server::with(RpcConfig {
        max_batch: 3,
        ..RpcConfig::default()
    })
    .await;
    let batch = json!([
        {"jsonrpc": "2.0", "id": "a", "method": "eth_chainId"},
        {"jsonrpc": "2.0", "id": 2, "method": "eth_nothing", "params": []},
        {"jsonrpc": "2.0", "id": 3, "method": "eth_getBalance", "params": ["0x"]},
    ]);
    let localhost = [("host", "localhost")];
    let answer = server.http.post(&batch.to_string(), &localhost).await;
    let answers: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(answers[0]["result"], "0xe1e7");
    assert_eq!(answers[0]["id"], "a");
    assert_eq!(answers[1]["error"]["code"], -32601);
    assert_eq!(answers[2]["error"]["code"], -32602);
    let four = json!(vec![batch[0].clone(); 4]);
    let answer = server.http.post(&four.to_string(), &localhost).await;
    let answer: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(answer["error"]["code"], -32010);
    for (text, code) in [("{", -32700), ("[]", -32600), (r#"{"id":1}"#, -32600)] {
        let answer = server.http.post(text, &localhost).await;
        let answer: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(answer["error"]["code"], code, "{text}");
    }
}
