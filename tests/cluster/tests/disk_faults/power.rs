//! A power loss takes records from an input that is only kept in memory: the job goes on behind it.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_client::Client;
use millstream_client::protocol::ids::{Offset, TopicName};
use millstream_client::protocol::message::topic::CreateTopic;
use millstream_storage::metadata::{Identity, Store, Table};
use millstream_tests_cluster::jobs::{caught_up, spec, upload};
use millstream_tests_cluster::until;

use crate::host::{Host, send, values};

const BEFORE: u64 = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_input_lost_records_hands_on_every_record_that_comes_after() {
    let mut lost = [0, 0];
    for seed in 0..8 {
        // Its position is saved at once, and then behind the input's end; or it was never saved.
        let saved = seed % 2 == 0;
        let every = if saved { Duration::from_millis(5) } else { Duration::from_hours(1) };
        let mut host = Host::saving(every).await;
        let client = host.client().await;
        prepare(&client).await;
        for number in 0..BEFORE {
            send(&client, "in", &format!("before {number}")).await.unwrap();
        }
        caught_up(&client, "copy").await;
        if saved {
            let position = async || saved_position(&host).filter(|at| at.get() == BEFORE).ok_or(());
            until("a saved position", Duration::from_secs(10), position).await;
        }
        host.lose_power(seed).await;
        let client = host.client().await;
        let left = values(&client, "in").await.len() as u64;
        lost[usize::from(saved)] += BEFORE - left;
        for number in 0..2 * BEFORE {
            send(&client, "in", &format!("after {number}")).await.unwrap();
        }
        caught_up(&client, "copy").await;
        let before = (0..BEFORE).map(|number| format!("before {number}"));
        let after = (0..2 * BEFORE).map(|number| format!("after {number}"));
        let expected: Vec<_> = before.chain(after).collect();
        assert_eq!(values(&client, "all").await, expected, "seed {seed}, {left} left of the input");
        host.stop().await;
    }
    assert!(lost.iter().all(|lost| 0 < *lost), "no power loss took anything: {lost:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_place_where_a_job_goes_on_after_a_loss_is_saved_before_its_input_grows_again() {
    let mut put_back = 0;
    for seed in 0..8 {
        let mut host = Host::saving(Duration::from_hours(1)).await;
        let client = host.client().await;
        prepare(&client).await;
        for number in 0..BEFORE {
            send(&client, "in", &format!("before {number}")).await.unwrap();
        }
        caught_up(&client, "copy").await;
        // Any change of a job saves its position.
        let limits = client.admin().describe_job("copy").await.unwrap().spec.limits;
        client.admin().update_job("copy", None, Some(limits)).await.unwrap();
        assert_eq!(saved_position(&host), Some(Offset(BEFORE)));
        client.admin().pause_job("copy").await.unwrap();
        host.lose_power(seed).await;
        let left = values(&host.client().await, "in").await.len() as u64;
        put_back += u64::from(left < BEFORE);
        assert_eq!(saved_position(&host), Some(Offset(left)), "seed {seed}");
        host.stop().await;
    }
    assert!(0 < put_back, "no power loss took anything");
}

/// An input in memory, outputs on the disk, and a job that copies.
async fn prepare(client: &Client) {
    let name = TopicName::new("in").unwrap();
    let configs = BTreeMap::from([("durability".to_owned(), "memory".to_owned())]);
    let input = CreateTopic { name, partitions: 1, replication_factor: 1, configs };
    client.admin().create_topic_with(input).await.unwrap();
    for topic in ["all", "matching"] {
        client.admin().create_topic(topic, 1).await.unwrap();
    }
    let module = upload(client, "fan-out").await;
    let outputs = ["all", "matching"];
    let job = spec("copy", &module, (&["in"], &outputs), &[("text", "no record has this")]);
    client.admin().deploy_job(job).await.unwrap();
}

/// The position that a power loss now would leave.
fn saved_position(host: &Host) -> Option<Offset> {
    let fresh = Identity { cluster: 0, incarnation: 0 };
    let store = Store::open(&host.disk.after_crash(0), &host.metadata(), fresh).unwrap();
    let rows = store.rows(Table::Positions).unwrap();
    rows.first().map(|(_, value)| postcard::from_bytes(value).unwrap())
}
