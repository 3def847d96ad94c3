//! Every bound that both sides of a connection know.
//!
//! Invariant: nothing that comes from outside is given memory before it was held against one of these.

/// Characters in a topic, module, job or group name: as in Kafka, so that a name fits a file name.
pub const MAX_NAME_CHARS: usize = 249;
/// Bytes of one batch as it travels, header included, compressed or not.
pub const MAX_BATCH_BYTES: usize = 16 << 20;
/// Bytes of one record's key, value and headers, unless a topic says less.
pub const MAX_RECORD_BYTES: usize = 8 << 20;
/// Records in one batch.
pub const MAX_BATCH_RECORDS: u32 = 1 << 20;
/// Bytes that a compressed batch may unpack to.
pub const MAX_DECOMPRESSED_BYTES: usize = 64 << 20;
/// Headers on one record.
pub const MAX_HEADERS: usize = 1 << 10;
/// Bytes of a control message.
pub const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// Bytes of one body of fetched batches.
pub const MAX_FETCH_BODY_BYTES: usize = 32 << 20;
/// Bytes that a consumer may grant ahead on one fetch stream.
pub const MAX_FETCH_CREDIT_BYTES: u64 = 256 << 20;
/// Bytes of a module as uploaded.
pub const MAX_MODULE_BYTES: usize = 64 << 20;
/// Partitions of one topic.
pub const MAX_PARTITIONS: u32 = 10_000;
/// Produced batches of one stream that await their acknowledgement.
pub const MAX_PIPELINED_BATCHES: usize = 256;
/// Bytes of an error's text.
pub const MAX_ERROR_CHARS: usize = 4_096;
/// Bytes of the text that goes with a committed offset.
pub const MAX_OFFSET_METADATA_BYTES: usize = 4_096;
/// Topics that a member of a group subscribes to by name.
pub const MAX_SUBSCRIBED_TOPICS: usize = 1_000;
/// Characters of a pattern that a member of a group subscribes by.
pub const MAX_PATTERN_CHARS: usize = 256;
/// Partitions whose offsets are committed in one request.
pub const MAX_COMMITTED_PARTITIONS: usize = 10_000;
