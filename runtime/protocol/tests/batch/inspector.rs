//! The inspector gives one verdict however the bytes are cut, and the right one.

use bytes::Bytes;
use millstream_protocol::batch::{
    Attributes, Batch, BatchError, BatchHeader, Compression, DecodeLimits, Inspector, Origin, Rules,
};
use proptest::prelude::*;

use crate::samples::{self, STAMP, build, mend_crc, three};

fn inspect(bytes: &[u8], cuts: &[usize], rules: Rules) -> Result<BatchHeader, BatchError> {
    let mut inspector = Inspector::new(rules);
    let mut rest = bytes;
    for cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*cut).min(rest.len()));
        if inspector.feed(piece).is_err() {
            break;
        }
        rest = after;
    }
    inspector.finish()
}

fn at_once(bytes: &[u8], rules: Rules) -> Result<BatchHeader, BatchError> {
    inspect(bytes, &[bytes.len().max(1)], rules)
}

/// The same judgement by other means: the lazy reader, and the rules written down once more.
fn is_sound(bytes: &[u8], rules: Rules) -> bool {
    let check = || -> Option<()> {
        let batch = Batch::parse(Bytes::copy_from_slice(bytes)).ok()?;
        batch.verify_crc().ok()?;
        let header = batch.header;
        let limits = DecodeLimits { max_decompressed_bytes: rules.max_decompressed_bytes as usize };
        let records = batch.records(&limits).ok()?;
        let (mut deltas, mut times) = (Vec::new(), Vec::new());
        for record in records.iter() {
            let record = record.ok()?;
            for header in record.headers {
                header.ok()?;
            }
            let length = record.encoded();
            let attributes = length[length.iter().position(|byte| *byte < 0x80)? + 1];
            (attributes == 0).then_some(())?;
            deltas.push(record.offset_delta);
            times.push(header.base_timestamp.get().checked_add(record.timestamp_delta)?);
        }
        let latest = times.iter().max().copied();
        let log_time = header.attributes.is_log_append_time();
        (log_time || latest.is_none_or(|t| t == header.max_timestamp.get())).then_some(())?;
        if rules.origin == Origin::Producer {
            let Attributes(bits) = header.attributes;
            (bits & !0b1_0111 == 0 && !deltas.is_empty()).then_some(())?;
            let last = deltas.len() as u32 - 1;
            (deltas.into_iter().eq(0..=last) && header.last_offset_delta == last).then_some(())?;
            let named = header.producer_id.is_some();
            let whole = header.producer_epoch.0 >= 0 && header.base_sequence.0 >= 0;
            (!named || whole).then_some(())?;
        }
        Some(())
    };
    check().is_some()
}

fn origin() -> impl Strategy<Value = Origin> {
    prop_oneof![Just(Origin::Producer), Just(Origin::Log)]
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        Just(vec![1]),
        proptest::collection::vec(1usize..20, 1..8),
        proptest::collection::vec(1usize..2_000, 1..8),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_batch_is_judged_alike_however_it_is_cut(
        records in samples::gapped(), codec in samples::codec(), cuts in cuts(), origin in origin(),
    ) {
        let bytes = build(&records, codec, STAMP);
        let rules = Rules::of(origin);
        let whole = at_once(&bytes, rules);
        prop_assert_eq!(whole.is_ok(), is_sound(&bytes, rules));
        prop_assert_eq!(inspect(&bytes, &cuts, rules), whole);
    }

    #[test]
    fn a_damaged_batch_with_a_mended_checksum_is_judged_alike_however_it_is_cut(
        records in samples::dense(), codec in samples::codec(), cuts in cuts(), origin in origin(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        header_too: bool,
    ) {
        let mut bytes = build(&records, codec, STAMP).to_vec();
        for (place, byte) in damage {
            let from = if header_too { 21 } else { BatchHeader::SIZE };
            let place = from + place.index(bytes.len() - from);
            bytes[place] = byte;
        }
        mend_crc(&mut bytes);
        let rules = Rules::of(origin);
        let whole = at_once(&bytes, rules);
        prop_assert_eq!(whole.is_ok(), is_sound(&bytes, rules), "{:?}", whole);
        prop_assert_eq!(inspect(&bytes, &cuts, rules), whole);
    }

    #[test]
    fn small_sections_of_anything_are_judged_alike_however_they_are_cut(
        section in proptest::collection::vec(prop_oneof![0u8..12, any::<u8>()], 0..60),
        count in 0u32..5, cuts in cuts(), origin in origin(),
    ) {
        let bytes = samples::wrap(&section, 0, count, count.saturating_sub(1));
        let rules = Rules::of(origin);
        let whole = at_once(&bytes, rules);
        prop_assert_eq!(whole.is_ok(), is_sound(&bytes, rules), "{:?}", whole);
        prop_assert_eq!(inspect(&bytes, &cuts, rules), whole);
    }
}

#[test]
fn records_larger_than_a_stride_are_walked_through() {
    let mut records = three();
    records[0].value = Some(vec![7; 100_000]);
    records[2].headers[0].1 = Some(vec![8; 50_000]);
    for codec in Compression::ALL {
        let bytes = build(&records, codec, STAMP);
        for cuts in [&[1_200usize][..], &[70_000], &[16_384], &[usize::MAX]] {
            assert!(inspect(&bytes, cuts, Rules::of(Origin::Producer)).is_ok());
        }
    }
}

#[test]
fn the_header_is_known_as_soon_as_it_has_arrived() {
    let bytes = build(&three(), Compression::None, STAMP);
    let mut inspector = Inspector::new(Rules::of(Origin::Producer));
    inspector.feed(&bytes[..60]).unwrap();
    assert_eq!((inspector.header(), inspector.missing()), (None, None));
    inspector.feed(&bytes[60..70]).unwrap();
    assert_eq!(inspector.header().unwrap().record_count, 3);
    assert_eq!(inspector.missing(), Some(bytes.len() - 70));
    inspector.feed(&bytes[70..]).unwrap();
    assert_eq!(inspector.missing(), Some(0));
    assert!(inspector.finish().is_ok());
}

#[test]
fn an_inspector_that_refused_goes_on_refusing() {
    let bytes = build(&three(), Compression::None, STAMP);
    let mut inspector = Inspector::new(Rules { max_batch_bytes: 80, ..Rules::of(Origin::Log) });
    let refused = inspector.feed(&bytes).unwrap_err();
    assert!(matches!(refused, BatchError::BatchTooLarge { limit: 80, .. }));
    assert_eq!(inspector.feed(b"more"), Err(refused.clone()));
    assert_eq!(inspector.finish(), Err(refused));
}
