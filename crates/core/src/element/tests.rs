use proptest::prelude::*;

use super::*;

const OBSERVATION: &str = r#"{
  "resourceType": "Observation",
  "status": "final",
  "code": { "coding": [ { "system": "http://loinc.org", "code": "4548-4" } ], "text": "A1c" },
  "valueQuantity": { "value": 6.30, "unit": "%" },
  "a/b~c": [],
  "note": null
}"#;

fn salt() -> Secret32 {
    Secret32::new([9; 32])
}

fn tree() -> ElementTree<'static> {
    ElementTree::new(OBSERVATION, &salt()).unwrap()
}

#[test]
fn leaves_are_pointers_and_literals_as_written() {
    let tree = tree();
    let pointers: Vec<&str> = tree.pointers().collect();
    assert_eq!(
        pointers,
        [
            "/a~1b~0c",
            "/code/coding/0/code",
            "/code/coding/0/system",
            "/code/text",
            "/note",
            "/resourceType",
            "/status",
            "/valueQuantity/unit",
            "/valueQuantity/value",
        ]
    );
    let proof = tree.prove(&["/valueQuantity/value"]).unwrap();
    assert_eq!(proof.elements[0].literal, "6.30");
}

/// Requirement S19: a proof of one element reveals no other.
#[test]
fn one_element_is_proven_and_nothing_else_is_shown() {
    let tree = tree();
    let proof = tree.prove(&["/valueQuantity/value"]).unwrap();
    assert_eq!(proof.verify(&tree.root()), Ok(()));
    let text = serde_json::to_string(&proof).unwrap();
    for hidden in ["final", "4548-4", "loinc", "A1c", "%"] {
        assert!(!text.contains(hidden), "{hidden} in {text}");
    }
    assert!(!text.contains(&alloy_primitives::hex::encode(salt().expose())));
    assert_eq!(serde_json::from_str::<ElementProof>(&text).unwrap(), proof);
}

