//! Parameters: positional, checked one by one, and named in every complaint.

use std::{fmt, marker::PhantomData};

use alloy_primitives::{Address, B256, Bytes, U256};
use jsonrpsee::types::Params;
use serde::{
    Deserialize, Deserializer,
    de::{self, IntoDeserializer as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use stele_service::ports::{BlockRef, Call, LogFilter};

use super::error::{RpcResult, invalid_params, limit_exceeded};

/// The parameters of one call, taken in order.
pub(crate) struct Arguments<'a> {
    values: std::vec::IntoIter<&'a RawValue>,
    position: usize,
}

impl<'a> Arguments<'a> {
    /// # Errors
    /// Parameters that are not an array.
    pub(crate) fn read(params: &'a Params<'_>) -> RpcResult<Self> {
        let values: Vec<&RawValue> = match params.as_str() {
            None | Some("" | "null") => Vec::new(),
            Some(text) => serde_json::from_str(text)
                .map_err(|_| invalid_params("invalid params: an array is expected"))?,
        };
        Ok(Self {
            values: values.into_iter(),
            position: 0,
        })
    }

    /// The next parameter, which must be there.
    pub(crate) fn required<T: Deserialize<'a>>(&mut self, name: &str) -> RpcResult<T> {
        let position = self.position;
        self.optional(name)?.ok_or_else(|| {
            invalid_params(format!("missing value for argument {position} `{name}`"))
        })
    }

    /// The next parameter; `null` is as good as none.
    pub(crate) fn optional<T: Deserialize<'a>>(&mut self, name: &str) -> RpcResult<Option<T>> {
        let position = self.position;
        self.position = position.saturating_add(1);
        match self.values.next().map(RawValue::get) {
            None | Some("null") => Ok(None),
            Some(text) => serde_json::from_str(text).map(Some).map_err(|error| {
                invalid_params(format!(
                    "invalid argument {position} `{name}`: {}",
                    reason(&error)
                ))
            }),
        }
    }

    /// Which block the question is about; the latest unless said otherwise.
    pub(crate) fn block(&mut self) -> RpcResult<BlockRef> {
        Ok(self
            .optional::<BlockTag>("block")?
            .map_or(BlockRef::Latest, |tag| tag.0))
    }

    /// As [`Arguments::block`] for state, of which there is none but the finalized.
    pub(crate) fn state_block(&mut self) -> RpcResult<BlockRef> {
        Ok(match self.block()? {
            BlockRef::Pending => BlockRef::Latest,
            other => other,
        })
    }

    /// No more parameters are expected.
    pub(crate) fn end(mut self) -> RpcResult<()> {
        match self.values.next() {
            None => Ok(()),
            Some(_) => Err(invalid_params(format!(
                "too many arguments, want at most {}",
                self.position
            ))),
        }
    }
}

/// serde's words without the position in a text that the caller never saw as such.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_owned()
}

/// A number as Ethereum's JSON-RPC writes it: `0x` and hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quantity(pub(crate) u64);

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        quantity(&text).map(Self).map_err(de::Error::custom)
    }
}

fn quantity(text: &str) -> Result<u64, String> {
    let digits = text
        .strip_prefix("0x")
        .ok_or_else(|| format!("`{text}` is not a hexadecimal number with 0x"))?;
    // `from_str_radix` alone would take a sign.
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!("`{text}` is not a hexadecimal number with 0x"));
    }
    u64::from_str_radix(digits, 16)
        .map_err(|_| format!("`{text}` is not a number from 0x0 to 0xffffffffffffffff"))
}

/// A number as tools write it here: JSON's own, decimal, or hexadecimal with 0x.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count(pub(crate) u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        let refused = || de::Error::custom("a number is expected: 10, \"10\" or \"0xa\"");
        match Written::deserialize(deserializer).map_err(|_| refused())? {
            Written::Number(number) => Ok(Self(number)),
            Written::Text(text) => match text.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16),
                None => text.parse(),
            }
            .map(Self)
            .map_err(|_| refused()),
        }
    }
}

/// A block as [`BlockTag`], or by its hash alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockOrHash(pub(crate) BlockRef);

impl<'de> Deserialize<'de> for BlockOrHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let asked = serde_json::Value::deserialize(deserializer)?;
        let hash = asked.as_str().filter(|text| text.len() == 66);
        let block = match hash.and_then(|text| text.parse().ok()) {
            Some(hash) => BlockRef::Hash(hash),
            None => BlockTag::deserialize(asked).map_err(de::Error::custom)?.0,
        };
        Ok(Self(block))
    }
}

/// A block by tag, number, or EIP-1898 object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockTag(pub(crate) BlockRef);

impl<'de> Deserialize<'de> for BlockTag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BlockTagVisitor)
    }
}

struct BlockTagVisitor;

impl<'de> Visitor<'de> for BlockTagVisitor {
    type Value = BlockTag;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "latest, safe, finalized, pending, earliest, a hexadecimal number, \
             {\"blockNumber\": …} or {\"blockHash\": …}",
        )
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<BlockTag, E> {
        Ok(BlockTag(match text {
            "latest" | "safe" | "finalized" => BlockRef::Latest,
            "pending" => BlockRef::Pending,
            "earliest" => BlockRef::Number(0),
            number => BlockRef::Number(quantity(number).map_err(E::custom)?),
        }))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<BlockTag, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            let block = match key.as_str() {
                "blockHash" => BlockRef::Hash(map.next_value()?),
                "blockNumber" => BlockRef::Number(map.next_value::<Quantity>()?.0),
                // Every block there is, is canonical.
                "requireCanonical" => {
                    map.next_value::<bool>()?;
                    continue;
                }
                other => {
                    return Err(de::Error::unknown_field(
                        other,
                        &["blockHash", "blockNumber"],
                    ));
                }
            };
            if found.replace(block).is_some() {
                return Err(de::Error::custom("give either blockHash or blockNumber"));
            }
        }
        found
            .map(BlockTag)
            .ok_or_else(|| de::Error::missing_field("blockHash"))
    }
}

