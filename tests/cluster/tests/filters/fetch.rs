//! A filter on one consumer's fetch: it decides what that one gets, and nothing else.

use std::collections::BTreeMap;

use millstream_client::protocol::error::ErrorCode;
use millstream_client::protocol::ids::{ModuleRef, Offset, PartitionIndex};
use millstream_client::protocol::message::fetch::FetchFilter;
use millstream_client::{Client, Compression, ConsumeError, ConsumerConfig, StartAt};
use millstream_tests_cluster::Broker;
use millstream_tests_cluster::jobs::upload;
use millstream_tests_cluster::reading::{Whole, read_whole, whole};
use tokio::time::timeout;

use crate::rows::{PARTITIONS, SOON, create, kept, places, send_rows};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_on_one_consumers_fetch_is_nobody_elses() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    let late = upload(&client, "keep-late").await;
    create(&client, "rows", None).await.unwrap();
    let told = send_rows(&client, "rows", Compression::Lz4, 0..1_500).await;
    let filter = |above: &str| fetch_filter(&late, &[("column", "1"), ("above", above)]);
    let late = tokio::spawn(consume(client.clone(), Some(filter("5")), told.len() * 2));
    let none = tokio::spawn(consume(client.clone(), Some(filter("1000")), told.len() * 2));
    let all = tokio::spawn(consume(client.clone(), None, told.len() * 2));
    // The second half comes while all three are at work or wait.
    let mut more = send_rows(&client, "rows", Compression::None, 1_500..3_000).await;
    more.extend(told);

    let ((late, examined), (none, seen)) = (late.await.unwrap(), none.await.unwrap());
    let (all, unfiltered) = all.await.unwrap();
    assert_eq!(places(&late), kept(&more));
    assert_eq!(late.len(), kept(&more).len(), "each once");
    assert_eq!(none, [], "and the position moved on all the same");
    assert_eq!(places(&all), more.iter().copied().collect());
    assert_eq!((examined, seen, unfiltered), (3_000, 3_000, 0));
    let originals: BTreeMap<_, _> = all.iter().map(|r| ((r.partition, r.offset), r)).collect();
    assert!(late.iter().all(|r| originals[&(r.partition, r.offset)] == r), "kept as it was");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_that_no_single_fetch_can_have_is_refused_with_its_reason() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    let (fan_out, hostile) = (upload(&client, "fan-out").await, upload(&client, "hostile").await);
    let none = ModuleRef { version: 7, ..hostile.clone() };
    create(&client, "rows", None).await.unwrap();
    send_rows(&client, "rows", Compression::None, 0..100).await;
    for (module, params, code, text) in [
        (&none, vec![], ErrorCode::UnknownModule, "hostile@7"),
        (&fan_out, vec![], ErrorCode::GuestFailed, "needs at least 2"),
        (&hostile, vec![("do", "refuse-init")], ErrorCode::GuestFailed, "parameters will not do"),
        (&hostile, vec![("do", "no-such-output")], ErrorCode::GuestFailed, "output"),
        (
            &hostile,
            vec![("do", "twice")],
            ErrorCode::GuestFailed,
            "which only a job can do: deploy",
        ),
        (&hostile, vec![("do", "panic")], ErrorCode::GuestFailed, "this is the end"),
        (&hostile, vec![("do", "loop")], ErrorCode::GuestFailed, "deadline exceeded"),
    ] {
        let filter = Some(fetch_filter(module, &params));
        let config = ConsumerConfig { filter, ..ConsumerConfig::default() };
        let consumer = client.consumer(config).unwrap();
        let told = async {
            consumer.assign("rows", PartitionIndex(0), StartAt::Earliest).await?;
            consumer.next().await.map(drop)
        };
        let told = timeout(SOON, told).await.unwrap().unwrap_err();
        let ConsumeError::Refused { error, offset, .. } = &told else { panic!("{told}") };
        assert_eq!((error.code, offset.get()), (code, 0), "{params:?}: {told}");
        assert!(told.to_string().contains(text), "{params:?}: {told}");
        consumer.close().await;
    }
    assert_eq!(read_whole(&client, "rows").await.len(), 100, "the records are not to blame");
    assert_eq!(broker.panics(), Vec::<String>::new());
}

/// Reads the rows until their positions add up to `ends`: whole, with the records examined.
async fn consume(client: Client, filter: Option<FetchFilter>, ends: usize) -> (Vec<Whole>, u64) {
    let consumer = client.consumer(ConsumerConfig { filter, ..ConsumerConfig::default() }).unwrap();
    consumer.assign_all("rows", StartAt::Earliest).await.unwrap();
    let (mut all, mut examined) = (Vec::new(), 0);
    let position = || {
        let each = (0..PARTITIONS).map(|p| consumer.position("rows", PartitionIndex(p)).unwrap());
        each.map(Offset::get).sum::<u64>()
    };
    while position() < ends as u64 {
        let fetched = timeout(SOON, consumer.next()).await.unwrap().unwrap();
        examined += fetched.examined();
        all.extend(whole(&fetched));
    }
    consumer.close().await;
    (all, examined)
}

pub(crate) fn fetch_filter(module: &ModuleRef, params: &[(&str, &str)]) -> FetchFilter {
    let params = params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    FetchFilter { module: module.clone(), params: params.collect() }
}
