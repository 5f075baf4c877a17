//! EIP-712 typed data as tools hand it to `eth_signTypedData_v4`: an object, or its text.

use alloy_dyn_abi::{TypedData, eip712::Resolver};
use alloy_primitives::{B256, keccak256};
use serde::Deserialize;
use serde_json::Value;

use crate::rpc::error::{RpcResult, invalid_params};

/// What is signed: the type of the message, its value, and whom it is for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    types: Resolver,
    primary_type: String,
    #[serde(default)]
    domain: Value,
    #[serde(default)]
    message: Value,
}

/// Hash that is signed for typed data (EIP-712): `keccak256(0x1901 ‖ domain separator ‖ hashStruct(message))`. The
/// separator is that of the domain type as it is declared, as wallets compute it.
pub(super) fn signing_hash(typed: Value) -> RpcResult<B256> {
    let asked: Asked = match typed {
        Value::String(text) => serde_json::from_str(&text),
        object => serde_json::from_value(object),
    }
    .map_err(refused)?;
    let Asked {
        mut types,
        primary_type,
        domain,
        message,
    } = asked;
    if !types.contains_type_name(DOMAIN) {
        types.ingest_string(domain_type(&domain)).map_err(refused)?;
    }
    let separator = struct_hash(&types, DOMAIN, domain)?;
    let mut bytes = vec![0x19, 0x01];
    bytes.extend(separator);
    // A message that is only a domain is its separator, as eth-sig-util has it.
    if primary_type != DOMAIN {
        bytes.extend(struct_hash(&types, &primary_type, message)?);
    }
    Ok(keccak256(bytes))
}

/// `hashStruct` of a value of one of the types.
fn struct_hash(types: &Resolver, name: &str, value: Value) -> RpcResult<B256> {
    let data = TypedData {
        domain: alloy_sol_types::Eip712Domain::default(),
        resolver: types.clone(),
        primary_type: name.to_owned(),
        message: value,
    };
    data.hash_struct().map_err(refused)
}

/// The domain's type where none is declared: the fields it has, in the order of the EIP.
fn domain_type(domain: &Value) -> String {
    let fields: Vec<&str> = [
        ("name", "string name"),
        ("version", "string version"),
        ("chainId", "uint256 chainId"),
        ("verifyingContract", "address verifyingContract"),
        ("salt", "bytes32 salt"),
    ]
    .into_iter()
    .filter(|(field, _)| domain.get(field).is_some_and(|value| !value.is_null()))
    .map(|(_, declared)| declared)
    .collect();
    format!("{DOMAIN}({})", fields.join(","))
}

fn refused(error: impl std::fmt::Display) -> jsonrpsee::types::ErrorObjectOwned {
    invalid_params(format!("invalid argument 1 `typedData`: {error}"))
}

const DOMAIN: &str = "EIP712Domain";

#[cfg(test)]
mod tests {
    use alloy_primitives::b256;
    use serde_json::json;

    use super::*;

    fn mail() -> Value {
        json!({
            "types": {
                "EIP712Domain": [
                    { "name": "name", "type": "string" },
                    { "name": "version", "type": "string" },
                    { "name": "chainId", "type": "uint256" },
                    { "name": "verifyingContract", "type": "address" }
                ],
                "Person": [
                    { "name": "name", "type": "string" },
                    { "name": "wallet", "type": "address" }
                ],
                "Mail": [
                    { "name": "from", "type": "Person" },
                    { "name": "to", "type": "Person" },
                    { "name": "contents", "type": "string" }
                ]
            },
            "primaryType": "Mail",
            "domain": {
                "name": "Ether Mail",
                "version": "1",
                "chainId": 1,
                "verifyingContract": "0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC"
            },
            "message": {
                "from": { "name": "Cow", "wallet": "0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826" },
                "to": { "name": "Bob", "wallet": "0xbBbBBBBbbBBBbbbBbbBbbbbBBbBbbbbBbBbbBBbB" },
                "contents": "Hello, Bob!"
            }
        })
    }

    /// The example of EIP-712 itself, with the digest that its reference code gives.
    const MAIL: B256 = b256!("0xbe609aee343fb3c4b28e1df9e632fca64fcfaede20f02e86244efddf30957bd2");

    #[test]
    fn the_example_of_the_eip() {
        assert_eq!(signing_hash(mail()).expect("a hash"), MAIL);
        let text = Value::String(mail().to_string());
        assert_eq!(signing_hash(text).expect("a hash"), MAIL);
    }

    #[test]
    fn an_undeclared_domain_is_the_fields_it_has() {
        let mut typed = mail();
        typed["types"]
            .as_object_mut()
            .expect("types")
            .remove(DOMAIN);
        assert_eq!(signing_hash(typed.clone()).expect("a hash"), MAIL);
        typed["domain"]["chainId"] = json!("0x1");
        assert_eq!(signing_hash(typed).expect("a hash"), MAIL);
    }

    #[test]
    fn what_cannot_be_signed_is_refused_in_words() {
        let mut unknown = mail();
        unknown["primaryType"] = json!("Letter");
        let mut wrong = mail();
        wrong["message"]["from"]["wallet"] = json!("nobody");
        let mut endless = mail();
        endless["types"]["Person"] = json!([{ "name": "mail", "type": "Mail" }]);
        for typed in [unknown, wrong, endless, json!("{"), json!(1), Value::Null] {
            let error = signing_hash(typed).expect_err("refused");
            assert_eq!(error.code(), -32602);
            assert!(error.message().contains("`typedData`"), "{error}");
        }
    }
}
