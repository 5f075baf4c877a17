//! Calls, events and errors of the system contracts in words, by their published ABIs.

use std::{collections::BTreeMap, sync::LazyLock};

use alloy_dyn_abi::{DynSolValue, ErrorExt as _, EventExt as _, JsonAbiExt as _};
use alloy_json_abi::{Event, Function, JsonAbi, Param};
use alloy_primitives::{Address, Log, Selector, hex};
use stele_core::id::{AUDIT, CONSENT, EMERGENCY, GOVERNANCE, IDENTITY, PRESCRIPTIONS, RECORDS};

/// A call, an event or an error: its name, and what goes with it by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decoded {
    pub(super) name: String,
    pub(super) values: Vec<(String, String)>,
}

macro_rules! contracts {
    ($($address:ident $name:literal),* $(,)?) => {
        [$((
            $address,
            $name,
            include_str!(concat!("../../../../contracts/abi/I", $name, ".json")),
        )),*]
    };
}

static CONTRACTS: LazyLock<BTreeMap<Address, (&'static str, JsonAbi)>> = LazyLock::new(|| {
    contracts![
        IDENTITY "Identity", RECORDS "Records", CONSENT "Consent", AUDIT "Audit",
        PRESCRIPTIONS "Prescriptions", EMERGENCY "Emergency", GOVERNANCE "Governance",
    ]
    .into_iter()
    .filter_map(|(address, name, text)| Some((address, (name, serde_json::from_str(text).ok()?))))
    .collect()
});

/// What every system contract may answer with.
static SYSTEM: LazyLock<JsonAbi> = LazyLock::new(|| {
    let text = include_str!("../../../../contracts/abi/ISystem.json");
    serde_json::from_str(text).unwrap_or_default()
});

/// The system contracts by address, with their names.
pub(super) fn contracts() -> impl Iterator<Item = (Address, &'static str)> {
    CONTRACTS
        .iter()
        .map(|(address, (name, _))| (*address, *name))
}

/// Name of a system contract.
pub(super) fn name(address: Address) -> Option<&'static str> {
    CONTRACTS.get(&address).map(|(name, _)| *name)
}

/// A call of a system contract; `None` for other contracts and for what is no call of its ABI.
pub(super) fn call(to: Address, input: &[u8]) -> Option<Decoded> {
    let (_, abi) = CONTRACTS.get(&to)?;
    let (selector, arguments) = input.split_first_chunk::<4>()?;
    let function: &Function = abi.function_by_selector(Selector::from(*selector))?;
    let values = function.abi_decode_input(arguments).ok()?;
    Some(decoded(&function.name, &function.inputs, &values))
}

/// An event of a system contract.
pub(super) fn event(log: &Log) -> Option<Decoded> {
    let (_, abi) = CONTRACTS.get(&log.address)?;
    let topic = log.topics().first()?;
    let event: &Event = abi.events().find(|event| event.selector() == *topic)?;
    let found = event
        .decode_log_parts(log.topics().iter().copied(), &log.data.data)
        .ok()?;
    let (mut indexed, mut body) = (found.indexed.into_iter(), found.body.into_iter());
    let values = event
        .inputs
        .iter()
        .map(|input| {
            let value = if input.indexed {
                indexed.next()
            } else {
                body.next()
            };
            (
                input.name.clone(),
                value.as_ref().map(text).unwrap_or_default(),
            )
        })
        .collect();
    Some(Decoded {
        name: event.name.clone(),
        values,
    })
}

/// What a call was refused with: an error of a system contract, or Solidity's own.
pub(super) fn error(output: &[u8]) -> Option<Decoded> {
    let selector = output.first_chunk::<4>()?;
    let known = CONTRACTS
        .values()
        .map(|(_, abi)| abi)
        .chain([&*SYSTEM])
        .flat_map(JsonAbi::errors)
        .find(|error| error.selector() == *selector);
    if let Some(error) = known {
        let values = error.decode_error(output).ok()?.body;
        return Some(decoded(&error.name, &error.inputs, &values));
    }
    let reason = alloy_sol_types::decode_revert_reason(output)?;
    Some(Decoded {
        name: reason,
        values: Vec::new(),
    })
}

