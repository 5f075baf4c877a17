use proptest::prelude::*;

use super::*;

fn read<T: for<'a> Deserialize<'a>>(text: &str) -> RpcResult<T> {
    let text = format!("[{text}]");
    let params = Params::new(Some(&text));
    let mut arguments = Arguments::read(&params)?;
    let value = arguments.required("thing")?;
    arguments.end()?;
    Ok(value)
}

fn refusal<T: for<'a> Deserialize<'a> + fmt::Debug>(text: &str) -> String {
    let refused = read::<T>(text).unwrap_err();
    assert_eq!(refused.code(), -32602);
    refused.message().to_owned()
}

#[test]
fn blocks_are_read_in_every_spelling() {
    let hash = B256::repeat_byte(7);
    for (text, expected) in [
        ("\"latest\"".to_owned(), BlockRef::Latest),
        ("\"safe\"".to_owned(), BlockRef::Latest),
        ("\"finalized\"".to_owned(), BlockRef::Latest),
        ("\"pending\"".to_owned(), BlockRef::Pending),
        ("\"earliest\"".to_owned(), BlockRef::Number(0)),
        ("\"0x10\"".to_owned(), BlockRef::Number(16)),
        (r#"{"blockNumber":"0x2"}"#.to_owned(), BlockRef::Number(2)),
        (
            format!(r#"{{"blockHash":"{hash}","requireCanonical":true}}"#),
            BlockRef::Hash(hash),
        ),
    ] {
        assert_eq!(read::<BlockTag>(&text).unwrap().0, expected, "{text}");
    }
    for text in [
        "\"newest\"",
        "16",
        "\"16\"",
        "\"0x\"",
        "\"0x+1\"",
        "\"0x1ffffffffffffffff\"",
        "{}",
        r#"{"height":"0x1"}"#,
        r#"{"blockNumber":"0x1","blockHash":"0x0707070707070707070707070707070707070707070707070707070707070707"}"#,
    ] {
        assert!(
            refusal::<BlockTag>(text).contains("argument 0 `thing`"),
            "{text}"
        );
    }
}

#[test]
fn complaints_name_the_parameter() {
    let params = Params::new(Some(r#"["0x12", null, 3]"#));
    let mut arguments = Arguments::read(&params).unwrap();
    let refused = arguments.required::<Address>("address").unwrap_err();
    assert!(
        refused
            .message()
            .starts_with("invalid argument 0 `address`: "),
        "{refused:?}"
    );
    let refused = arguments.required::<B256>("blockHash").unwrap_err();
    assert_eq!(
        refused.message(),
        "missing value for argument 1 `blockHash`"
    );
    assert_eq!(
        arguments.end().unwrap_err().message(),
        "too many arguments, want at most 2"
    );

    let params = Params::new(Some(r#"{"address":"0x12"}"#));
    assert_eq!(Arguments::read(&params).err().unwrap().code(), -32602);
    let params = Params::new(None);
    assert!(Arguments::read(&params).unwrap().end().is_ok());
}

#[test]
fn calls_take_either_name_for_their_input() {
    let call = |text: &str| read::<CallRequest>(text).unwrap().into_call(7);
    assert_eq!(
        call(r#"{"data":"0x01"}"#).unwrap().input,
        Bytes::from(vec![1])
    );
    assert_eq!(
        call(r#"{"input":"0x01","data":"0x01","maxFeePerGas":"0x0"}"#)
            .unwrap()
            .input
            .len(),
        1
    );
    assert_eq!(call(r#"{"gas":"0xffffff"}"#).unwrap().gas, Some(0xff_ffff));
    assert_eq!(call(r#"{"chainId":"0x7"}"#).unwrap(), Call::default());
    assert!(
        call(r#"{"chainId":"0x8"}"#)
            .unwrap_err()
            .message()
            .contains("this is chain 7")
    );
    assert!(
        call(r#"{"input":"0x01","data":"0x02"}"#)
            .unwrap_err()
            .message()
            .contains("differ")
    );
}

#[test]
fn state_overrides_are_refused_rather_than_ignored() {
    assert!(read::<NoOverrides>("{}").is_ok());
    let address = Address::repeat_byte(1);
    assert!(
        refusal::<NoOverrides>(&format!(r#"{{"{address}":{{"balance":"0x1"}}}}"#))
            .contains("thing")
    );
}

#[test]
fn filters_are_read_in_every_spelling() {
    let (a, t) = (Address::repeat_byte(1), B256::repeat_byte(2));
    let parse = |text: String| read::<FilterRequest>(&text).unwrap().parse();
    let (range, filter) = parse(format!(
        r#"{{"address":"{a}","topics":["{t}",null,["{t}","{t}"],[null,"{t}"]]}}"#
    ))
    .unwrap();
    assert_eq!(range, Range::Between(BlockRef::Latest, BlockRef::Latest));
    assert_eq!(filter.addresses, [a]);
    assert_eq!(filter.topics, [vec![t], vec![], vec![t, t], vec![]]);

    let (range, filter) = parse(format!(r#"{{"blockHash":"{t}","address":["{a}"]}}"#)).unwrap();
    assert_eq!((range, filter.addresses), (Range::Hash(t), vec![a]));

    assert!(parse(format!(r#"{{"blockHash":"{t}","fromBlock":"0x1"}}"#)).is_err());
    assert!(parse(r#"{"topics":[null,null,null,null,null]}"#.to_owned()).is_err());
    let many = vec![format!("\"{a}\""); 1_001].join(",");
    assert_eq!(
        parse(format!(r#"{{"address":[{many}]}}"#))
            .unwrap_err()
            .code(),
        -32005
    );
}

#[test]
fn slots_keep_their_spelling() {
    let slot = read::<Slot>("\"0x1\"").unwrap();
    assert_eq!(
        (slot.given.as_str(), slot.key),
        ("0x1", B256::with_last_byte(1))
    );
    for text in [
        "\"\"",
        "\"1\"",
        "\"0x\"",
        "\"0xg\"",
        &format!("\"0x{}\"", "0".repeat(65)),
        "1",
    ] {
        refusal::<Slot>(text);
    }
}

proptest! {
    /// Whatever is sent, it is read or refused; nothing panics.
    #[test]
    fn anything_is_read_or_refused(text in any::<String>()) {
        let params = Params::new(Some(&text));
        if let Ok(mut arguments) = Arguments::read(&params) {
            let _ = arguments.optional::<BlockTag>("block");
            let _ = arguments.optional::<CallRequest>("transaction");
            let _ = arguments.optional::<FilterRequest>("filter");
            let _ = arguments.optional::<Slot>("slot");
        }
    }

    #[test]
    fn quantities_round_trip(number: u64) {
        prop_assert_eq!(read::<Quantity>(&format!("\"{number:#x}\"")).unwrap(), Quantity(number));
    }
}
