//! Recovering what has lost its majority for good: this broker becomes the only voter, and what the lost brokers
//! alone had is given up. On a broker that is stopped.
//!
//! ```text
//!   examine ─▶ findings, for the operator to read ─▶ carry out: ballot durable ─▶ batch of voters in the log
//! ```
//!
//! Invariant: nothing is changed before it was carried out; nothing that still has its majority, or that another
//! survivor may have more of, is touched unasked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use millstream_core::log::epochs::EpochTable;
use millstream_core::metadata::Placement;
use millstream_core::replication::{Ballot, Control, VoterSet};
use millstream_protocol::batch::{Batch, SealedBatches};
use millstream_protocol::ids::{
    LeaderEpoch, NodeId, Offset, PartitionIndex, ReplicaId, Timestamp, TopicName, TopicPartition,
};
use millstream_storage::data_dir::DataDir;
use millstream_storage::disk::{AnyDisk, RealDisk};
use millstream_storage::log::{AppendBatch, LogConfig, PartitionLog};
use millstream_storage::metadata::Identity;
use thiserror::Error;

use crate::clock::Clock;
use crate::drivers::metadata::LOG;
use crate::drivers::partition::{ballot_row, control};
use crate::run::{StartError, Stored};

/// Bytes of a log's end that are read to see when it was written.
const END_BYTES: usize = 1 << 20;

/// What the operator says.
#[derive(Clone, Debug)]
pub struct Request {
    /// The data directory of the broker, which is stopped.
    pub data_dir: PathBuf,
    /// The brokers that are lost for good.
    pub lost: BTreeSet<NodeId>,
    /// Whether this broker is the one to decide from now on, if the metadata has lost its majority.
    pub metadata: bool,
    /// Partitions to recover here though others survive that have them too.
    pub only: Vec<(TopicName, PartitionIndex)>,
}

/// Why nothing is recovered.
#[derive(Debug, Error)]
pub enum RecoverError {
    /// The directory, or what is stored in it.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The request does not fit what is there.
    #[error("{0}")]
    Unfit(String),
    /// A log did not take what was to be written to it.
    #[error("{what} was not recovered: {why}; what was named before it is")]
    Log {
        /// The metadata or the partition.
        what: String,
        /// What the log said.
        why: String,
    },
}

/// What becomes of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Enough of its voters are left.
    Whole,
    /// It is recovered here, and what the lost brokers alone had of it is given up.
    Recovered,
    /// Others survive that have it too, and perhaps more of it: it is recovered on one of them, when asked for.
    Undecided(Vec<NodeId>),
    /// No broker that survives has it.
    Lost,
    /// It is here, and cannot be recovered.
    Unusable(String),
}

/// A log that lost brokers voted on.
#[derive(Clone, Debug)]
pub struct Finding {
    /// `TOPIC/PARTITION`, or `metadata`.
    pub name: String,
    /// Who voted.
    pub voters: Vec<NodeId>,
    /// Everything before this offset is here.
    pub end: Offset,
    /// The epoch it was written in, last.
    pub epoch: LeaderEpoch,
    /// When the last record that is here was written.
    pub written: Option<Timestamp>,
    /// Whether this copy may have lost what it had.
    pub doubtful: bool,
    /// What becomes of it.
    pub verdict: Verdict,
    id: TopicPartition,
}

/// A stopped broker that was looked at.
pub struct Examined {
    /// This broker.
    pub node: NodeId,
    /// What lost brokers voted on, the metadata first.
    pub findings: Vec<Finding>,
    me: ReplicaId,
    /// Held, so that no broker starts meanwhile.
    data: DataDir,
    stored: Stored,
}

impl std::fmt::Debug for Examined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Examined").field("findings", &self.findings).finish_non_exhaustive()
    }
}

