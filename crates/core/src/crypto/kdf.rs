//! Key derivation: HKDF-SHA256 (RFC 5869).

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroize;

use super::Secret32;

/// Derives 32 bytes from a secret for one use.
///
/// `context` is hashed part by part with each part's length before it (u32, big-endian), so that
/// no two lists of parts give the same input. `label` names the use and its version.
#[must_use]
pub fn derive(secret: &[u8], label: &'static str, context: &[&[u8]]) -> Secret32 {
    let mut out = [0; 32];
    expand(secret, &[], label, context, &mut out);
    let key = Secret32::new(out);
    out.zeroize();
    key
}

/// As [`derive`], with a salt and 64 bytes in two halves.
pub(crate) fn derive_pair(
    secret: &[u8],
    salt: &[u8],
    label: &'static str,
    context: &[&[u8]],
) -> (Secret32, [u8; 32]) {
    let mut out = [0; 64];
    expand(secret, salt, label, context, &mut out);
    let (mut first, mut second) = ([0; 32], [0; 32]);
    for (to, from) in first.iter_mut().chain(second.iter_mut()).zip(out) {
        *to = from;
    }
    let key = Secret32::new(first);
    first.zeroize();
    out.zeroize();
    (key, second)
}

fn expand(secret: &[u8], salt: &[u8], label: &'static str, context: &[&[u8]], out: &mut [u8]) {
    let lengths: Vec<[u8; 4]> = context
        .iter()
        .map(|part| u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes())
        .collect();
    let mut info: Vec<&[u8]> = Vec::with_capacity(1 + 2 * context.len());
    info.push(label.as_bytes());
    for (length, part) in lengths.iter().zip(context) {
        info.push(length);
        info.push(part);
    }
    let result = Hkdf::<Sha256>::new(Some(salt), secret).expand_multi_info(&info, out);
    // Expansion fails only above 255 · 32 bytes (RFC 5869 §2.3); callers ask for 32 or 64.
    debug_assert!(result.is_ok(), "at most 64 bytes are asked for");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_together() {
        let one = derive(b"secret", "test", &[b"ab", b"c"]);
        let two = derive(b"secret", "test", &[b"a", b"bc"]);
        assert_ne!(one, two);
        assert_ne!(one, derive(b"secret", "tests", &[b"ab", b"c"]));
        assert_eq!(one, derive(b"secret", "test", &[b"ab", b"c"]));
    }

    /// RFC 5869 appendix A.3: no salt, no info, first 32 of 42 bytes.
    #[test]
    fn agrees_with_rfc_5869() {
        let expected = alloy_primitives::hex!(
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
        );
        assert_eq!(derive(&[0x0b; 22], "", &[]).expose(), &expected);
    }
}
