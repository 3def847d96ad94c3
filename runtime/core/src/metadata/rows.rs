//! The image as rows: what is stored of it, and what a command changed.
//!
//! A row's key is its id in big endian, or a name with its version, so that rows lie in order; its
//! value is postcard.
//!
//! Invariant: the changed rows of every applied command, put one over the other, are exactly the image.

use std::collections::BTreeMap;

use millstream_protocol::ids::{JobId, ModuleRef, NodeId, Offset, ReplicaId, TopicId, TopicName};
use millstream_protocol::message::replica::LogEnd;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::config::TopicConfig;
use super::features;
use super::image::{Allocations, Broker, Image, Placement, Topic};

/// A table of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Topics, by id.
    Topics,
    /// Configuration that is not the default, by topic id.
    Configs,
    /// Module versions, by name and version.
    Modules,
    /// Jobs, by id.
    Jobs,
    /// Brokers, by id.
    Brokers,
    /// Ids given out so far: one row with an empty key.
    Allocations,
    /// The feature levels that brokers support, by id, and under an empty key the one that the cluster works at.
    Features,
}

impl Table {
    /// All tables; snapshots name them by their places here.
    pub const ALL: [Self; 7] = [
        Self::Topics,
        Self::Configs,
        Self::Modules,
        Self::Jobs,
        Self::Brokers,
        Self::Allocations,
        Self::Features,
    ];
}

/// One row that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowChange {
    /// Where.
    pub table: Table,
    /// Which row.
    pub key: Vec<u8>,
    /// Its new value; `None` when it is gone.
    pub value: Option<Vec<u8>>,
}

/// Why stored rows are no image.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("metadata table {table:?}, row {key:02x?}: {problem}; nothing was changed")]
pub struct RowError {
    /// Where.
    pub table: Table,
    /// Which row.
    pub key: Vec<u8>,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// What a command touched; its rows are read from the image afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Touched {
    Topic(TopicId),
    Config(TopicId),
    Module(ModuleRef),
    Job(JobId),
    Broker(NodeId),
    Allocations,
    Supported(NodeId),
    Level,
}

/// The rows of what was touched, as they are now.
pub(super) fn changes(image: &Image, touched: &[Touched]) -> Vec<RowChange> {
    touched.iter().map(|touched| row(image, touched)).collect()
}

fn row(image: &Image, touched: &Touched) -> RowChange {
    let (table, key, value) = match touched {
        Touched::Topic(id) => (Table::Topics, key(id.0), image.topics.get(id).map(encode)),
        Touched::Config(id) => {
            let configs = image.topics.get(id).map(|topic| &topic.configs);
            let configs = configs.filter(|configs| !configs.is_empty());
            (Table::Configs, key(id.0), configs.map(encode))
        }
        Touched::Module(id) => (Table::Modules, module_key(id), image.modules.get(id).map(encode)),
        Touched::Job(id) => (Table::Jobs, key(id.0), image.jobs.get(id).map(encode)),
        Touched::Broker(id) => (Table::Brokers, key(id.0), image.brokers.get(id).map(encode)),
        Touched::Allocations => (Table::Allocations, vec![], Some(encode(&image.allocations))),
        Touched::Supported(id) => {
            (Table::Features, key(id.0), image.features.supported.get(id).map(encode))
        }
        Touched::Level => {
            let raised = Some(image.features.level).filter(|level| *level != features::FIRST);
            (Table::Features, vec![], raised.as_ref().map(encode))
        }
    };
    RowChange { table, key, value }
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("memory takes any row")
}

fn key(id: u32) -> Vec<u8> {
    id.to_be_bytes().to_vec()
}

fn module_key(module: &ModuleRef) -> Vec<u8> {
    let mut key = module.name.as_str().as_bytes().to_vec();
    key.push(b'@');
    key.extend(module.version.to_be_bytes());
    key
}

impl Image {
    /// All rows, for a snapshot.
    #[must_use]
    pub fn rows(&self) -> Vec<RowChange> {
        let topics = self.topics.keys().map(|id| Touched::Topic(*id));
        let configs = self.topics.keys().map(|id| Touched::Config(*id));
        let modules = self.modules.keys().map(|id| Touched::Module(id.clone()));
        let jobs = self.jobs.keys().map(|id| Touched::Job(*id));
        let brokers = self.brokers.keys().map(|id| Touched::Broker(*id));
        let supported = self.features.supported.keys().map(|id| Touched::Supported(*id));
        let all = topics.chain(configs).chain(modules).chain(jobs).chain(brokers).chain(supported);
        let touched: Vec<_> = all.chain([Touched::Allocations, Touched::Level]).collect();
        let mut rows = changes(self, &touched);
        rows.retain(|row| row.value.is_some());
        rows
    }