/// Looks at a stopped broker, and changes nothing.
///
/// # Errors
/// [`RecoverError`] when the directory is no stopped broker's, or the request does not fit it.
pub fn examine(request: &Request) -> Result<Examined, RecoverError> {
    let unfit = |text: String| Err(RecoverError::Unfit(text));
    let root = &request.data_dir;
    if !root.join("metadata.redb").exists() {
        return unfit(format!("{} is no broker's data directory", root.display()));
    }
    let data = DataDir::open(root).map_err(StartError::from)?;
    let fresh = Identity { cluster: 0, incarnation: 0 };
    let stored = Stored::load(&AnyDisk::Real(RealDisk), &data.metadata_file(), fresh)?;
    let incarnation = stored.identity.incarnation;
    let known = stored.image.brokers().iter().find(|(_, known)| known.incarnation == incarnation);
    let Some((&node, _)) = known else {
        return unfit("this broker is not part of a cluster that it knows".to_owned());
    };
    if request.lost.contains(&node) {
        return unfit(format!("this is broker {node}, which is said to be lost"));
    }
    let unknown = request.lost.iter().find(|lost| !stored.image.brokers().contains_key(lost));
    if let Some(lost) = unknown {
        return unfit(format!("there is no broker {lost} in this cluster"));
    }
    let me = ReplicaId { node, incarnation };
    let mut examined = Examined { node, findings: Vec::new(), me, data, stored };
    examined.look_at_metadata(request)?;
    examined.look_at_partitions(request)?;
    Ok(examined)
}

impl Examined {
    fn look_at_metadata(&mut self, request: &Request) -> Result<(), RecoverError> {
        let founders = self.stored.own.founders.clone();
        let (at, founders) = founders.ok_or_else(|| {
            RecoverError::Unfit("this broker never became part of a cluster".to_owned())
        })?;
        let voters = self.ballot(LOG).newest((&founders, at.offset)).clone();
        let finding = self.finding(LOG, "metadata".to_owned(), &voters, request, request.metadata);
        if request.metadata && finding.verdict != Verdict::Recovered {
            let why = format!("the metadata is not to be recovered here: {:?}", finding.verdict);
            return Err(RecoverError::Unfit(why));
        }
        self.findings.push(finding);
        Ok(())
    }

    fn look_at_partitions(&mut self, request: &Request) -> Result<(), RecoverError> {
        let image = self.stored.image.clone();
        let mut named: BTreeSet<_> = request.only.iter().cloned().collect();
        for (id, placement) in image.placements() {
            let topic = &image.topics()[&id.topic].name;
            let asked = named.remove(&(topic.clone(), id.partition));
            let voters = self.voters(id, placement);
            let name = format!("{topic}/{}", id.partition);
            let finding = self.finding(id, name, &voters, request, asked);
            if asked && finding.verdict != Verdict::Recovered {
                let text =
                    format!("{} cannot be recovered here: {:?}", finding.name, finding.verdict);
                return Err(RecoverError::Unfit(text));
            }
            if finding.voters.iter().any(|voter| request.lost.contains(voter)) {
                self.findings.push(finding);
            }
        }
        match named.into_iter().next() {
            Some((topic, partition)) => {
                Err(RecoverError::Unfit(format!("there is no partition {topic}/{partition}")))
            }
            None => Ok(()),
        }
    }

    fn ballot(&self, id: TopicPartition) -> Ballot {
        self.stored.ballots.get(&id).cloned().unwrap_or_default()
    }

    fn voters(&self, id: TopicPartition, placement: &Placement) -> VoterSet {
        let placed = VoterSet::try_from(placement.voters.clone());
        let placed = placed.expect("an applied placement has voters");
        let at = placement.voters_at.offset;
        self.ballot(id).newest((&placed, at)).clone()
    }

