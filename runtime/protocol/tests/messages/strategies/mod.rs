//! Arbitrary messages: one strategy per type, here those that the others are made of.
//!
//! Invariant: names are valid, since no other can be made; numbers reach both ends of their range.

pub(crate) mod cluster;
pub(crate) mod group;
pub(crate) mod job;
pub(crate) mod module;
pub(crate) mod peer;
pub(crate) mod stream;
pub(crate) mod topic;
pub(crate) mod transaction;

use std::collections::BTreeMap;
use std::fmt::Debug;

use millstream_protocol::error::WireError;
use millstream_protocol::ids::{
    JobName, LeaderEpoch, ModuleName, ModuleRef, NodeId, Offset, PartitionIndex, Timestamp,
    TopicId, TopicName,
};
use millstream_protocol::limits::MAX_ERROR_CHARS;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use crate::golden::ERROR_CODES;

pub(crate) fn small() -> impl Strategy<Value = u32> {
    prop_oneof![3 => 0u32..300, 1 => any::<u32>(), 1 => Just(u32::MAX)]
}

pub(crate) fn large() -> impl Strategy<Value = u64> {
    prop_oneof![2 => 0u64..300, 2 => any::<u64>(), 1 => Just(u64::MAX)]
}

pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-z :/.]{0,12}", 2 => "\\PC{0,8}", 1 => any::<String>(), 1 => "[a-z]{130}"]
}

pub(crate) fn list<T: Debug>(items: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T>> {
    vec(items, 0..4)
}

pub(crate) fn texts() -> impl Strategy<Value = Vec<String>> {
    list(text())
}

/// Configuration or parameters.
pub(crate) fn map() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(text(), text(), 0..4)
}

fn name<N: Debug>(new: fn(&str) -> Option<N>) -> impl Strategy<Value = N> {
    let text = prop_oneof![6 => "[A-Za-z0-9._-]{1,20}", 1 => "[A-Za-z0-9._-]{249}"];
    text.prop_filter_map("a path", move |name| new(&name))
}

pub(crate) fn topic_name() -> impl Strategy<Value = TopicName> {
    name(|name| TopicName::new(name).ok())
}

pub(crate) fn job_name() -> impl Strategy<Value = JobName> {
    name(|name| JobName::new(name).ok())
}

pub(crate) fn module_name() -> impl Strategy<Value = ModuleName> {
    name(|name| ModuleName::new(name).ok())
}

pub(crate) fn module_ref() -> impl Strategy<Value = ModuleRef> {
    (module_name(), small()).prop_map(|(name, version)| ModuleRef { name, version })
}

pub(crate) fn offset() -> impl Strategy<Value = Offset> {
    prop_oneof![4 => large().prop_map(Offset), 1 => Just(Offset::MAX)]
}

pub(crate) fn timestamp() -> impl Strategy<Value = Timestamp> {
    let millis = prop_oneof![-200i64..200, any::<i64>(), Just(i64::MIN), Just(i64::MAX)];
    millis.prop_map(Timestamp)
}

pub(crate) fn epoch() -> impl Strategy<Value = LeaderEpoch> {
    small().prop_map(LeaderEpoch)
}

pub(crate) fn topic_id() -> impl Strategy<Value = TopicId> {
    small().prop_map(TopicId)
}

pub(crate) fn partition() -> impl Strategy<Value = PartitionIndex> {
    small().prop_map(PartitionIndex)
}

pub(crate) fn node() -> impl Strategy<Value = NodeId> {
    small().prop_map(NodeId)
}

pub(crate) fn wire_error() -> impl Strategy<Value = WireError> {
    let message = prop_oneof![6 => text(), 1 => Just("é".repeat(MAX_ERROR_CHARS + 1))];
    let code = proptest::sample::select(&ERROR_CODES[..]);
    (code, message).prop_map(|(code, message)| WireError::new(code, message))
}

/// What a success answers, or an error.
pub(crate) fn answer<T: Debug>(
    success: impl Strategy<Value = T>,
) -> impl Strategy<Value = Result<T, WireError>> {
    prop_oneof![3 => success.prop_map(Ok), 1 => wire_error().prop_map(Err)]
}
