//! Faults: what happens to brokers that are at work, and its end.
//!
//! Invariant: after a fault every broker runs and every link is whole; while it lasts, most brokers are well and
//! can reach each other, unless it is one that stops them all.

use std::time::Duration;

use millstream_client::Client;

use crate::cluster::Cluster;
use crate::links::Link;
use crate::load::Load;
use crate::random::Random;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL of the leader of a partition.
    KillLeader,
    /// SIGKILL of every broker at once.
    KillAll,
    /// A graceful stop, as in a rolling restart.
    Stop,
    /// SIGSTOP: it is there, and does nothing, and then goes on as if nothing had happened.
    Freeze,
    /// Nothing reaches a broker, and nothing that it says arrives.
    Isolate,
    /// What a broker says to another does not arrive; what it hears does.
    Deafen,
    /// A tenth of all datagrams of a broker is lost, some come twice, all come late.
    Degrade,
}

/// All of them.
pub const FAULTS: [Fault; 7] = [
    Fault::KillLeader,
    Fault::KillAll,
    Fault::Stop,
    Fault::Freeze,
    Fault::Isolate,
    Fault::Deafen,
    Fault::Degrade,
];

/// Has a fault strike, lets it last, and mends it. The load goes on meanwhile, unless everything is down, and after it.
///
/// # Panics
/// If the load makes no progress.
pub async fn strike(
    cluster: &mut Cluster,
    client: &Client,
    load: &Load,
    fault: Fault,
    random: &mut Random,
) {
    let count = cluster.count();
    let any = |random: &mut Random| 1 + u32::try_from(random.below(count.into())).expect("few");
    let one = any(random);
    let progress = 200 + random.below(500);
    // Some are over before anybody has noticed, others last until everybody has acted on them.
    let least = Duration::from_millis(random.below(2) * random.below(2_500));
    let lasting = async {
        tokio::time::sleep(least).await;
        load.acknowledges(progress).await;
    };
    match fault {
        Fault::KillLeader => {
            let leader = cluster.leader(client, load.topic(), 0).await;
            cluster.broker(leader).kill();
            lasting.await;
            cluster.restart(leader).await;
        }
        Fault::KillAll => {
            for broker in 1..=count {
                cluster.broker(broker).kill();
            }
            for broker in 1..=count {
                cluster.spawn(broker);
            }
            for broker in 1..=count {
                cluster.broker(broker).ready().await;
            }
        }
        Fault::Stop => {
            cluster.broker(one).stop().await;
            lasting.await;
            cluster.restart(one).await;
        }
        Fault::Freeze => {
            cluster.broker(one).freeze(true);
            lasting.await;
            cluster.broker(one).freeze(false);
        }
        Fault::Isolate => {
            let cut = Link { cut: true, ..Link::default() };
            cluster.links().surround(one, count, cut);
            lasting.await;
            cluster.links().heal();
        }
        Fault::Deafen => {
            let other =
                1 + (one + u32::try_from(random.below(u64::from(count) - 1)).expect("few")) % count;
            cluster.links().set(one, other, Link { cut: true, ..Link::default() });
            lasting.await;
            cluster.links().heal();
        }
        Fault::Degrade => {
            let delay = Duration::from_millis(random.below(20));
            let bad = Link { cut: false, loss: 10, repeat: 5, delay };
            cluster.links().surround(one, count, bad);
            lasting.await;
            cluster.links().heal();
        }
    }
    load.acknowledges(progress).await;
}
