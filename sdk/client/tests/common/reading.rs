//! Reading numbered records.

use std::time::Duration;

use millstream_client::Consumer;
use millstream_client::protocol::ids::PartitionIndex;

pub(crate) const P0: PartitionIndex = PartitionIndex(0);

/// Reads so many records: their offsets and values.
pub(crate) async fn read(consumer: &Consumer, records: usize) -> Vec<(u64, String)> {
    let mut got = Vec::new();
    while got.len() < records {
        let next = tokio::time::timeout(Duration::from_secs(30), consumer.next());
        for record in &next.await.expect("in time").unwrap() {
            let record = record.unwrap();
            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            got.push((record.offset.get(), value));
        }
    }
    got
}

/// Records whose values are their offsets.
pub(crate) fn numbered(range: std::ops::Range<u64>) -> Vec<(u64, String)> {
    range.map(|n| (n, n.to_string())).collect()
}
