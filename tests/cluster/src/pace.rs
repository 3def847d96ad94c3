//! Pace: how fast a well-behaved client gets on while others misbehave.
//!
//! Invariant: a pace is only ever compared with another of the same run: on the same broker, or in the same
//! moments on a broker that nobody misbehaves on.

use std::time::{Duration, Instant};

use millstream_client::{Client, Producer, ProducerConfig, ProducerRecord};

/// Time over which a pace is measured once.
const WINDOW: Duration = Duration::from_millis(300);
/// How often; the best counts, since everything else on the machine only ever slows one down.
const WINDOWS: u32 = 10;

/// A client that writes one record after the other, each when the one before was acknowledged.
#[derive(Debug)]
pub struct Walker {
    producer: Producer,
    topic: String,
}

impl Walker {
    /// A walker with a topic of its own.
    ///
    /// # Panics
    /// If the topic cannot be made.
    pub async fn start(client: &Client, topic: &str) -> Self {
        client.admin().create_topic(topic, 1).await.expect("a new topic");
        let config = ProducerConfig { linger: Duration::ZERO, ..ProducerConfig::default() };
        let producer = client.producer(config).expect("the settings can work");
        Self { producer, topic: topic.to_owned() }
    }

    /// Records acknowledged in a second.
    ///
    /// # Panics
    /// If one is refused.
    pub async fn pace(&self) -> f64 {
        let mut best = 0.0_f64;
        for _ in 0..WINDOWS {
            let (begun, mut steps) = (Instant::now(), 0_u32);
            while begun.elapsed() < WINDOW {
                self.step().await;
                steps += 1;
            }
            best = best.max(f64::from(steps) / begun.elapsed().as_secs_f64());
        }
        best
    }

    /// Writes one record.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn step(&self) {
        let record = ProducerRecord::new(&self.topic).value(b"one step");
        let delivery = self.producer.send(record).await.expect("there is room");
        delivery.await.expect("a step is acknowledged");
    }
}

/// The paces of two who walk in turns, so that whatever else the machine does slows both down.
///
/// # Panics
/// If a step is refused.
pub async fn side_by_side(one: &Walker, other: &Walker) -> (f64, f64) {
    const TURN: Duration = Duration::from_millis(20);
    const TURNS: u32 = 100;
    let mut steps = [0_u32; 2];
    let mut spent = [Duration::ZERO; 2];
    for turn in 0..2 * TURNS as usize {
        let (at, begun) = (turn % 2, Instant::now());
        while begun.elapsed() < TURN {
            [one, other][at].step().await;
            steps[at] += 1;
        }
        spent[at] += begun.elapsed();
    }
    let pace = |at: usize| f64::from(steps[at]) / spent[at].as_secs_f64();
    (pace(0), pace(1))
}

/// Holds the pace during something against the lesser of those before and after it, of which at
/// least half has to be left: what else the machine does may change in between.
///
/// # Panics
/// If less is left.
pub fn check_kept((before, during, after): (f64, f64, f64), what: &str) {
    assert!(
        before.min(after) / 2.0 <= during,
        "{what}: {during:.0} records/s, of {before:.0} before and {after:.0} after"
    );
}