    /// The image that rows hold, as of `applied`. No rows at all are the image of an empty cluster.
    ///
    /// # Errors
    /// [`RowError`] for the first row that is damaged or does not fit the others: damage never reads
    /// as "there is nothing".
    pub fn from_rows<'a>(
        applied: Offset,
        rows: impl IntoIterator<Item = (Table, &'a [u8], &'a [u8])>,
    ) -> Result<Self, RowError> {
        let mut image = Self { applied, ..Self::default() };
        let mut configs = BTreeMap::new();
        for (table, key, value) in rows {
            let wrong = |problem| RowError { table, key: key.to_vec(), problem };
            match table {
                Table::Topics => {
                    let topic = decode(table, key, value).or_else(|error| {
                        let old = decode::<OldTopic>(table, key, value);
                        old.map(Topic::from).map_err(|_| error)
                    });
                    image.topics.insert(TopicId(id(table, key)?), topic?);
                }
                Table::Configs => {
                    configs.insert(TopicId(id(table, key)?), decode(table, key, value)?);
                }
                Table::Modules => {
                    let module =
                        module_of(key).ok_or_else(|| wrong("the key is no module version"))?;
                    image.modules.insert(module, decode(table, key, value)?);
                }
                Table::Jobs => {
                    image.jobs.insert(JobId(id(table, key)?), decode(table, key, value)?);
                }
                Table::Brokers => {
                    let broker = decode(table, key, value).or_else(|error| {
                        let old = decode::<OldBroker>(table, key, value);
                        old.map(Broker::from).map_err(|_| error)
                    });
                    image.brokers.insert(NodeId(id(table, key)?), broker?);
                }
                Table::Allocations => image.allocations = decode(table, key, value)?,
                Table::Features if key.is_empty() => {
                    image.features.level = decode(table, key, value)?;
                }
                Table::Features => {
                    let levels = decode(table, key, value)?;
                    image.features.supported.insert(NodeId(id(table, key)?), levels);
                }
            }
        }
        image.take_configs(configs)?;
        image.find_voters();
        image.index_names()?;
        image.check_allocations()?;
        Ok(image)
    }

    /// Rows from before there were several voters do not name them.
    fn find_voters(&mut self) {
        let brokers = &self.brokers;
        let replica = |node: &NodeId| {
            let incarnation = brokers.get(node)?.incarnation;
            Some(ReplicaId { node: *node, incarnation })
        };
        for placement in self.topics.values_mut().flat_map(|topic| &mut topic.partitions) {
            if placement.voters.is_empty() {
                placement.voters = placement.replicas.iter().filter_map(replica).collect();
            }
        }
    }

    fn take_configs(
        &mut self,
        configs: BTreeMap<TopicId, BTreeMap<String, String>>,
    ) -> Result<(), RowError> {
        for (id, set) in configs {
            let wrong = |problem| RowError { table: Table::Configs, key: key(id.0), problem };
            let topic = self.topics.get_mut(&id).ok_or_else(|| wrong("its topic is not there"))?;
            TopicConfig::resolve(&set).map_err(|_| wrong("a value is not allowed"))?;
            topic.configs = set;
        }
        Ok(())
    }

    fn index_names(&mut self) -> Result<(), RowError> {
        let wrong = |table, id, problem| RowError { table, key: key(id), problem };
        for (&id, topic) in &self.topics {
            if self.topic_names.insert(topic.name.clone(), id).is_some() {
                return Err(wrong(Table::Topics, id.0, "another topic has its name"));
            }
        }
        for (&id, job) in &self.jobs {
            if self.job_names.insert(job.spec.name.clone(), id).is_some() {
                return Err(wrong(Table::Jobs, id.0, "another job has its name"));
            }
        }
        Ok(())
    }

    /// An id that is in use but was never given out would be given out again.
    fn check_allocations(&self) -> Result<(), RowError> {
        let Allocations { topics, jobs, versions, .. } = &self.allocations;
        let topic = self.topics.keys().next_back().is_none_or(|id| id.0 < *topics);
        let job = self.jobs.keys().next_back().is_none_or(|id| id.0 < *jobs);
        let mut modules = self.modules.keys();
        let given = |m: &ModuleRef| versions.get(m.name.as_str()).is_some_and(|v| m.version <= *v);
        if topic && job && modules.all(given) {
            return Ok(());
        }
        let problem = "an id is in use that was never given out";
        Err(RowError { table: Table::Allocations, key: vec![], problem })
    }
}

/// A topic's row from before there were several voters.
#[derive(Deserialize)]
struct OldTopic {
    name: TopicName,
    partitions: Vec<Vec<NodeId>>,
}

impl From<OldTopic> for Topic {
    fn from(old: OldTopic) -> Self {
        let place = |replicas| Placement {
            replicas,
            voters: Vec::new(),
            voters_at: LogEnd::default(),
            version: 0,
            confirmed: 0,
        };
        let partitions = old.partitions.into_iter().map(place).collect();
        Self { name: old.name, partitions, configs: BTreeMap::new() }
    }
}

/// A broker's row from then.
#[derive(Deserialize)]
struct OldBroker {
    incarnation: u128,
    address: String,
    rack: Option<String>,
}

impl From<OldBroker> for Broker {
    fn from(old: OldBroker) -> Self {
        let OldBroker { incarnation, address, rack } = old;
        Self { incarnation, address, rack, controller: true, draining: false, fenced: false }
    }
}

fn id(table: Table, key: &[u8]) -> Result<u32, RowError> {
    let id = key.try_into().map(u32::from_be_bytes);
    id.map_err(|_| RowError { table, key: key.to_vec(), problem: "the key is no id" })
}

fn module_of(key: &[u8]) -> Option<ModuleRef> {
    let (name, version) = key.split_last_chunk::<4>()?;
    let name = std::str::from_utf8(name.strip_suffix(b"@")?).ok()?;
    Some(ModuleRef { name: name.parse().ok()?, version: u32::from_be_bytes(*version) })
}

fn decode<T: DeserializeOwned>(table: Table, key: &[u8], value: &[u8]) -> Result<T, RowError> {
    let wrong = |problem| RowError { table, key: key.to_vec(), problem };
    let (value, rest) =
        postcard::take_from_bytes(value).map_err(|_| wrong("the value does not decode"))?;
    if !rest.is_empty() {
        return Err(wrong("bytes follow the value"));
    }
    Ok(value)
}
