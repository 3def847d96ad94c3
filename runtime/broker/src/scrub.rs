//! Scrubbing: logs are read again, a few bytes a second, so that damage is found while other replicas still have
//! what was there, and not by the reader who needs it.
//!
//! Invariant: over any time it reads no more than its rate and one body.

use std::time::Duration;

use millstream_storage::log::ReadError;
use tokio_util::sync::CancellationToken;

use crate::drivers::partition::Handle;
use crate::modules::blocking;
use crate::peers::{Hosted, Peers, Rate};

/// What is read at a time.
const BODY_BYTES: usize = 256 << 10;
/// At least so long lies between two rounds, however little there is to read.
const ROUND: Duration = Duration::from_secs(60);

/// Reads every replica on this broker, round after round, until it stops. Never when the rate is 0.
pub(crate) async fn run(peers: Peers, bytes_per_second: u64, stop: CancellationToken) {
    if bytes_per_second == 0 {
        return;
    }
    let rate = Rate::new(bytes_per_second);
    let rounds = async {
        loop {
            // At once: damage of the time before the start is found before it is asked for.
            round(peers.hosted(), &rate).await;
            tokio::time::sleep(ROUND).await;
        }
    };
    // Ended in the middle of a log: the next life begins anew.
    let _: Option<()> = stop.run_until_cancelled(rounds).await;
}

async fn round(hosted: &Hosted, rate: &Rate) {
    for replica in hosted.all() {
        if let Err(error) = scrub(&replica, rate).await {
            tracing::debug!(partition = %replica.id(), %error, "not read to its end");
            replica.read_failed(&error);
        }
    }
}

/// Reads what is on the disk of one log; every seal and checksum is verified on the way.
async fn scrub(replica: &Handle, rate: &Rate) -> Result<(), ReadError> {
    let mut cursor = replica.reader().cursor_at(replica.reader().start())?;
    loop {
        let reader = replica.reader().clone();
        let read = blocking(move || {
            let up_to = reader.durable_end();
            Ok(reader.read(&mut cursor, up_to, BODY_BYTES).map(|body| (body, cursor)))
        });
        // The thread is gone when the broker is.
        let Ok(read) = read.await else { return Ok(()) };
        let (body, next) = read?;
        let Some(body) = body else { return Ok(()) };
        cursor = next;
        rate.take(body.len()).await;
    }
}