/// Requirement S19: one value of an Observation is flipped, and the verifier says which.
#[test]
fn a_flipped_element_is_named() {
    let tree = tree();
    let pointers: Vec<&str> = tree.pointers().collect();
    for (at, pointer) in pointers.iter().enumerate() {
        let mut all = tree.prove(&[""]).unwrap();
        all.elements[at].literal.push('1');
        assert_eq!(
            all.verify(&tree.root()),
            Err(Error::Element {
                pointer: (*pointer).into()
            })
        );
        let mut one = tree.prove(&[*pointer]).unwrap();
        one.elements[0].literal = "\"other\"".into();
        assert_eq!(
            one.verify(&tree.root()),
            Err(Error::Element {
                pointer: (*pointer).into()
            })
        );
    }
    let flipped = OBSERVATION.replace("6.30", "6.80");
    let changed = changed_elements(&flipped, &salt(), tree.leaf_hashes(), &tree.root()).unwrap();
    assert_eq!(changed, ["/valueQuantity/value"]);
    let other_root = B256::repeat_byte(1);
    assert_eq!(
        changed_elements(&flipped, &salt(), tree.leaf_hashes(), &other_root),
        Err(Error::Root)
    );
    let shorter = OBSERVATION.replace(r#""note": null"#, r#""a": 1, "b": 2"#);
    let changed = changed_elements(&shorter, &salt(), tree.leaf_hashes(), &tree.root()).unwrap();
    assert_eq!(changed, ["/a"]);
}

#[test]
fn a_pointer_takes_all_that_is_under_it() {
    let tree = tree();
    let proof = tree.prove(&["/code", "/status"]).unwrap();
    let pointers: Vec<&str> = proof
        .elements
        .iter()
        .map(|element| element.pointer.as_str())
        .collect();
    assert_eq!(
        pointers,
        [
            "/code/coding/0/code",
            "/code/coding/0/system",
            "/code/text",
            "/status"
        ]
    );
    assert_eq!(proof.verify(&tree.root()), Ok(()));
    assert_eq!(
        tree.prove(&["/cod"]),
        Err(Error::NoSuchElement {
            pointer: "/cod".into()
        })
    );
}

#[test]
fn another_salt_gives_another_root() {
    let other = ElementTree::new(OBSERVATION, &Secret32::new([8; 32])).unwrap();
    assert_ne!(other.root(), tree().root());
}

#[test]
fn refuses_what_is_not_one_json_value_with_distinct_members() {
    for text in [
        "",
        "{",
        "{} {}",
        r#"{"a":01}"#,
        "nul",
        "\u{feff}{}",
        r#"{"a":1,}"#,
        r#""\x""#,
    ] {
        assert!(
            matches!(root(text, &salt()), Err(Error::Json { .. })),
            "{text}"
        );
    }
    for text in [r#"{"a":1,"a":2}"#, "{\"a\":1,\"\\u0061\":2}"] {
        assert!(
            matches!(root(text, &salt()), Err(Error::Json { .. })),
            "{text}"
        );
    }
    let deep = "[".repeat(120) + "1" + &"]".repeat(120);
    assert!(matches!(root(&deep, &salt()), Err(Error::Json { .. })));
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let scalar = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        ".{0,8}".prop_map(serde_json::Value::String),
    ];
    scalar.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(serde_json::Value::Array),
            proptest::collection::btree_map(".{0,4}", inner, 0..6)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Every choice of leaves is proven; any flipped bit of the proof is refused; and each leaf's
    /// literal is what `serde_json` finds at its pointer.
    #[test]
    fn any_choice_of_elements_is_proven(
        value in json(),
        choice in proptest::collection::vec(any::<proptest::sample::Index>(), 1..6),
        flip in any::<proptest::sample::Index>(),
    ) {
        for text in [serde_json::to_string(&value), serde_json::to_string_pretty(&value)] {
            let text = text.unwrap();
            let tree = ElementTree::new(&text, &salt()).unwrap();
            let pointers: Vec<&str> = tree.pointers().collect();
            let chosen: Vec<&str> = choice.iter().map(|at| pointers[at.index(pointers.len())]).collect();
            let proof = tree.prove(&chosen).unwrap();
            prop_assert_eq!(proof.verify(&tree.root()), Ok(()));
            for element in &proof.elements {
                let parsed: serde_json::Value = serde_json::from_str(&element.literal).unwrap();
                prop_assert_eq!(value.pointer(&element.pointer), Some(&parsed));
            }
            let mut bad = proof.clone();
            let at = flip.index(bad.siblings.len() + 2);
            match at.checked_sub(2) {
                None if at == 0 => bad.leaf_count += 1,
                None => bad.elements[0].salt.0[0] ^= 1,
                Some(sibling) => bad.siblings[sibling].0[3] ^= 4,
            }
            prop_assert!(bad.verify(&tree.root()).is_err());
        }
    }

    #[test]
    fn arbitrary_proofs_never_panic(
        leaf_count: u32,
        indices in proptest::collection::vec(any::<u32>(), 0..5),
        siblings in proptest::collection::vec(any::<[u8; 32]>(), 0..5),
    ) {
        let elements = indices
            .into_iter()
            .map(|index| Disclosed {
                index,
                pointer: "/a".into(),
                literal: "1".into(),
                salt: FixedBytes::ZERO,
                hash: None,
            })
            .collect();
        let siblings = siblings.into_iter().map(B256::new).collect();
        let proof = ElementProof { leaf_count, elements, siblings };
        prop_assert!(proof.verify(&B256::ZERO).is_err());
    }

    #[test]
    fn arbitrary_text_never_panics(text in r#"[\[\]{}",:\\a1 ]{0,40}"#) {
        if let Ok(root) = root(&text, &salt()) {
            prop_assert_ne!(root, B256::ZERO);
        }
    }
}
