//! One partition's driver, over a log on a disk in memory.

use std::sync::mpsc as std_mpsc;
use std::task::{Context, Wake, Waker};

use millstream_core::metadata::Image;
use millstream_core::replication::{Timing, VoterSet};
use millstream_protocol::batch::{Batch, BatchBuilder, Compression, ProducerStamp};
use millstream_protocol::ids::{NodeId, PartitionIndex, Timestamp, TopicId, TopicName};
use millstream_protocol::limits::MAX_BATCH_BYTES;
use millstream_storage::data_dir::DataDir;
use millstream_storage::disk::{AnyDisk, Disk as _, MemDisk};
use millstream_storage::log::LogConfig;
use millstream_storage::metadata::{Identity, Store};

use super::*;
use crate::cores::Cores;
use crate::drivers::log_writer::LogWriters;
use crate::drivers::store;
use crate::opening::{Opener, Standing};
use crate::peers::Reports;

/// Looks at the partition in the very moment in which its answer is there.
struct AtAnswer {
    handle: Handle,
    seen: std_mpsc::SyncSender<Offset>,
}

impl Wake for AtAnswer {
    fn wake(self: Arc<Self>) {
        // The test may have its answer already.
        let _ = self.seen.send(self.handle.view().high_watermark);
    }
}

async fn partition(cores: &Cores) -> (Handle, tempfile::TempDir) {
    let (disk, dir) = (MemDisk::new(), tempfile::tempdir().unwrap());
    let data = Arc::new(DataDir::open(dir.path()).unwrap());
    disk.create_dir_all(dir.path()).unwrap();
    let fresh = Identity { cluster: 1, incarnation: 1 };
    let store = Store::open(&disk, &data.metadata_file(), fresh).unwrap();
    let me = ReplicaId { node: NodeId(1), incarnation: 1 };
    let opener = Opener {
        data,
        disk: AnyDisk::Memory(disk),
        writers: Arc::new(LogWriters::start(1).unwrap()),
        store: store::start(store).unwrap().0,
        peers: Peers::none(me),
        damage: Reports::channel().0,
        timing: Timing::default(),
        lost_power: false,
        opened: Arc::default(),
        clock: Clock::start(),
        stop: CancellationToken::new(),
    };
    let topic = (&TopicName::new("t").unwrap(), &TopicMetrics::new());
    let id = TopicPartition { topic: TopicId(1), partition: PartitionIndex(0) };
    let config = (LogConfig::default(), MAX_BATCH_BYTES);
    let core = &cores.all()[0];
    let standing = Standing {
        voters: VoterSet::new([me]),
        voters_at: Default::default(),
        ballot: Ballot::default(),
    };
    let opened = opener.open(core, topic, id, config, standing, &Image::default()).await;
    let handle = opened.unwrap();
    // Who decides alone leads soon.
    handle.watch().wait_for(View::serves).await.unwrap();
    (handle, dir)
}

fn one_record() -> Batch {
    let mut builder = BatchBuilder::new(100);
    builder.push(Timestamp(1), None, Some(b"v"), &[]).unwrap();
    Batch::parse(builder.finish(Compression::None, ProducerStamp::NONE).unwrap()).unwrap()
}

#[tokio::test]
async fn who_is_told_that_a_batch_is_committed_finds_it() {
    let cores = Cores::start(1).unwrap();
    let (handle, _dir) = partition(&cores).await;
    for number in 1..=50 {
        let (seen, at_answer) = std_mpsc::sync_channel(1);
        let waker = Waker::from(Arc::new(AtAnswer { handle: handle.clone(), seen }));
        let (answer, mut fate) = oneshot::channel();
        let polled = std::pin::Pin::new(&mut fate).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        let Batch { header, bytes } = one_record();
        let produce = Produce {
            header,
            chunks: vec![bytes],
            acks: Acks::All,
            room: None,
            stream: None,
            within: None,
            answer: Some(answer),
        };
        handle.send(Message::Produce(produce)).await.unwrap();
        let seen = at_answer.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(seen, Offset(number));
        assert_eq!(fate.await.unwrap().unwrap().base_offset, Offset(number - 1));
    }
}

#[tokio::test]
async fn a_log_says_where_what_was_written_up_to_an_epoch_ends() {
    let cores = Cores::start(1).unwrap();
    let (handle, _dir) = partition(&cores).await;
    for _ in 0..3 {
        let Batch { header, bytes } = one_record();
        handle.write(header, bytes).await.unwrap();
    }
    let epoch = handle.view().epoch;
    for asked in [epoch, epoch.next()] {
        let history = handle.history(asked).await.unwrap();
        let end = history.committed();
        assert_eq!((history.is_settled(), end.epoch, end.end), (true, epoch, Offset(3)));
    }
    let own = handle.history(epoch).await.unwrap();
    assert_eq!((own.parts_before(Offset(3)), own.parts_before(Offset(4))), (false, true));
    let older = handle.history(LeaderEpoch(0)).await.unwrap();
    assert_eq!(older.committed().end, Offset(0), "nothing here is as old");
    assert!(older.parts_before(Offset(1)));
}