/// The transaction object of `eth_call` and `eth_estimateGas`. Prices, nonces and access lists are taken
/// and ignored: they change nothing here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CallRequest {
    from: Option<Address>,
    to: Option<Address>,
    gas: Option<Quantity>,
    value: Option<U256>,
    data: Option<Bytes>,
    input: Option<Bytes>,
    chain_id: Option<Quantity>,
}

impl CallRequest {
    /// # Errors
    /// Two different inputs, or another chain.
    pub(crate) fn into_call(self, chain_id: u64) -> RpcResult<Call> {
        if let (Some(data), Some(input)) = (&self.data, &self.input)
            && data != input
        {
            return Err(invalid_params(
                "invalid argument 0 `transaction`: `data` and `input` differ; give one of them",
            ));
        }
        if let Some(Quantity(given)) = self.chain_id
            && given != chain_id
        {
            return Err(invalid_params(format!(
                "invalid argument 0 `transaction`: chainId is {given}, this is chain {chain_id}"
            )));
        }
        Ok(Call {
            from: self.from.unwrap_or_default(),
            to: self.to,
            input: self.input.or(self.data).unwrap_or_default(),
            value: self.value.unwrap_or_default(),
            // The ledger caps it at a block's.
            gas: self.gas.map(|Quantity(gas)| gas),
        })
    }
}

/// State overrides, which are not supported: only an empty object passes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoOverrides {}

/// The filter object of `eth_getLogs`, `eth_newFilter` and `eth_subscribe`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FilterRequest {
    from_block: Option<BlockTag>,
    to_block: Option<BlockTag>,
    block_hash: Option<B256>,
    address: Option<OneOrMany<Address>>,
    topics: Option<Vec<Option<OneOrMany<B256>>>>,
}

/// Which blocks a filter is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Range {
    /// From one block to another, both included.
    Between(BlockRef, BlockRef),
    /// One block.
    Hash(B256),
}

impl FilterRequest {
    /// The blocks asked for and what to look for in them.
    ///
    /// # Errors
    /// A hash together with a range, or more addresses or topics than can be meant.
    pub(crate) fn parse(self) -> RpcResult<(Range, LogFilter)> {
        let range = match (self.block_hash, self.from_block, self.to_block) {
            (Some(hash), None, None) => Range::Hash(hash),
            (Some(_), ..) => {
                return Err(invalid_params(
                    "invalid argument 0 `filter`: give either blockHash or fromBlock and toBlock",
                ));
            }
            (None, from, to) => {
                let latest = BlockTag(BlockRef::Latest);
                Range::Between(from.unwrap_or(latest).0, to.unwrap_or(latest).0)
            }
        };
        let addresses = self.address.unwrap_or_default().0;
        let topics: Vec<Vec<B256>> = self
            .topics
            .unwrap_or_default()
            .into_iter()
            .map(|any| any.unwrap_or_default().0)
            .collect();
        if topics.len() > TOPIC_POSITIONS_MAX {
            return Err(invalid_params(format!(
                "invalid argument 0 `filter`: a log has at most {TOPIC_POSITIONS_MAX} topics"
            )));
        }
        let alternatives = topics
            .iter()
            .map(Vec::len)
            .fold(addresses.len(), usize::saturating_add);
        if alternatives > ALTERNATIVES_MAX {
            return Err(limit_exceeded(format!(
                "the filter names {alternatives} addresses and topics, at most {ALTERNATIVES_MAX} are taken"
            )));
        }
        Ok((
            range,
            LogFilter {
                addresses,
                topics,
                ..LogFilter::default()
            },
        ))
    }
}

/// One value or a list of them. A `null` in the list means anything, and so does an empty list.
#[derive(Clone, Debug, PartialEq, Eq)]
struct OneOrMany<T>(Vec<T>);

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrManyVisitor(PhantomData))
    }
}

struct OneOrManyVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrManyVisitor<T> {
    type Value = OneOrMany<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or a list of values")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        T::deserialize(text.into_deserializer()).map(|value| OneOrMany(vec![value]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        let mut anything = false;
        while let Some(value) = sequence.next_element::<Option<T>>()? {
            match value {
                Some(value) => values.push(value),
                None => anything = true,
            }
        }
        Ok(OneOrMany(if anything { Vec::new() } else { values }))
    }
}

/// A storage slot as a caller writes it: 32 bytes or a number. The text is kept, because `eth_getProof`
/// answers with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) given: String,
    pub(crate) key: B256,
}

impl<'de> Deserialize<'de> for Slot {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let given = String::deserialize(deserializer)?;
        let digits = given.strip_prefix("0x").unwrap_or_default();
        if digits.is_empty() || digits.len() > 64 {
            return Err(de::Error::custom(
                "a slot is 0x and 1 to 64 hexadecimal digits",
            ));
        }
        let key = U256::from_str_radix(digits, 16)
            .map_err(|_| de::Error::custom("a slot is 0x and 1 to 64 hexadecimal digits"))?;
        Ok(Self {
            key: key.into(),
            given,
        })
    }
}

/// LOG4 is the largest log instruction.
const TOPIC_POSITIONS_MAX: usize = 4;
/// As geth's limit for addresses in a filter.
const ALTERNATIVES_MAX: usize = 1_000;

#[cfg(test)]
mod tests;
