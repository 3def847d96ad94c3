//! Arbitrary messages between brokers.

use millstream_protocol::ids::{Offset, ReplicaId, TopicPartition};
use millstream_protocol::message::peer::{
    CleanedTo, CopyModule, HandOver, JoinCluster, JoinedCluster, Leadership, OpenPeer,
    PartitionStatus, PeerFrame, PeerStream, ReadModule, ReadSnapshot, SnapshotPart,
};
use millstream_protocol::message::replica::{Content, Envelope, LogEnd, Progress, ReplicaMessage};
use proptest::option;
use proptest::prelude::*;

use super::topic::broker_address;
use super::{epoch, large, list, node, offset, partition, small, text, topic_id};

fn replica() -> impl Strategy<Value = ReplicaId> {
    (node(), any::<u128>()).prop_map(|(node, incarnation)| ReplicaId { node, incarnation })
}

fn topic_partition() -> impl Strategy<Value = TopicPartition> {
    (topic_id(), partition()).prop_map(|(topic, partition)| TopicPartition { topic, partition })
}

fn log_end() -> impl Strategy<Value = LogEnd> {
    (epoch(), offset()).prop_map(|(epoch, offset)| LogEnd { epoch, offset })
}

fn progress() -> impl Strategy<Value = Progress> {
    (offset(), offset(), offset()).prop_map(|(appended, synced, committed)| Progress {
        appended,
        synced,
        committed,
    })
}

fn content() -> impl Strategy<Value = Content> {
    let ballot = (any::<[bool; 3]>(), option::of(replica())).prop_map(
        |([trial, granted, doubtful], leader)| Content::Ballot { trial, granted, doubtful, leader },
    );
    let fetch =
        (log_end(), progress(), large(), small()).prop_map(|(end, progress, life, placement)| {
            Content::Fetch { end, progress, life, placement }
        });
    let batches = (offset(), offset(), offset()).prop_map(|(base, high_watermark, log_start)| {
        Content::Batches { base, high_watermark, log_start }
    });
    prop_oneof![
        log_end().prop_map(Content::Canvass),
        log_end().prop_map(Content::Stand),
        ballot,
        Just(Content::Leading),
        option::of(replica()).prop_map(|leader| Content::NotLeading { leader }),
        fetch,
        progress().prop_map(Content::Progress),
        batches,
        (log_end(), log_end()).prop_map(|(asked, end)| Content::Diverged { asked, end }),
        (log_end(), log_end()).prop_map(|(asked, start)| Content::StartOver { asked, start }),
        Just(Content::TakeOver),
    ]
}

pub(crate) fn envelope() -> impl Strategy<Value = Envelope> {
    (topic_partition(), replica(), replica(), epoch(), content()).prop_map(
        |(partition, from, to, epoch, content)| {
            let message = ReplicaMessage { epoch, content };
            Envelope { partition, from, to, message }
        },
    )
}

fn leadership() -> impl Strategy<Value = Leadership> {
    (topic_partition(), epoch(), any::<bool>()).prop_map(|(partition, epoch, leads)| Leadership {
        partition,
        epoch,
        leads,
    })
}

pub(crate) fn peer_frame() -> impl Strategy<Value = PeerFrame> {
    prop_oneof![
        (large(), any::<bool>()).prop_map(|(session, hears)| PeerFrame::Beat { session, hears }),
        list(envelope()).prop_map(PeerFrame::Replicas),
        list(leadership()).prop_map(PeerFrame::Leads),
    ]
}

pub(crate) fn open_peer() -> impl Strategy<Value = OpenPeer> {
    let kind =
        prop_oneof![Just(PeerStream::Control), Just(PeerStream::Data), Just(PeerStream::Bulk),];
    (replica(), kind).prop_map(|(from, kind)| OpenPeer { from, kind })
}

pub(crate) fn join_cluster() -> impl Strategy<Value = JoinCluster> {
    (replica(), text(), option::of(text())).prop_map(|(replica, address, rack)| JoinCluster {
        replica,
        address,
        rack,
    })
}

pub(crate) fn joined_cluster() -> impl Strategy<Value = JoinedCluster> {
    (any::<u128>(), list(replica()), log_end(), list(broker_address())).prop_map(
        |(cluster, voters, voters_at, brokers)| JoinedCluster {
            cluster,
            voters,
            voters_at,
            brokers,
        },
    )
}

pub(crate) fn partition_status() -> impl Strategy<Value = PartitionStatus> {
    (topic_id(), list(partition()))
        .prop_map(|(topic, partitions)| PartitionStatus { topic, partitions })
}

pub(crate) fn read_module() -> impl Strategy<Value = ReadModule> {
    (text(), large()).prop_map(|(sha256, offset)| ReadModule { sha256, offset })
}

pub(crate) fn copy_module() -> impl Strategy<Value = CopyModule> {
    (text(), large()).prop_map(|(sha256, size)| CopyModule { sha256, size })
}

pub(crate) fn read_snapshot() -> impl Strategy<Value = ReadSnapshot> {
    (option::of(offset()), large()).prop_map(|(applied, offset)| ReadSnapshot { applied, offset })
}

pub(crate) fn snapshot_part() -> impl Strategy<Value = SnapshotPart> {
    (offset(), large(), any::<Vec<u8>>()).prop_map(|(applied, size, bytes)| SnapshotPart {
        applied,
        size,
        bytes,
    })
}

pub(crate) fn cleaned_to() -> impl Strategy<Value = CleanedTo> {
    list(topic_partition()).prop_map(|partitions| CleanedTo { partitions })
}

pub(crate) fn cleaned() -> impl Strategy<Value = Vec<Option<Offset>>> {
    list(option::of(offset()))
}

pub(crate) fn hand_over() -> impl Strategy<Value = HandOver> {
    (topic_partition(), node()).prop_map(|(partition, to)| HandOver { partition, to })
}
