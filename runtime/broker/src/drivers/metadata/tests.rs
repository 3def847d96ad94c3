//! Deciding, on a disk in memory.

use millstream_core::replication::{Ballot, Timing, VoterSet};
use millstream_protocol::ids::{NodeId, ReplicaId, TopicName};
use millstream_protocol::limits::MAX_BATCH_BYTES;
use millstream_storage::data_dir::DataDir;
use millstream_storage::disk::{AnyDisk, Disk as _, MemDisk};
use millstream_storage::log::LogConfig;
use millstream_storage::metadata::{Identity, Store};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::clock::Clock;
use crate::cores::Cores;
use crate::drivers::log_writer::LogWriters;
use crate::drivers::store;
use crate::metrics::TopicMetrics;
use crate::opening::{Opener, Standing};
use crate::peers::Reports;

/// What decides, and the disk under it.
struct Ground {
    disk: MemDisk,
    dir: tempfile::TempDir,
    metadata: Metadata,
    _cores: Cores,
}

impl Ground {
    async fn new() -> Self {
        let (disk, dir) = (MemDisk::new(), tempfile::tempdir().unwrap());
        let data = Arc::new(DataDir::open(dir.path()).unwrap());
        disk.create_dir_all(dir.path()).unwrap();
        let fresh = Identity { cluster: 1, incarnation: 1 };
        let (store, _) = store::start(Store::open(&disk, &data.metadata_file(), fresh).unwrap())
            .expect("a thread");
        let me = ReplicaId { node: NodeId(1), incarnation: 1 };
        let peers = Peers::none(me);
        let opener = Opener {
            data,
            disk: AnyDisk::Memory(disk.clone()),
            writers: Arc::new(LogWriters::start(1).unwrap()),
            store: store.clone(),
            peers: peers.clone(),
            damage: Reports::channel().0,
            timing: Timing::default(),
            lost_power: false,
            opened: Arc::default(),
            clock: Clock::start(),
            stop: CancellationToken::new(),
        };
        let cores = Cores::start(1).unwrap();
        let (name, core) = (TopicName::new("__metadata").unwrap(), &cores.all()[0]);
        let config = (LogConfig::default(), MAX_BATCH_BYTES);
        let topic = (&name, &TopicMetrics::new());
        let standing = Standing {
            voters: VoterSet::new([me]),
            voters_at: Default::default(),
            ballot: Ballot::default(),
        };
        let log = opener.open(core, topic, LOG, config, standing, &Image::default()).await.unwrap();
        let (metadata, mut applier, proposer) = open(log, store, Image::default(), peers);
        applier.catch_up().await.unwrap();
        core.spawn(applier.run());
        core.spawn(proposer.run());
        Self { disk, dir, metadata, _cores: cores }
    }
}

impl Metadata {
    /// What decides nothing, for tests of who follows it.
    pub(crate) fn idle() -> Self {
        let (proposals, _) = mpsc::channel(1);
        let (image, behind) = (watch::channel(Arc::default()).1, watch::channel(None).1);
        Self { proposals, image, behind, log: None, snapshots: Snapshots::default() }
    }
}

fn register(address: String) -> Command {
    Command::RegisterBroker { node: NodeId(1), incarnation: 1, address, rack: None }
}

#[tokio::test]
async fn what_was_rejected_is_not_read_again() {
    let ground = Ground::new().await;
    let unknown = Command::DeleteTopic { topic: TopicId(7) };
    let rejected = ground.metadata.propose(unknown).await.expect_err("there is none");
    assert_eq!(rejected.code, ErrorCode::UnknownTopic, "{rejected}");

    let segment = ground.dir.path().join("partitions/4294967295-0/00000000000000000000.log");
    ground.disk.flip(&segment, 76, 1).unwrap();
    let decided = ground.metadata.propose(register("a:1".to_owned())).await;
    decided.expect("nothing of it depends on the rejected one");
    assert_eq!(ground.metadata.image().applied(), Offset(2));
}

#[tokio::test]
async fn a_command_that_fits_no_batch_is_refused_and_says_so() {
    let ground = Ground::new().await;
    let refused = ground.metadata.propose(register("x".repeat(2 * MAX_BATCH_BYTES))).await;
    let refused = refused.expect_err("it is too large");
    assert_eq!(refused.code, ErrorCode::TooLarge, "{refused}");
    ground.metadata.propose(register("a:1".to_owned())).await.expect("the next one is decided");
}
