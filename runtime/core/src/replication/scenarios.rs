//! What a partition answers, situation by situation.

use std::time::Duration;

use millstream_protocol::ids::{
    JobId, LeaderEpoch, NodeId, Offset, PartitionIndex, ProducerEpoch, ProducerId, ReplicaId,
    Sequence, Timestamp,
};
use millstream_protocol::message::replica::{LogEnd, ReplicaMessage};

use super::io::Acks;
use super::*;
use crate::log::producers::{ProducerLimits, ProducerTable, Stamp};
use crate::log::transactions::Part;

/// A partition and the numbers of the batches sent to it.
struct Bench {
    partition: Partition,
    now: Time,
    tokens: u64,
}

fn recovered(log_start: u64, synced: u64, log_end: u64) -> Recovered {
    Recovered {
        log_start: Offset(log_start),
        log_end: Offset(log_end),
        synced: Offset(synced),
        ballot: Ballot::default(),
        epochs: EpochTable::default(),
        producers: ProducerTable::new(ProducerLimits::default()),
    }
}

fn config(durability: Durability) -> Config {
    Config::alone(ReplicaId { node: NodeId(1), incarnation: 7 }, durability, 42)
}

impl Bench {
    fn with(config: Config, recovered: Recovered) -> Self {
        let now = Time::from_millis(5);
        Self { partition: Partition::new(config, recovered, now), now, tokens: 0 }
    }

    /// An empty partition that leads.
    fn leading(durability: Durability) -> Self {
        let mut bench = Self::with(config(durability), recovered(0, 0, 0));
        bench.elect();
        bench
    }

    fn elect(&mut self) {
        self.step(Input::Tick);
        self.step(Input::BallotPersisted { serial: 1 });
        assert!(self.partition.is_leader());
    }