    fn finding(
        &self,
        id: TopicPartition,
        name: String,
        voters: &VoterSet,
        request: &Request,
        asked: bool,
    ) -> Finding {
        let survivors: BTreeSet<_> =
            voters.iter().filter(|voter| !request.lost.contains(&voter.node)).collect();
        let others = survivors.iter().map(|voter| voter.node).filter(|node| *node != self.node);
        let others: Vec<_> = others.collect();
        let mut finding = Finding {
            id,
            name,
            voters: voters.iter().map(|voter| voter.node).collect(),
            end: Offset::ZERO,
            epoch: LeaderEpoch(0),
            written: None,
            doubtful: self.ballot(id).doubtful,
            verdict: Verdict::Whole,
        };
        if voters.is_majority(&survivors) {
            return finding;
        }
        if !survivors.contains(&self.me) {
            finding.verdict =
                if others.is_empty() { Verdict::Lost } else { Verdict::Undecided(others) };
            return finding;
        }
        finding.verdict = match look_at_log(&self.data.partition_dir(id), &mut finding) {
            Err(why) => Verdict::Unusable(why),
            Ok(()) if self.is_outdated(id, finding.end) => Verdict::Unusable(
                "it ends before its voters were last changed: another broker has more".to_owned(),
            ),
            Ok(()) if others.is_empty() || asked => Verdict::Recovered,
            Ok(()) => Verdict::Undecided(others),
        };
        finding
    }

    /// Whether voters were decided beyond the end of this log: nothing that is written to it would count.
    fn is_outdated(&self, id: TopicPartition, end: Offset) -> bool {
        let placed = self.stored.image.placement(id).map(|placement| placement.voters_at.offset);
        placed.is_some_and(|at| end < at)
    }

    /// Recovers what was found to be recovered here.
    ///
    /// # Errors
    /// [`RecoverError`] when the store or a log does not take it. May be repeated.
    pub fn carry_out(mut self) -> Result<(), RecoverError> {
        let recovered = |finding: &&Finding| finding.verdict == Verdict::Recovered;
        let chosen: BTreeMap<_, _> = self
            .findings
            .iter()
            .filter(recovered)
            .map(|finding| (finding.id, finding.name.clone()))
            .collect();
        for (id, what) in chosen {
            let failed = |why: String| RecoverError::Log { what: what.clone(), why };
            let dir = self.data.partition_dir(id);
            let mut log = open(&dir).map_err(failed)?;
            let mut ballot = self.ballot(id);
            let (end, epochs) = (log.end(), EpochTable::new(log.epochs().to_vec()));
            let epoch = ballot.force(self.me, end, &epochs);
            self.stored.keep(&[ballot_row(id, &ballot)])?;
            let batch = control(&Control::Voters(VoterSet::new([self.me])), Clock::wall());
            let Batch { header, bytes } = &batch;
            let chunks = std::slice::from_ref(bytes);
            let append = AppendBatch { base_offset: end, epoch, header, chunks };
            log.append(&[append]).map_err(|error| failed(error.to_string()))?;
            log.close().map_err(|error| failed(error.to_string()))?;
        }
        Ok(())
    }
}

fn open(dir: &Path) -> Result<PartitionLog<AnyDisk>, String> {
    // As large a segment as there is: nothing is rolled or deleted here.
    let config = LogConfig::default();
    let opened = PartitionLog::open(AnyDisk::Real(RealDisk), dir, config, Clock::wall());
    let (log, _) = opened.map_err(|error| error.to_string())?;
    match log.stopped() {
        Some(why) => Err(why.to_string()),
        None => Ok(log),
    }
}

fn look_at_log(dir: &Path, finding: &mut Finding) -> Result<(), String> {
    let log = open(dir)?;
    finding.end = log.end();
    finding.epoch = log.epochs().last().map_or(LeaderEpoch(0), |(epoch, _)| *epoch);
    let reader = log.reader();
    if reader.start() < log.end() {
        let last = Offset(log.end().get() - 1);
        let mut cursor = reader.cursor_at(last).map_err(|error| error.to_string())?;
        let read = reader.read(&mut cursor, log.end(), END_BYTES);
        let sealed = read.map_err(|error| error.to_string())?;
        let batches = sealed.map(SealedBatches::new).into_iter().flatten().flatten();
        finding.written = batches.map(|sealed| sealed.batch.header.max_timestamp).last();
    }
    Ok(())
}
