use super::*;

const IDLE: Duration = Duration::from_secs(300);

#[test]
fn heights_are_told_once() {
    let filters = Filters::new(2, IDLE);
    let id = filters.insert(Watched::Blocks, 5).unwrap();
    assert_eq!(filters.take(id, 4, 10).unwrap().1, None);
    assert_eq!(filters.take(id, 7, 2).unwrap().1, Some((5, 6)));
    assert_eq!(filters.take(id, 7, 2).unwrap().1, Some((7, 7)));
    assert_eq!(filters.take(id, 7, 2).unwrap().1, None);
    filters.put_back(id, 6);
    assert_eq!(filters.take(id, 7, 9).unwrap().1, Some((6, 7)));
    assert!(filters.remove(id));
    assert!(!filters.remove(id));
    assert_eq!(
        filters.take(id, 8, 1).unwrap_err().message(),
        "filter not found"
    );
}

#[test]
fn a_filter_ends_where_its_range_ends() {
    let filters = Filters::new(2, IDLE);
    let range = LogFilter {
        from: 0,
        to: Some(6),
        ..LogFilter::default()
    };
    let id = filters.insert(Watched::Logs(range), 5).unwrap();
    assert_eq!(filters.take(id, 9, 10).unwrap().1, Some((5, 6)));
    assert_eq!(filters.take(id, 10, 10).unwrap().1, None);
}

#[tokio::test(start_paused = true)]
async fn filters_are_limited_and_expire_when_nobody_asks() {
    let filters = Filters::new(2, IDLE);
    let kept = filters.insert(Watched::Blocks, 0).unwrap();
    let forgotten = filters.insert(Watched::Blocks, 0).unwrap();
    assert_ne!(kept, forgotten);
    assert_eq!(
        filters.insert(Watched::Blocks, 0).unwrap_err().code(),
        -32005
    );
    tokio::time::advance(IDLE / 2).await;
    filters.watched(kept).unwrap();
    tokio::time::advance(IDLE / 2).await;
    assert!(filters.watched(forgotten).is_err());
    assert!(filters.watched(kept).is_ok());
    assert!(filters.insert(Watched::Transactions, 0).is_ok());
}
