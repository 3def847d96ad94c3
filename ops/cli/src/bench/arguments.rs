//! Arguments that several verbs share, and how they are read.
//!
//! Invariant: what they are called and how they default is the same for every verb.

use std::path::PathBuf;

use millstream_broker::config::{Bytes, Duration};
use millstream_client::{Compression, ProducerConfig};
use millstream_protocol::message::produce::Acks;

use super::quiet;
use crate::failure::{Failure, Result};

/// How much to do when nothing is said: a GiB of values.
const DEFAULT_BYTES: Bytes = Bytes(1 << 30);
/// The largest value that any topic takes by default.
const MAX_VALUE: u64 = 8 << 20;
/// How long a disk is waited for that others use too.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// How many records, and how large.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Amount {
    /// How many records.
    #[arg(long, value_name = "N", conflicts_with = "bytes")]
    records: Option<u64>,
    /// How many bytes of values, such as 4GiB [default: 1GiB].
    #[arg(long, value_name = "SIZE")]
    bytes: Option<Bytes>,
    /// Bytes of each value.
    #[arg(long, value_name = "SIZE", default_value = "1024")]
    size: Bytes,
}

impl Amount {
    /// The number of records and the bytes of each value.
    pub(super) fn of(self) -> Result<(u64, usize)> {
        let Bytes(size) = self.size;
        if !(1..=MAX_VALUE).contains(&size) {
            return Err(Failure::usage(format!("--size {size}: between 1 and {MAX_VALUE} bytes")));
        }
        let all = self.bytes.unwrap_or(DEFAULT_BYTES).0;
        let records = self.records.unwrap_or_else(|| all.div_ceil(size));
        if records == 0 {
            return Err(Failure::usage("nothing to do: --records and --bytes begin at 1"));
        }
        Ok((records, usize::try_from(size).expect("at most 8 MiB")))
    }
}

/// How to produce. What is left out is as the client has it by default.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Producing {
    /// When a record counts as written: 0 never, 1 once appended, all once committed.
    #[arg(long, value_name = "ACKS", value_parser = acks, default_value = "all")]
    acks: Acks,
    /// How batches are compressed: none, lz4, zstd.
    #[arg(long, value_name = "CODEC", value_parser = compression, default_value = "none")]
    compression: Compression,
    /// A batch of so many bytes is sent at once.
    #[arg(long, value_name = "SIZE")]
    batch_bytes: Option<Bytes>,
    /// How long a batch waits for more records.
    #[arg(long, value_name = "TIME")]
    linger: Option<Duration>,
    /// Batches on their way, for each partition.
    #[arg(long, value_name = "N")]
    in_flight: Option<usize>,
    /// Bytes of records that wait or are on their way.
    #[arg(long, value_name = "SIZE")]
    buffer: Option<Bytes>,
}

impl Producing {
    /// The client's configuration.
    pub(super) fn config(&self) -> ProducerConfig {
        let default = ProducerConfig::default();
        let size = |given: Option<Bytes>, default| {
            given.map_or(default, |Bytes(bytes)| usize::try_from(bytes).unwrap_or(usize::MAX))
        };
        ProducerConfig {
            acks: self.acks,
            compression: self.compression,
            batch_bytes: size(self.batch_bytes, default.batch_bytes),
            linger: self.linger.map_or(default.linger, |linger| linger.0),
            max_in_flight: self.in_flight.unwrap_or(default.max_in_flight),
            buffer_bytes: size(self.buffer, default.buffer_bytes),
            ..default
        }
    }

    /// The same, but a batch waits for nothing unless that was asked for.
    pub(super) fn prompt(&self) -> ProducerConfig {
        let linger = self.linger.map_or(std::time::Duration::ZERO, |linger| linger.0);
        ProducerConfig { linger, ..self.config() }
    }
}

/// The broker's process, when it is on this machine; of a cluster, all of them.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Watched {
    /// The broker's process id, to report its CPU seconds and memory; of several, with commas, the sums.
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pub(super) broker_pid: Vec<u32>,
}

/// What earlier work has left the disk to do, when the broker is on this machine.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Settling {
    /// A directory on the broker's disk: the clock starts when that disk has nothing left to do.
    #[arg(long, value_name = "DIR")]
    settle: Option<PathBuf>,
}

impl Settling {
    /// Waits for the disk, if one was named, and not for ever.
    pub(super) async fn wait(self) -> Result {
        let Some(dir) = self.settle else { return Ok(()) };
        let named = dir.display().to_string();
        let waited = tokio::task::spawn_blocking(move || quiet::wait(&dir, PATIENCE)).await;
        waited.map_err(Failure::new)?.map_err(|error| {
            Failure::new(error).context(format!("--settle {named}: cannot look after its disk"))
        })
    }
}

fn acks(text: &str) -> std::result::Result<Acks, String> {
    match text {
        "0" => Ok(Acks::Zero),
        "1" => Ok(Acks::One),
        "all" => Ok(Acks::All),
        _ => Err("one of 0, 1, all".to_owned()),
    }
}

fn compression(text: &str) -> std::result::Result<Compression, String> {
    match text {
        "none" => Ok(Compression::None),
        "lz4" => Ok(Compression::Lz4),
        "zstd" => Ok(Compression::Zstd),
        _ => Err("one of none, lz4, zstd".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_records_or_bytes_and_never_nothing() {
        let amount = |records, bytes: Option<u64>, size| {
            Amount { records, bytes: bytes.map(Bytes), size: Bytes(size) }.of().ok()
        };
        assert_eq!(amount(Some(5), None, 100), Some((5, 100)));
        assert_eq!(amount(None, Some(1_001), 100), Some((11, 100)));
        assert_eq!(amount(None, None, 1 << 10), Some((1 << 20, 1 << 10)));
        assert_eq!(amount(Some(0), None, 100), None);
        assert_eq!(amount(None, None, 0), None);
    }
}
