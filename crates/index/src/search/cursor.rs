//! Where the next page begins.
//!
//! A cursor carries the sort keys of the last resource of a page, which may be clinical, and travels in links. So it
//! is sealed with a key of this index, bound to the search it belongs to.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rusqlite::types::Value as SqlValue;
use stele_core::crypto::{Secret32, aead, os_rng};

use crate::error::{Error, Result};

/// Sort keys and id of the last resource of a page.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cursor {
    pub(crate) keys: Vec<SqlValue>,
    pub(crate) id: i64,
}

impl Cursor {
    /// As text for a link.
    pub(crate) fn seal(&self, key: &Secret32, context: &[u8]) -> Result<String> {
        let mut plain = self.id.to_be_bytes().to_vec();
        for value in &self.keys {
            match value {
                SqlValue::Null | SqlValue::Blob(_) => plain.push(0),
                SqlValue::Integer(number) => {
                    plain.push(1);
                    plain.extend_from_slice(&number.to_be_bytes());
                }
                SqlValue::Real(number) => {
                    plain.push(2);
                    plain.extend_from_slice(&number.to_bits().to_be_bytes());
                }
                SqlValue::Text(text) => {
                    plain.push(3);
                    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
                    plain.extend_from_slice(&length.to_be_bytes());
                    plain.extend_from_slice(text.as_bytes());
                }
            }
        }
        let sealed = aead::seal(key, context, &plain, &mut os_rng()).map_err(|_| Error::Cursor)?;
        Ok(URL_SAFE_NO_PAD.encode(sealed))
    }

    /// Reads what [`Self::seal`] gave for the same search.
    pub(crate) fn open(text: &str, key: &Secret32, context: &[u8]) -> Result<Self> {
        let sealed = URL_SAFE_NO_PAD.decode(text).map_err(|_| Error::Cursor)?;
        let plain = aead::open(key, context, &sealed).map_err(|_| Error::Cursor)?;
        let mut rest = plain.as_slice();
        let id = i64::from_be_bytes(*take(&mut rest)?);
        let mut keys = Vec::new();
        while let Some((tag, after)) = rest.split_first() {
            rest = after;
            keys.push(match tag {
                0 => SqlValue::Null,
                1 => SqlValue::Integer(i64::from_be_bytes(*take(&mut rest)?)),
                2 => SqlValue::Real(f64::from_bits(u64::from_be_bytes(*take(&mut rest)?))),
                _ => {
                    let length = u32::from_be_bytes(*take(&mut rest)?);
                    let length = usize::try_from(length).map_err(|_| Error::Cursor)?;
                    let (head, after) = rest.split_at_checked(length).ok_or(Error::Cursor)?;
                    rest = after;
                    SqlValue::Text(String::from_utf8(head.to_vec()).map_err(|_| Error::Cursor)?)
                }
            });
        }
        Ok(Self { keys, id })
    }
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<&'a [u8; N]> {
    let (head, after) = rest.split_first_chunk().ok_or(Error::Cursor)?;
    *rest = after;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = SqlValue> {
        prop_oneof![
            Just(SqlValue::Null),
            any::<i64>().prop_map(SqlValue::Integer),
            (-1e12..1e12_f64).prop_map(SqlValue::Real),
            ".{0,20}".prop_map(SqlValue::Text),
        ]
    }

    proptest! {
        #[test]
        fn opens_only_for_its_search(id: i64, keys in proptest::collection::vec(key(), 0..4), junk in ".{0,40}") {
            let cursor = Cursor { keys, id };
            let secret = Secret32::new([1; 32]);
            let text = cursor.seal(&secret, b"Patient").unwrap();
            prop_assert_eq!(Cursor::open(&text, &secret, b"Patient").unwrap(), cursor);
            prop_assert!(Cursor::open(&text, &secret, b"Observation").is_err());
            prop_assert!(Cursor::open(&junk, &secret, b"Patient").is_err());
        }
    }
}
