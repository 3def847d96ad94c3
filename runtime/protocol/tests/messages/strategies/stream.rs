//! Arbitrary greetings and frames of produce and fetch streams.

use millstream_protocol::message::fetch::{Credit, FetchData, FetchFilter, FetchReady, OpenFetch};
use millstream_protocol::message::hello::{Hello, Welcome};
use millstream_protocol::message::produce::{
    Acks, OpenProduce, ProduceAck, ProduceAnswers, ProduceReady,
};
use proptest::option;
use proptest::prelude::*;

use super::transaction::{aborted, isolation};
use super::{
    answer, epoch, large, list, map, module_ref, node, offset, partition, small, text, texts,
    topic_id, topic_name,
};

pub(crate) fn hello() -> impl Strategy<Value = Hello> {
    (any::<u16>(), any::<u16>(), texts(), text(), text()).prop_map(
        |(oldest, newest, features, client_id, software)| Hello {
            oldest,
            newest,
            features,
            client_id,
            software,
        },
    )
}

pub(crate) fn welcome() -> impl Strategy<Value = Welcome> {
    (any::<u16>(), texts(), text(), node(), text()).prop_map(
        |(version, features, cluster_id, node, software)| Welcome {
            version,
            features,
            cluster_id,
            node,
            software,
        },
    )
}

pub(crate) fn open_produce() -> impl Strategy<Value = OpenProduce> {
    let acks = prop_oneof![Just(Acks::Zero), Just(Acks::One), Just(Acks::All)];
    (topic_name(), option::of(topic_id()), partition(), acks)
        .prop_map(|(topic, id, partition, acks)| OpenProduce { topic, id, partition, acks })
}

pub(crate) fn produce_ready() -> impl Strategy<Value = ProduceReady> {
    (topic_id(), epoch(), small(), small()).prop_map(
        |(id, leader_epoch, max_batch_bytes, max_in_flight)| ProduceReady {
            id,
            leader_epoch,
            max_batch_bytes,
            max_in_flight,
        },
    )
}

pub(crate) fn produce_answers() -> impl Strategy<Value = ProduceAnswers> {
    let ack = (offset(), any::<bool>())
        .prop_map(|(base_offset, duplicate)| ProduceAck { base_offset, duplicate });
    list(answer(ack)).prop_map(|answers| ProduceAnswers { answers })
}

pub(crate) fn open_fetch() -> impl Strategy<Value = OpenFetch> {
    let place = (topic_name(), option::of(topic_id()), partition());
    let position = (offset(), option::of(epoch()));
    let filter = (module_ref(), map()).prop_map(|(module, params)| FetchFilter { module, params });
    let credit = (large(), small());
    (place, position, credit, option::of(filter), isolation()).prop_map(
        |((topic, id, partition), (offset, epoch), (credit, max_body_bytes), filter, isolation)| {
            OpenFetch {
                topic,
                id,
                partition,
                offset,
                epoch,
                credit,
                max_body_bytes,
                filter,
                isolation,
            }
        },
    )
}

pub(crate) fn fetch_ready() -> impl Strategy<Value = FetchReady> {
    (topic_id(), epoch(), offset(), offset()).prop_map(
        |(id, leader_epoch, log_start, high_watermark)| FetchReady {
            id,
            leader_epoch,
            log_start,
            high_watermark,
        },
    )
}

pub(crate) fn fetch_data() -> impl Strategy<Value = FetchData> {
    (offset(), offset(), offset(), large(), list(aborted())).prop_map(
        |(high_watermark, log_start, next_offset, examined, aborted)| FetchData {
            high_watermark,
            log_start,
            next_offset,
            examined,
            aborted,
        },
    )
}

pub(crate) fn credit() -> impl Strategy<Value = Credit> {
    large().prop_map(|bytes| Credit { bytes })
}
