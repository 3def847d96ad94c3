//! Bugs that can be put back, to grade the simulator: each is one that a real system had.
//!
//! They exist only in builds with `--cfg millstream_mutations`, which nothing but `cargo xtask sim --mutations`
//! makes; everywhere else [`is`] is the constant `false`.
//!
//! Invariant: without that flag this file changes nothing.

/// A bug that can be put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mutation {
    /// A follower cuts its log at its high watermark when it gets a leader (Kafka before KIP-101).
    TruncateToHighWatermark = 1,
    /// A follower cuts once, where the leader says, and believes that the rest agrees (before KIP-279).
    SingleStepTruncation,
    /// A replica counts as durable what it has only written.
    AckBeforeSync,
    /// A vote is given before it is durable.
    VoteWithoutPersisting,
    /// A leader commits what an earlier epoch wrote by counting replicas (Raft, figure 8).
    CommitByCounting,
    /// A new leader knows nothing of producers.
    ForgetProducers,
    /// A wiped disk counts as the replica that it was.
    AcceptWipedDisk,
    /// A leader lets readers see what is not committed.
    ReadBeyondHighWatermark,
    /// Voter sets change without waiting for the one before to be committed.
    OverlappingVoterChanges,
    /// A candidate's log is not compared with the voter's.
    VoteForShorterLog,
    /// A reader of what is committed is shown what is not decided.
    ReadUndecided,
    /// A transaction's end, however late, ends whatever its producer has open (before KIP-890).
    LateMarkerEndsAll,
    /// A snapshot of producers leaves their transactions out.
    ForgetTransactions,
    /// A coordinator of groups reads the log before it knows what is committed.
    ServeBeforeLoaded,
    /// A partition is given to its next owner while the one before has not let go of it.
    HandOverBeforeRelease,
    /// Anybody commits for any partition.
    CommitByFenced,
    /// Members are told of what is not committed.
    TellBeforeWritten,
    /// Members are fenced before their session is over.
    FenceTooSoon,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::TruncateToHighWatermark,
        Self::SingleStepTruncation,
        Self::AckBeforeSync,
        Self::VoteWithoutPersisting,
        Self::CommitByCounting,
        Self::ForgetProducers,
        Self::AcceptWipedDisk,
        Self::ReadBeyondHighWatermark,
        Self::OverlappingVoterChanges,
        Self::VoteForShorterLog,
        Self::ReadUndecided,
        Self::LateMarkerEndsAll,
        Self::ForgetTransactions,
        Self::ServeBeforeLoaded,
        Self::HandOverBeforeRelease,
        Self::CommitByFenced,
        Self::TellBeforeWritten,
        Self::FenceTooSoon,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TruncateToHighWatermark => "truncate-to-high-watermark",
            Self::SingleStepTruncation => "single-step-truncation",
            Self::AckBeforeSync => "ack-before-sync",
            Self::VoteWithoutPersisting => "vote-without-persisting",
            Self::CommitByCounting => "commit-by-counting",
            Self::ForgetProducers => "forget-producers",
            Self::AcceptWipedDisk => "accept-wiped-disk",
            Self::ReadBeyondHighWatermark => "read-beyond-high-watermark",
            Self::OverlappingVoterChanges => "overlapping-voter-changes",
            Self::VoteForShorterLog => "vote-for-shorter-log",
            Self::ReadUndecided => "read-undecided",
            Self::LateMarkerEndsAll => "late-marker-ends-all",
            Self::ForgetTransactions => "forget-transactions",
            Self::ServeBeforeLoaded => "serve-before-loaded",
            Self::HandOverBeforeRelease => "hand-over-before-release",
            Self::CommitByFenced => "commit-by-fenced",
            Self::TellBeforeWritten => "tell-before-written",
            Self::FenceTooSoon => "fence-too-soon",
        }
    }
}

#[cfg(millstream_mutations)]
static ACTIVE: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Puts a bug back in this process, or takes it out again.
#[cfg(millstream_mutations)]
pub fn activate(mutation: Option<Mutation>) {
    let number = mutation.map_or(0, |mutation| mutation as u8);
    ACTIVE.store(number, std::sync::atomic::Ordering::Relaxed);
}

/// Whether this bug is there.
#[cfg(millstream_mutations)]
#[must_use]
pub fn is(mutation: Mutation) -> bool {
    ACTIVE.load(std::sync::atomic::Ordering::Relaxed) == mutation as u8
}

/// Whether this bug is there: no.
#[cfg(not(millstream_mutations))]
#[must_use]
pub const fn is(_mutation: Mutation) -> bool {
    false
}