fn decoded(name: &str, inputs: &[Param], values: &[DynSolValue]) -> Decoded {
    Decoded {
        name: name.to_owned(),
        values: inputs
            .iter()
            .zip(values)
            .map(|(input, value)| (input.name.clone(), text(value)))
            .collect(),
    }
}

/// A value as people write it.
fn text(value: &DynSolValue) -> String {
    let all = |values: &[DynSolValue]| values.iter().map(text).collect::<Vec<_>>().join(", ");
    match value {
        DynSolValue::Bool(value) => value.to_string(),
        DynSolValue::Int(value, _) => value.to_string(),
        DynSolValue::Uint(value, _) => value.to_string(),
        DynSolValue::FixedBytes(word, size) => {
            hex::encode_prefixed(word.get(..*size).unwrap_or_default())
        }
        DynSolValue::Address(address) => address.to_string(),
        DynSolValue::Function(function) => hex::encode_prefixed(function),
        DynSolValue::Bytes(bytes) => hex::encode_prefixed(bytes),
        DynSolValue::String(text) => text.clone(),
        DynSolValue::Array(values) | DynSolValue::FixedArray(values) => {
            format!("[{}]", all(values))
        }
        DynSolValue::Tuple(values) => format!("({})", all(values)),
        DynSolValue::CustomStruct {
            prop_names, tuple, ..
        } => {
            let fields: Vec<String> = prop_names
                .iter()
                .zip(tuple)
                .map(|(name, value)| format!("{name}: {}", text(value)))
                .collect();
            format!("({})", fields.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{B256, LogData, address};
    use alloy_sol_types::{SolCall as _, SolError as _, SolEvent as _};
    use stele_core::abi::identity::IIdentity;

    use super::*;

    const WHO: Address = address!("f39fd6e51aad88f6f4ce6ab8827279cfffb92266");

    #[test]
    fn every_published_abi_is_read() {
        assert_eq!(contracts().count(), 7);
        assert!(SYSTEM.errors().count() >= 3);
    }

    #[test]
    fn a_call_an_event_and_an_error_are_told_by_name() {
        let input = IIdentity::registerPatientCall {
            patient: WHO,
            directoryRoot: B256::repeat_byte(7),
        };
        let call = call(IDENTITY, &input.abi_encode()).expect("a call");
        assert_eq!(call.name, "registerPatient");
        assert_eq!(call.values[0], ("patient".into(), WHO.to_string()));
        let emitted = IIdentity::AccountClaimed {
            account: WHO,
            keyId: B256::repeat_byte(9),
        };
        let log = Log {
            address: IDENTITY,
            data: emitted.encode_log_data(),
        };
        let told = event(&log).expect("an event");
        assert_eq!(
            (told.name.as_str(), told.values.len()),
            ("AccountClaimed", 2)
        );
        let refused = IIdentity::NotAnOrganization { account: WHO }.abi_encode();
        let told = error(&refused).expect("an error");
        assert_eq!(told.values, [("account".to_owned(), WHO.to_string())]);
        // Solidity's own: Error(string).
        let reason = alloy_sol_types::Revert::from("too late").abi_encode();
        assert!(error(&reason).expect("a reason").name.contains("too late"));
    }

    #[test]
    fn what_is_not_understood_is_not_guessed() {
        assert_eq!(call(IDENTITY, &[1, 2, 3]), None);
        assert_eq!(call(IDENTITY, &[0xff; 40]), None);
        assert_eq!(
            call(WHO, &IIdentity::isActiveCall { who: WHO }.abi_encode()),
            None
        );
        assert_eq!(error(&[]), None);
        assert_eq!(error(&[0xff; 36]), None);
        let log = Log {
            address: IDENTITY,
            data: LogData::new_unchecked(Vec::new(), Vec::new().into()),
        };
        assert_eq!(event(&log), None);
    }
}
