//! An audience: consumers that read a topic while it is written, and note down what they saw.
//!
//! Invariant: each saw every record up to the end that is named when it is dismissed, or the test fails.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_client::protocol::ids::{Offset, PartitionIndex};
use millstream_client::{Client, Consumer, ConsumerConfig, StartAt};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::oracle::Seen;
use crate::reading::{ends, seen};

/// What does not come in this time, once it is known to be there, does not come.
const STALL: Duration = Duration::from_secs(60);

type Ends = BTreeMap<u32, Offset>;

/// Consumers at work.
#[derive(Debug)]
pub struct Audience {
    topic: String,
    end: watch::Sender<Option<Ends>>,
    tasks: JoinSet<Vec<Seen>>,
}

impl Audience {
    /// So many, each of which reads the whole topic from its start.
    ///
    /// # Panics
    /// If the topic cannot be read.
    pub async fn gather(client: &Client, topic: &str, count: usize) -> Self {
        let (end, told) = watch::channel(None);
        let mut tasks = JoinSet::new();
        for _ in 0..count {
            let consumer = client.consumer(ConsumerConfig::default()).expect("the defaults work");
            consumer.assign_all(topic, StartAt::Earliest).await.expect("a topic that is there");
            tasks.spawn(follow(consumer, topic.to_owned(), told.clone()));
        }
        Self { topic: topic.to_owned(), end, tasks }
    }

    /// Has them read what is committed now, and returns what each saw, partition by partition.
    ///
    /// # Panics
    /// If one of them met an error, or does not get that far.
    pub async fn dismiss(mut self, client: &Client) -> Vec<Vec<Seen>> {
        self.end.send_replace(Some(ends(client, &self.topic).await));
        let mut all = Vec::new();
        let gone = async {
            while let Some(saw) = self.tasks.join_next().await {
                let mut saw = saw.expect("a consumer met no error");
                saw.sort_by_key(|seen| seen.partition);
                all.push(saw);
            }
        };
        tokio::time::timeout(STALL, gone).await.expect("what is committed can be read");
        all
    }
}

async fn follow(
    consumer: Consumer,
    topic: String,
    mut end: watch::Receiver<Option<Ends>>,
) -> Vec<Seen> {
    let mut all = Vec::new();
    let done = |ends: &Ends| {
        let position = |partition| consumer.position(&topic, PartitionIndex(partition));
        ends.iter().all(|(at, end)| position(*at).is_ok_and(|position| *end <= position))
    };
    loop {
        if end.borrow_and_update().as_ref().is_some_and(done) {
            return all;
        }
        tokio::select! {
            told = end.changed() => told.expect("the audience is dismissed before it goes"),
            fetched = consumer.next() => {
                let fetched = fetched.unwrap_or_else(|error| panic!("reading {topic}: {error}"));
                all.extend(seen(&fetched));
            }
        }
    }
}
