//! What a member of a group can be told.
//!
//! Invariant: by default nothing is committed that the program has not said is processed, and a group that is new to a
//! partition begins with its first record.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use millstream_protocol::ids::{GroupName, InstanceName, TopicName};
use millstream_protocol::message::group::{Assignor, MemberDetails, Subscription};

use super::RebalanceListener;
use crate::config::ClientConfig;
use crate::consumer::{ConsumerConfig, StartAt};
use crate::error::ClientError;

/// How long a member that is not static may be silent before its partitions are others'.
const SESSION: Duration = Duration::from_secs(2);
/// How long a static member may be away.
const STATIC_SESSION: Duration = Duration::from_secs(45);

/// When offsets are committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CommitMode {
    /// When the program says so: at least once.
    #[default]
    Manual,
    /// Every so often, in [`GroupConsumer::next`](super::GroupConsumer::next), and before a partition goes: what was
    /// handed out before that call counts as processed. At least once.
    Periodic(Duration),
    /// Before records are handed out: at most once.
    BeforeDelivery,
}

impl CommitMode {
    pub(super) const fn is_periodic(self) -> bool {
        matches!(self, Self::Periodic(_))
    }

    pub(super) const fn interval(self) -> Duration {
        match self {
            Self::Periodic(every) => every,
            Self::Manual | Self::BeforeDelivery => Duration::ZERO,
        }
    }
}

/// How a member takes part in its group.
#[derive(Clone)]
pub struct GroupConfig {
    /// The group.
    pub group: String,
    /// The topics to read; they need not be there yet.
    pub topics: Vec<String>,
    /// And every topic whose whole name this regular expression matches.
    pub pattern: Option<String>,
    /// A name of its own that the member keeps from one life to the next: then its partitions wait for it while it is
    /// away for less than the session timeout.
    pub instance: Option<String>,
    /// How partitions are shared out; a group goes by what most of its members say.
    pub assignor: Assignor,
    /// How long the member may be silent before its partitions are others'; by default 2 s, and 45 s with an instance
    /// name. It says that it lives from a thread of its own, four times as often.
    pub session_timeout: Option<Duration>,
    /// How long it may take to let go of a partition: until the program asks for the next records.
    pub rebalance_timeout: Duration,
    /// When offsets are committed.
    pub commit: CommitMode,
    /// Where a partition is begun that the group has committed nothing for.
    pub start: StartAt,
    /// How records are fetched.
    pub consumer: ConsumerConfig,
    /// Who is told when partitions come and go.
    pub listener: Option<Arc<dyn RebalanceListener>>,
}

impl GroupConfig {
    /// A member of `group` that reads these topics.
    #[must_use]
    pub fn new<T: Into<String>>(
        group: impl Into<String>,
        topics: impl IntoIterator<Item = T>,
    ) -> Self {
        Self {
            group: group.into(),
            topics: topics.into_iter().map(Into::into).collect(),
            pattern: None,
            instance: None,
            assignor: Assignor::Uniform,
            session_timeout: None,
            rebalance_timeout: Duration::from_secs(60),
            commit: CommitMode::Manual,
            start: StartAt::Earliest,
            consumer: ConsumerConfig::default(),
            listener: None,
        }
    }

    /// With this commit mode.
    #[must_use]
    pub fn commit(self, commit: CommitMode) -> Self {
        Self { commit, ..self }
    }

    pub(super) fn name(&self) -> Result<GroupName, ClientError> {
        Ok(GroupName::new(&self.group)?)
    }

    /// Refuses what cannot work, and says who the member is.
    pub(super) fn details(&self, client: &ClientConfig) -> Result<MemberDetails, ClientError> {
        self.name()?;
        let topics = self.topics.iter().map(|topic| TopicName::new(topic));
        let topics = topics.collect::<Result<Vec<_>, _>>()?;
        if topics.is_empty() && self.pattern.is_none() {
            return Err(ClientError::InvalidConfig {
                name: "topics",
                value: "[]".to_owned(),
                rule: "at least one, or a pattern",
            });
        }
        let instance = self.instance.as_deref().map(InstanceName::new).transpose()?;
        let default = if instance.is_some() { STATIC_SESSION } else { SESSION };
        let session = self.session_timeout.unwrap_or(default);
        Ok(MemberDetails {
            instance,
            client: client.client_id.clone(),
            subscription: Subscription { topics, pattern: self.pattern.clone() },
            assignor: self.assignor,
            session_timeout_ms: millis("session_timeout", session)?,
            rebalance_timeout_ms: millis("rebalance_timeout", self.rebalance_timeout)?,
        })
    }
}

fn millis(name: &'static str, duration: Duration) -> Result<u32, ClientError> {
    let millis = u32::try_from(duration.as_millis()).ok().filter(|millis| 200 <= *millis);
    millis.ok_or_else(|| ClientError::InvalidConfig {
        name,
        value: format!("{duration:?}"),
        rule: "at least 200 ms, at most an hour for a session and a day to let go",
    })
}

impl fmt::Debug for GroupConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("GroupConfig");
        shown.field("group", &self.group).field("topics", &self.topics);
        shown.field("pattern", &self.pattern).field("commit", &self.commit).finish_non_exhaustive()
    }
}
