//! What `log dump` says about segments, good and damaged.

use millstream_protocol::batch::{self, BatchBuilder, Compression, ProducerStamp};
use millstream_protocol::ids::{
    LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp,
};
use millstream_storage::disk::RealDisk;
use millstream_storage::dump::dump_segment;

use super::dump::add_records;
use super::view::{Entry, HEADINGS};
use crate::output::json;
use crate::record::tests::batch as odd_batch;

/// A frame as a broker writes it.
fn frame(mut batch: Vec<u8>, base: u64, unsynced: u32) -> Vec<u8> {
    batch::stamp(&mut batch, Offset(base), LeaderEpoch(3));
    let mut frame = batch::seal(&batch, unsynced).to_vec();
    frame.append(&mut batch);
    frame
}

fn segment() -> Vec<u8> {
    let mut builder = BatchBuilder::new(1 << 10);
    for number in 0..3_u8 {
        let value = [b'v', b'0' + number];
        builder.push(Timestamp(1_388_534_400_000), Some(b"k"), Some(&value), &[]).expect("fits");
    }
    let stamp = ProducerStamp {
        id: ProducerId(41),
        epoch: ProducerEpoch(1),
        sequence: Sequence(7),
        transactional: false,
    };
    let second = builder.finish(Compression::Lz4, stamp).expect("a batch").to_vec();
    [frame(odd_batch().to_vec(), 100, 0), frame(second, 104, batch::UNSYNCED_UNKNOWN)].concat()
}

fn dumped(bytes: &[u8], records: bool) -> Vec<Entry> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join(format!("{:020}.log", 100));
    std::fs::write(&path, bytes).expect("written");
    let file = std::fs::File::open(&path).expect("there");
    let mut entries = Vec::new();
    dump_segment(&RealDisk, &path, |found| {
        let mut entry = Entry::new("100.log", &found);
        if records {
            add_records(&mut entry, &found, &file)?;
        }
        entries.push(entry);
        Ok(())
    })
    .expect("readable");
    entries
}

fn table(entries: &[Entry]) -> String {
    let lines = entries.iter().map(ToString::to_string);
    std::iter::once(HEADINGS.to_owned()).chain(lines).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_good_segment_as_a_table_and_as_json() {
    let entries = dumped(&segment(), false);
    insta::assert_snapshot!(format!("{}\n{}", table(&entries), json(&entries)));
}

#[test]
fn records_are_shown_under_their_batch() {
    let entries = dumped(&segment(), true);
    insta::assert_snapshot!(format!("{}\n{}", table(&entries), json(&entries[1])));
}

#[test]
fn a_flipped_byte_is_found_wherever_it_is() {
    let good = segment();
    for position in 0..good.len() {
        let mut bad = good.clone();
        bad[position] ^= 0x10;
        let entries = dumped(&bad, false);
        assert!(entries.iter().any(|entry| entry.problem.is_some()), "byte {position}");
    }
}

#[test]
fn damage_is_shown_where_it_is() {
    let mut bad = segment();
    bad[8 + 61 + 4] ^= 1;
    let torn = bad.len() - 5;
    insta::assert_snapshot!(table(&dumped(&bad[..torn], true)));
}
