use proptest::prelude::*;

use super::*;

/// The bytes the vectors below were computed over.
fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| ((at * 31) ^ (at >> 8) ^ (at >> 16)).to_le_bytes()[0])
        .collect()
}

/// Requirement FR-L2: computed with npm `ipfs-unixfs-importer` 17.1.1 (cidVersion 1, rawLeaves,
/// fixed chunks of 262144, balanced with 174 children) over the same pattern. The last two need
/// one and two levels of nodes.
#[test]
fn cids_equal_those_of_the_javascript_importer() {
    for (length, expected) in [
        (
            0,
            "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku",
        ),
        (
            1,
            "bafkreidogqfzz75tpkmjzjke425xqcrmpcib2p5tg44hnbirumdbpl5adu",
        ),
        (
            100,
            "bafkreictpt3axbccoani363eyq53c2bgiqvh2sw2s7hm6ldpzg4msqrxoa",
        ),
        (
            262_143,
            "bafkreib6z3lzmhw5ylhqybetigen7nv6bofsd5epyjoqpn3jrsasswiuba",
        ),
        (
            262_144,
            "bafkreifrknunvf5gmynytefaje7rm2v4vr53odirvmkjfpmk4omlro2a7e",
        ),
        (
            262_145,
            "bafybeibdfkpkxdb7ry3u6nsipmbi3d7wjysdc6t4uavlxcdqb6avned73i",
        ),
        (
            524_288,
            "bafybeicojvwsdlhx662to4npv2cer4nn3ruoaqoatdqk7ogzrdnvs2zesa",
        ),
        (
            1_000_000,
            "bafybeigmahy5uhuccdcb34pqfiqj4pcjrethnzrb2tbpll3l464dk7k2di",
        ),
        (
            45_613_056,
            "bafybeidfaotkrqnvvku2qt23gg3zrhfntah25vchw75f5d7p7zpuz3lb2u",
        ),
        (
            45_613_057,
            "bafybeify7yiztvv2n4f6s6ivt3d54olv5ikwt2fzc2k2lirhovsfntlbca",
        ),
    ] {
        assert_eq!(
            import(&pattern(length)).unwrap().cid.to_string(),
            expected,
            "{length}"
        );
    }
}

#[test]
fn links_lead_from_the_root_to_every_leaf() {
    let imported = import(&pattern(1_000_000)).unwrap();
    let [node] = imported.nodes.as_slice() else {
        panic!("one node")
    };
    assert_eq!(cid_of(DAG_PB, &node.digest).unwrap(), imported.cid);
    let leaves: Vec<Cid> = imported
        .leaves
        .iter()
        .map(|digest| cid_of(RAW, digest).unwrap())
        .collect();
    assert_eq!(links(&node.bytes).unwrap(), leaves);
}

#[test]
fn names_the_blob_that_does_not_match() {
    let imported = import(b"bytes").unwrap();
    verify(&imported.cid, b"bytes").unwrap();
    assert!(matches!(
        verify(&imported.cid, b"bytez"),
        Err(Error::Mismatch { cid }) if cid == imported.cid
    ));
}

proptest! {
    #[test]
    fn pieces_of_any_size_give_the_same_cid(length in 0usize..600_000, piece in 1usize..300_000) {
        let bytes = pattern(length);
        let mut importer = Importer::default();
        for piece in bytes.chunks(piece) {
            importer.push(piece);
        }
        prop_assert_eq!(importer.finish().unwrap(), import(&bytes).unwrap());
    }

    #[test]
    fn arbitrary_nodes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(links) = links(&bytes) {
            prop_assert!(links.len() <= bytes.len());
        }
    }
}