    /// Steps, and prints what comes out, a line each.
    fn step(&mut self, input: Input) -> String {
        let mut out = Vec::new();
        self.partition.step(self.now, input, &mut out);
        out.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn send(&mut self, batch: BatchFacts, acks: Acks) -> String {
        self.tokens += 1;
        self.step(Input::Produce { token: Token(self.tokens), batch, acks, within: None })
    }

    fn appended(&mut self, end: u64) -> String {
        self.step(Input::Appended { end: Offset(end) })
    }

    fn synced(&mut self, end: u64) -> String {
        self.step(Input::Synced { end: Offset(end) })
    }

    fn disk_full(&mut self, from: u64) -> String {
        let reason = AppendFailure::DiskFull;
        self.step(Input::AppendFailed { from: Offset(from), reason })
    }
}

fn line(output: &Output) -> String {
    match output {
        Output::PersistBallot { serial, ballot } => {
            let voted = ballot.voted_for.map(|voted| format!(" for {}", voted.node));
            let voters = ballot.voters.last().map(|last| format!(", voters {}", last.voters));
            let (voted, voters) = (voted.unwrap_or_default(), voters.unwrap_or_default());
            format!("persist ballot {serial}, epoch {}{voted}{voters}", ballot.epoch)
        }
        Output::Send { to, message, attachment } => {
            let with = match attachment {
                Attachment::None => String::new(),
                Attachment::Log { up_to } => format!(", with the log up to {up_to}"),
                Attachment::Origin(_) => ", with its origin".into(),
            };
            format!("to {}, epoch {}: {}{with}", to.node, message.epoch, said(&message.content))
        }
        Output::Follows { leader, epoch } => match leader {
            Some(leader) => format!("follow {} in epoch {epoch}", leader.node),
            None => format!("follow nobody in epoch {epoch}"),
        },
        Output::AppendMarker { token, base_offset, marker, .. } => {
            format!(
                "append marker #{} at {base_offset}: {:?} by epoch {}",
                token.0, marker.part, marker.epoch.0
            )
        }
        Output::AppendFetched { token } => format!("append body #{token}"),
        Output::Discard { token } => format!("discard body #{token}"),
        Output::AppendControl { base_offset, epoch, control } => match control {
            Control::LeaderChange { .. } => {
                format!("append marker at {base_offset}, epoch {epoch}")
            }
            Control::Voters(voters) => {
                format!("append voters {voters} at {base_offset}, epoch {epoch}")
            }
        },
        Output::Truncate { to } => format!("truncate to {to}"),
        Output::StartOver { start, .. } => {
            format!("start over at {} after epoch {}", start.offset, start.epoch)
        }
        Output::AdvanceStart { to, .. } => format!("start at {to}"),
        Output::VotersCommitted { at, voters } => {
            format!("voters {voters} of offset {} are committed", at.offset)
        }
        Output::BecameLeader { epoch, start } => format!("lead epoch {epoch} from {start}"),
        Output::Append { token, base_offset, epoch } => {
            format!("append #{token} at {base_offset}, epoch {epoch}")
        }
        Output::Sync => "sync".into(),
        Output::Acknowledge { token, base_offset, duplicate } => {
            let again = if *duplicate { ", a duplicate" } else { "" };
            format!("acknowledge #{token} at {base_offset}{again}")
        }
        Output::Refuse { token, error } => format!("refuse #{token} ({}): {error}", error.code()),
        Output::HighWatermark(to) => format!("high watermark {to}"),
        Output::SnapshotProducers { at, .. } => format!("snapshot producers at {at}"),
        Output::Resigned { reason } => format!("resigned: {reason}"),
        Output::Answer { token, taken } => format!("answer #{token}: {taken:?}"),
    }
}

fn said(content: &Content) -> String {
    let end = |end: &LogEnd| format!("{} of epoch {}", end.offset, end.epoch);
    match content {
        Content::Canvass(at) => format!("canvass with {}", end(at)),
        Content::Stand(at) => format!("stand with {}", end(at)),
        Content::Ballot { trial, granted, doubtful, leader } => {
            let kind = if *trial { "promise" } else { "vote" };
            let given = if *granted { "given" } else { "refused" };
            let doubt = if *doubtful { ", in doubt" } else { "" };
            let leader = leader.map(|leader| format!(", {} leads", leader.node));
            format!("{kind} {given}{doubt}{}", leader.unwrap_or_default())
        }
        Content::Leading => "i lead".into(),
        Content::NotLeading { leader } => {
            let leader = leader.map(|leader| format!(", {} does", leader.node));
            format!("i do not lead{}", leader.unwrap_or_default())
        }
        Content::Fetch { end: at, progress, .. } => {
            format!("fetch from {}, {} synced", end(at), progress.synced)
        }
        Content::Progress(progress) => {
            format!("{} appended, {} synced", progress.appended, progress.synced)
        }
        Content::Batches { base, high_watermark, .. } => {
            format!("batches from {base}, {high_watermark} committed")
        }
        Content::Diverged { end: at, .. } => format!("diverged at {}", end(at)),
        Content::StartOver { start, .. } => format!("start over at {}", end(start)),
        Content::TakeOver => "take over".into(),
    }
}

fn plain(records: u32) -> BatchFacts {
    BatchFacts {
        record_count: records,
        last_offset_delta: records - 1,
        producer_id: ProducerId::NONE,
        producer_epoch: ProducerEpoch(-1),
        base_sequence: Sequence::NONE,
        part: Part::None,
        bytes: 1000,
        max_timestamp: Timestamp::NONE,
    }
}

fn from(producer: i64, sequence: i32, records: u32) -> BatchFacts {
    BatchFacts {
        producer_id: ProducerId(producer),
        producer_epoch: ProducerEpoch(0),
        base_sequence: Sequence(sequence),
        ..plain(records)
    }
}

#[test]
fn a_broker_alone_elects_itself_once_its_vote_is_durable() {
    let mut bench = Bench::with(config(Durability::Fsync), recovered(3, 8, 10));
    assert_eq!(bench.partition.deadline(), Some(bench.now));
    insta::assert_snapshot!(bench.send(plain(1), Acks::All), @"refuse #1 (not_leader): this broker does not lead the partition (epoch 0): ask again who does");
    insta::assert_snapshot!(bench.step(Input::Tick), @"persist ballot 1, epoch 1 for 1");
    assert!(!bench.partition.accepts());
    assert_eq!(bench.step(Input::Tick), "", "it stands once");
    insta::assert_snapshot!(bench.step(Input::BallotPersisted { serial: 1 }), @"
    lead epoch 1 from 10
    high watermark 8
    sync
    ");
    insta::assert_snapshot!(bench.synced(10), @"high watermark 10");
    assert!(bench.partition.accepts());
}

#[test]
fn a_ballot_that_finds_no_room_is_handed_over_again_until_it_does() {
    let mut bench = Bench::with(config(Durability::Fsync), recovered(3, 8, 10));
    bench.step(Input::Tick);
    insta::assert_snapshot!(bench.step(Input::BallotUnstored { serial: 1 }), @"high watermark 8");
    insta::assert_snapshot!(bench.send(plain(1), Acks::All), @"refuse #1 (disk_full): the disk is full: free some room or add retention; writes resume by themselves");
    for serial in 2..4 {
        assert_eq!(bench.step(Input::Tick), "", "not before its time");
        bench.now = bench.partition.deadline().expect("there is another attempt");
        let again = format!("persist ballot {serial}, epoch 1 for 1");
        assert_eq!(bench.step(Input::Tick), again, "the same one");
        assert_eq!(bench.partition.deadline(), None, "one is on its way at a time");
        assert!(bench.partition.awaits_room());
        bench.step(Input::BallotUnstored { serial });
    }
    bench.step(Input::BallotPersisted { serial: 3 });
    assert!(bench.partition.is_leader() && !bench.partition.awaits_room());
    insta::assert_snapshot!(bench.synced(10), @"high watermark 10");
}

#[test]
fn an_epoch_seen_in_the_log_is_never_led_again() {
    let mut recovered = recovered(0, 10, 10);
    recovered.epochs = EpochTable::new(vec![(LeaderEpoch(6), Offset(0))]);
    recovered.ballot.epoch = LeaderEpoch(4);
    let mut bench = Bench::with(config(Durability::Fsync), recovered);
    insta::assert_snapshot!(bench.step(Input::Tick), @"persist ballot 1, epoch 7 for 1");
}

#[test]
fn each_level_of_acks_is_answered_at_its_stage() {
    let mut bench = Bench::leading(Durability::Fsync);
    insta::assert_snapshot!(bench.send(plain(1), Acks::Zero), @"
    append #1 at 0, epoch 1
    acknowledge #1 at 0
    sync
    ");
    insta::assert_snapshot!(bench.send(plain(2), Acks::One), @"append #2 at 1, epoch 1");
    insta::assert_snapshot!(bench.send(plain(3), Acks::All), @"append #3 at 3, epoch 1");
    insta::assert_snapshot!(bench.appended(6), @"acknowledge #2 at 1");
    assert_eq!(bench.partition.offsets().high_watermark(), Offset(0), "not yet visible");
    insta::assert_snapshot!(bench.synced(1), @"
    high watermark 1
    sync
    ");
    insta::assert_snapshot!(bench.synced(6), @"
    high watermark 6
    acknowledge #3 at 3
    ");
}

#[test]
fn one_sync_serves_all_who_came_while_another_ran() {
    let mut bench = Bench::leading(Durability::Fsync);
    assert!(bench.send(plain(1), Acks::All).ends_with("sync"));
    for _ in 0..3 {
        assert!(!bench.send(plain(1), Acks::All).contains("sync"));
    }
    bench.appended(4);
    insta::assert_snapshot!(bench.synced(1), @"
    high watermark 1
    acknowledge #1 at 0
    sync
    ");
    insta::assert_snapshot!(bench.synced(4), @"
    high watermark 4
    acknowledge #2 at 1
    acknowledge #3 at 2
    acknowledge #4 at 3
    ");
}

#[test]
fn with_durability_memory_a_record_is_committed_when_appended() {
    let mut bench = Bench::leading(Durability::Memory);
    insta::assert_snapshot!(bench.send(plain(5), Acks::All), @"append #1 at 0, epoch 1");
    insta::assert_snapshot!(bench.appended(5), @"
    high watermark 5
    acknowledge #1 at 0
    ");
}

#[test]
fn a_topic_that_becomes_durable_syncs_what_it_has_and_never_goes_back() {
    let mut bench = Bench::leading(Durability::Memory);
    bench.send(plain(5), Acks::All);
    bench.appended(5);
    let durability = Durability::Fsync;
    let reconfigure = Input::Reconfigure { durability, in_flight: InFlightLimits::default() };
    insta::assert_snapshot!(bench.step(reconfigure), @"sync");
    insta::assert_snapshot!(bench.send(plain(1), Acks::All), @"append #2 at 5, epoch 1");
    assert_eq!(bench.appended(6), "");
    assert_eq!(bench.partition.offsets().high_watermark(), Offset(5));
    insta::assert_snapshot!(bench.synced(6), @"
    high watermark 6
    acknowledge #2 at 5
    ");
}

#[test]
fn a_retry_waits_for_its_original_and_gets_the_same_offset() {
    let mut bench = Bench::leading(Durability::Fsync);
    bench.send(plain(7), Acks::All);
    bench.send(from(9, 0, 2), Acks::All);
    assert_eq!(bench.send(from(9, 0, 2), Acks::All), "", "the original is in flight");
    insta::assert_snapshot!(bench.synced(9), @"
    high watermark 9
    acknowledge #1 at 0
    acknowledge #2 at 7
    acknowledge #3 at 7, a duplicate
    ");
    insta::assert_snapshot!(bench.send(from(9, 0, 2), Acks::All), @"acknowledge #4 at 7, a duplicate");
    insta::assert_snapshot!(bench.send(from(9, 4, 1), Acks::All), @"refuse #5 (out_of_order_sequence): producer 9 sent sequence 4, but 2 is next: send what lies between first, in order");
    insta::assert_snapshot!(bench.send(from(8, 4, 1), Acks::All), @"refuse #6 (unknown_producer): producer 8 is not known here and starts at sequence 4: take a new producer identity and start at 0");
}

#[test]
fn after_a_restart_a_retry_waits_until_the_recovered_tail_is_durable() {
    let mut recovered = recovered(0, 0, 2);
    let stamp = from(9, 0, 2).stamp().unwrap();
    recovered.producers.replay_stamp(Time::ZERO, &stamp, Offset(0));
    let mut bench = Bench::with(config(Durability::Fsync), recovered);
    bench.elect();
    assert_eq!(bench.send(from(9, 0, 2), Acks::All), "");
    insta::assert_snapshot!(bench.synced(2), @"
    high watermark 2
    acknowledge #1 at 0, a duplicate
    ");
}

#[test]
fn a_full_disk_refuses_from_there_on_and_writing_goes_on() {
    let mut bench = Bench::leading(Durability::Fsync);
    bench.send(from(9, 0, 2), Acks::All);
    bench.send(from(9, 2, 2), Acks::One);
    bench.send(from(9, 4, 2), Acks::All);
    bench.send(from(9, 4, 2), Acks::All);
    insta::assert_snapshot!(bench.disk_full(4), @"
    acknowledge #2 at 2
    refuse #3 (disk_full): the disk is full: free some room or add retention; writes resume by themselves
    refuse #4 (disk_full): the disk is full: free some room or add retention; writes resume by themselves
    ");
    insta::assert_snapshot!(bench.synced(4), @"
    high watermark 4
    acknowledge #1 at 0
    ");
    // The retry of what was refused is neither a duplicate nor a gap.
    insta::assert_snapshot!(bench.send(from(9, 6, 2), Acks::All), @"refuse #5 (out_of_order_sequence): producer 9 sent sequence 6, but 4 is next: send what lies between first, in order");
    insta::assert_snapshot!(bench.send(from(9, 4, 2), Acks::All), @"
    append #6 at 4, epoch 1
    sync
    ");
}

#[test]
fn a_storage_error_refuses_everything_and_nothing_is_acknowledged_after_it() {
    let mut bench = Bench::leading(Durability::Fsync);
    bench.send(plain(1), Acks::All);
    bench.appended(1);
    bench.send(plain(1), Acks::One);
    let stopped = Input::StorageStopped { reason: "fsync: input/output error".into() };
    insta::assert_snapshot!(bench.step(stopped.clone()), @"
    refuse #1 (storage_stopped): the log of this partition has stopped taking writes (fsync: input/output error): check the disk, then restart the broker; reads go on
    refuse #2 (storage_stopped): the log of this partition has stopped taking writes (fsync: input/output error): check the disk, then restart the broker; reads go on
    resigned: storage stopped: fsync: input/output error
    ");
    assert_eq!(bench.synced(2), "", "a late completion counts for nothing");
    assert_eq!(bench.step(stopped), "");
    insta::assert_snapshot!(bench.send(plain(1), Acks::All), @"refuse #3 (storage_stopped): the log of this partition has stopped taking writes (fsync: input/output error): check the disk, then restart the broker; reads go on");
    assert!(bench.partition.offsets().check_read(Offset(0)).is_ok(), "reads go on");
    assert_eq!(bench.partition.deadline(), None);
}

#[test]
fn a_log_that_opens_damaged_takes_nothing_and_what_is_durable_of_it_is_read() {
    let mut bench = Bench::with(config(Durability::Fsync), recovered(2, 7, 9));
    let stopped = Input::StorageStopped { reason: "a segment is damaged".into() };
    insta::assert_snapshot!(bench.step(stopped), @"
    high watermark 7
    resigned: storage stopped: a segment is damaged
    ");
    assert!(bench.partition.offsets().check_read(Offset(7)).is_ok());
    assert!(bench.partition.offsets().check_read(Offset(8)).is_err(), "never known to be durable");
}

#[test]
fn a_stop_finishes_what_was_taken_and_takes_nothing_new() {
    let mut bench = Bench::leading(Durability::Memory);
    bench.send(plain(1), Acks::All);
    insta::assert_snapshot!(bench.step(Input::Stop), @"sync");
    assert!(!bench.partition.accepts());
    insta::assert_snapshot!(bench.send(plain(1), Acks::All), @"refuse #2 (shutting_down): the broker is shutting down: send the batch again when it is back");
    insta::assert_snapshot!(bench.appended(1), @"
    high watermark 1
    acknowledge #1 at 0
    ");
    insta::assert_snapshot!(bench.synced(1), @"
    snapshot producers at 1
    resigned: shut down
    ");
    insta::assert_snapshot!(bench.send(plain(1), Acks::All), @"refuse #3 (shutting_down): the broker is shutting down: send the batch again when it is back");
}

#[test]
fn an_idle_partition_stops_at_once() {
    let mut bench = Bench::leading(Durability::Fsync);
    insta::assert_snapshot!(bench.step(Input::Stop), @"
    snapshot producers at 0
    resigned: shut down
    ");
    let mut bench = Bench::with(config(Durability::Fsync), recovered(0, 0, 0));
    insta::assert_snapshot!(bench.step(Input::Stop), @"resigned: shut down");
}

/// One of three that leads, and whom nobody has ever fetched from.
fn leading_nobody() -> Bench {
    let replica = |node| ReplicaId { node: NodeId(node), incarnation: 1 };
    let me = config(Durability::Fsync).replica;
    let others = [replica(8), replica(9)];
    let voters = VoterSet::new([me, others[0], others[1]]);
    let config = Config { voters, ..config(Durability::Fsync) };
    let mut bench = Bench::with(config, recovered(0, 0, 0));
    bench.now = bench.now + Duration::from_secs(5);
    bench.step(Input::Tick);
    for trial in [true, false] {
        let content = Content::Ballot { trial, granted: true, doubtful: false, leader: None };
        let message = ReplicaMessage { epoch: bench.partition.epoch(), content };
        let said = bench.step(Input::Receive { from: others[0], message, body: None });
        if said.contains("persist ballot 1") {
            bench.step(Input::BallotPersisted { serial: 1 });
        }
    }
    assert!(bench.partition.is_leader());
    bench.appended(1);
    bench.synced(1);
    bench
}

#[test]
fn a_leader_whom_nobody_follows_stops_after_it_has_waited_for_a_successor() {
    let mut bench = leading_nobody();
    bench.step(Input::Stop);
    assert!(bench.partition.stopped().is_none(), "somebody may come up that has it all");
    bench.now = bench.now + Timing::default().transfer;
    bench.step(Input::Tick);
    assert!(bench.partition.stopped().is_some(), "what it could not commit is given up");
}

#[test]
fn who_is_not_wanted_any_more_ends_at_once() {
    let mut bench = leading_nobody();
    bench.send(plain(1), Acks::All);
    let said = bench.step(Input::Quit);
    assert!(said.starts_with("refuse #1"), "{said}");
    assert!(bench.partition.stopped().is_some());
}

#[test]
fn who_begins_at_a_later_start_learns_who_votes_and_stands_alone_no_more() {
    let replica = |node| ReplicaId { node: NodeId(node), incarnation: 1 };
    let (me, leader) = (config(Durability::Fsync).replica, replica(9));
    let voters = VoterSet::new([me, replica(8), leader]);
    for committed_at in [15, 40] {
        let mut bench = Bench::with(config(Durability::Fsync), recovered(0, 0, 0));
        assert!(bench.partition.is_alone(), "as it was when it founded the cluster");
        let epoch = LeaderEpoch(3);
        let known = VotersAt { offset: Offset(committed_at), epoch, voters: voters.clone() };
        let producers: Vec<u8> = Vec::new();
        let origin = postcard::to_stdvec(&(known, producers)).expect("memory takes it");
        let start = LogEnd { epoch, offset: Offset(20) };
        let content = Content::StartOver { asked: LogEnd::default(), start };
        let said = [(Content::Leading, None), (content, Some(Body::Origin(origin)))];
        for (serial, (content, body)) in (1..).zip(said) {
            let message = ReplicaMessage { epoch: LeaderEpoch(4), content };
            bench.step(Input::Receive { from: leader, message, body });
            bench.step(Input::BallotPersisted { serial });
        }
        assert_eq!(bench.partition.voters(), &voters, "committed at {committed_at}");
        assert!(bench.partition.voters_at().offset < Offset(20), "so that it outlives a restart");
    }
}

/// One of three that follows replica 9, and is given three records after what it has, twice.
fn given_twice() -> (Bench, String) {
    let replica = |node| ReplicaId { node: NodeId(node), incarnation: 1 };
    let (me, leader) = (config(Durability::Fsync).replica, replica(9));
    let voters = VoterSet::new([me, replica(8), leader]);
    let config = Config { voters, ..config(Durability::Fsync) };
    let mut bench = Bench::with(config, recovered(0, 0, 0));
    let epoch = LeaderEpoch(1);
    let message = ReplicaMessage { epoch, content: Content::Leading };
    bench.step(Input::Receive { from: leader, message, body: None });
    bench.step(Input::BallotPersisted { serial: 1 });
    let mut said = String::new();
    for base in [0, 3] {
        let batch =
            FetchedBatch { base_offset: Offset(base), epoch, facts: plain(3), voters: None };
        let body = Body::Batches { token: Token(base), batches: vec![batch] };
        let content = Content::Batches {
            base: Offset(base),
            high_watermark: Offset::ZERO,
            log_start: Offset::ZERO,
        };
        let message = ReplicaMessage { epoch, content };
        said += &bench.step(Input::Receive { from: leader, message, body: Some(body) });
        said += "\n";
    }
    (bench, said)
}

#[test]
fn what_a_candidate_wrote_while_it_followed_is_synced_too() {
    let (mut bench, said) = given_twice();
    assert_eq!(said.lines().filter(|line| *line == "sync").count(), 1, "one at a time: {said}");
    bench.step(Input::Peer { node: NodeId(9), up: false });
    bench.now = bench.now + Duration::from_secs(5);
    let said = bench.step(Input::Tick);
    assert!(said.contains("canvass"), "its leader is gone: {said}");
    bench.appended(6);
    assert_eq!(bench.synced(3), "sync", "who follows again may have nothing more to write");
}

#[test]
fn beyond_the_limit_a_produce_is_refused_and_one_large_batch_always_fits() {
    let mut config = config(Durability::Fsync);
    config.in_flight = InFlightLimits { batches: 3, bytes: 2_500 };
    let mut bench = Bench::with(config, recovered(0, 0, 0));
    bench.elect();
    let large = BatchFacts { bytes: 9_000, ..plain(1) };
    assert!(bench.send(large, Acks::All).starts_with("append"));
    insta::assert_snapshot!(bench.send(plain(1), Acks::All), @"refuse #2 (overloaded): 1 batches and 9000 bytes of this partition await the disk, which is all that may: send the batch again later");
    assert!(!bench.partition.accepts());
    bench.synced(1);
    bench.send(from(9, 0, 1), Acks::All);
    bench.send(from(9, 0, 1), Acks::All);
    bench.send(from(9, 0, 1), Acks::All);
    assert!(!bench.partition.accepts(), "retries that wait count too");
    insta::assert_snapshot!(bench.send(from(9, 0, 1), Acks::All), @"refuse #6 (overloaded): 3 batches and 1000 bytes of this partition await the disk, which is all that may: send the batch again later");
    bench.synced(2);
    assert!(bench.partition.accepts());
}

#[test]
fn a_jobs_output_is_taken_once_and_its_gaps_are_normal() {
    let mut bench = Bench::leading(Durability::Fsync);
    let job = ProducerId::for_job(JobId(3), 0, PartitionIndex(1)).0;
    insta::assert_snapshot!(bench.send(from(job, 500, 2), Acks::All), @"
    append #1 at 0, epoch 1
    sync
    ");
    insta::assert_snapshot!(bench.send(from(job, 900, 2), Acks::All), @"append #2 at 2, epoch 1");
    bench.synced(4);
    insta::assert_snapshot!(bench.send(from(job, 500, 2), Acks::All), @"acknowledge #3 at 0, a duplicate");
    insta::assert_snapshot!(bench.send(from(job, 700, 2), Acks::All), @"acknowledge #4 at 0, a duplicate");
    bench.step(Input::ForgetJob { job: JobId(3) });
    assert_eq!(bench.partition.producers(), 0);
}

#[test]
fn who_asks_is_told_whether_a_batch_or_a_newer_one_was_taken() {
    let mut bench = Bench::leading(Durability::Fsync);
    let job = ProducerId::for_job(JobId(3), 0, PartitionIndex(1));
    let ask = |bench: &mut Bench, sequence| {
        let (epoch, first) = (ProducerEpoch(0), Sequence(sequence));
        let stamp = Stamp { producer: job, epoch, first, count: 1, part: Part::None };
        bench.step(Input::Ask { token: Token(7), stamp })
    };
    assert_eq!(ask(&mut bench, 500), "answer #7: Some(false)");
    bench.send(from(job.0, 500, 2), Acks::All);
    // It is not committed yet: a crash may leave it in the log.
    let answers = [400, 500, 501].map(|sequence| ask(&mut bench, sequence));
    assert_eq!(answers, [true, true, false].map(|taken| format!("answer #7: Some({taken})")));
    bench.step(Input::StorageStopped { reason: "broken".into() });
    assert_eq!(ask(&mut bench, 501), "answer #7: None");
}

#[test]
fn a_batch_whose_records_were_all_filtered_still_takes_its_offsets() {
    let mut bench = Bench::leading(Durability::Fsync);
    let emptied = BatchFacts { record_count: 0, ..from(9, 0, 4) };
    assert!(bench.send(emptied, Acks::All).starts_with("append #1 at 0"));
    assert!(bench.send(from(9, 4, 1), Acks::All).starts_with("append #2 at 4"));
}

#[test]
fn producers_are_snapshot_by_age_and_by_size_and_an_idle_partition_wants_no_ticks() {
    let mut bench = Bench::leading(Durability::Fsync);
    assert_eq!(bench.partition.deadline(), None);
    bench.send(from(9, 0, 1), Acks::All);
    bench.synced(1);
    let due = bench.partition.deadline().unwrap();
    assert_eq!(bench.step(Input::Tick), "", "too early");
    bench.now = due;
    insta::assert_snapshot!(bench.step(Input::Tick), @"snapshot producers at 1");
    assert_eq!(bench.partition.deadline(), None);
    let large = BatchFacts { bytes: 256 << 20, ..plain(1) };
    bench.send(large, Acks::All);
    insta::assert_snapshot!(bench.synced(2), @"
    high watermark 2
    acknowledge #2 at 1
    snapshot producers at 2
    ");
}

#[test]
fn a_producer_snapshot_never_vouches_for_what_a_crash_could_take_back() {
    let mut bench = Bench::leading(Durability::Memory);
    let large = BatchFacts { bytes: 256 << 20, ..from(9, 0, 3) };
    bench.send(large, Acks::All);
    assert!(!bench.appended(3).contains("snapshot"), "committed, but not durable");
    assert_eq!(bench.partition.deadline(), None);
    insta::assert_snapshot!(bench.synced(3), @"snapshot producers at 3");
}

#[test]
fn retention_moves_the_start_that_readers_see() {
    let mut bench = Bench::leading(Durability::Fsync);
    bench.send(plain(10), Acks::All);
    bench.synced(10);
    insta::assert_snapshot!(bench.step(Input::Retain { to: Offset(4) }), @"start at 4");
    assert_eq!(bench.step(Input::Retain { to: Offset(0) }), "", "nothing is there to be deleted");
    bench.step(Input::LogStart { start: Offset(4) });
    assert!(bench.partition.offsets().check_read(Offset(3)).is_err());
    assert!(bench.partition.offsets().check_read(Offset(4)).is_ok());
}
