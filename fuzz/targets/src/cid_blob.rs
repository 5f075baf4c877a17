//! Content addresses, IPFS nodes, encapsulations, sealed streams.

use cid::Cid;
use stele_core::crypto::{Secret32, stream};
use stele_vault::{cid as content, envelope::Encapsulation};

/// Reads the bytes as a CID (binary and text), as a dag-pb node, as an encapsulation and as a sealed stream, and imports
/// them as a file: the address that comes out is that of the bytes and of no others.
pub fn cid_blob(data: &[u8]) {
    if let Ok(found) = Cid::try_from(data) {
        drop(content::digest_of(&found));
        assert_eq!(found.to_string().parse::<Cid>().unwrap(), found);
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(found) = text.trim().parse::<Cid>()
    {
        drop(content::verify(&found, data));
        assert_eq!(Cid::try_from(found.to_bytes().as_slice()).unwrap(), found);
    }
    if let Ok(links) = content::links(data) {
        for link in links {
            drop(content::digest_of(&link));
        }
    }
    if let Ok(found) = Encapsulation::decode(data) {
        assert_eq!(found.encode(), data);
    }
    let imported = content::import(data).unwrap();
    assert_eq!(imported.size_bytes, data.len() as u64);
    if imported.nodes.is_empty() {
        content::verify(&imported.cid, data).unwrap();
        let mut other = data.to_vec();
        other.push(0);
        assert!(content::verify(&imported.cid, &other).is_err());
    }
    sealed_stream(data);
}

/// The key of the corpus: its sealed streams open, and nothing that differs from them does.
pub(crate) const KEY: [u8; 32] = [0x5a; 32];

fn sealed_stream(data: &[u8]) {
    let key = Secret32::new(KEY);
    let Ok((_, content)) = stream::open(&key, data) else {
        return;
    };
    assert!(stream::sealed_len(content.len() as u64) <= data.len() as u64);
    assert!(stream::open(&Secret32::new([1; 32]), data).is_err());
    let mut changed = data.to_vec();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    assert!(stream::open(&key, &changed).is_err());
}
