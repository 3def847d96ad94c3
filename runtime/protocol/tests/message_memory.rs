//! A decoded message takes no more memory than its bytes justify, whatever they claim.
//!
//! In a test of its own, since the peak of the whole process is measured.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "messages/every_type.rs"]
mod every_type;

use std::any::type_name;
use std::fmt::Debug;

use millstream_protocol::frame::{HEADER_SIZE, decode, encode};
use millstream_protocol::message::module::ModuleDescription;
use peak_alloc::PeakAlloc;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::every_type::{Visitor, every_type};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What any message may take: an error's text, a map's first node, a list's first elements.
const FLOOR: usize = 4_096;
/// Bytes of memory for one byte of input: a list is made as long as it claims where so many bytes
/// follow, its elements are up to 144 bytes in memory, an empty text is 24 for its one byte, and
/// a list is there twice while it grows.
const FACTOR: usize = 256;

/// Bytes allocated at the most while `work` ran.
fn peak_of<T>(work: impl FnOnce() -> T) -> (usize, T) {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let result = work();
    (MEMORY.peak_usage() - before, result)
}

struct Measured<'a>(&'a [u8]);

impl Visitor for Measured<'_> {
    fn visit<M: Serialize + DeserializeOwned + PartialEq + Debug>(&mut self) {
        let (peak, _) = peak_of(|| decode::<M>(self.0).is_ok());
        let (len, name) = (self.0.len(), type_name::<M>());
        assert!(peak <= FLOOR + FACTOR * len, "{name}: {peak} bytes for {len}: {:02x?}", self.0);
    }
}

#[test]
fn memory_follows_the_input_and_not_its_claims() {
    a_claimed_length_reserves_nothing();
    any_bytes_cost_what_they_are_worth();
    a_list_of_empty_texts_costs_a_small_multiple();
}

/// At every depth a reader may come to, a length of 4 billion or of 2^63.
fn a_claimed_length_reserves_nothing() {
    for claim in [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0xff; 9]] {
        let claim = [claim, &[1]].concat();
        for lead in [0, 1, 2, b'a'] {
            for depth in 0..40 {
                let bytes = [&vec![lead; depth][..], &claim].concat();
                every_type(&mut Measured(&bytes));
                let tag_and_name = [&[lead, 1, b'a'][..], &vec![0; depth], &claim].concat();
                every_type(&mut Measured(&tag_and_name));
            }
        }
    }
}

fn any_bytes_cost_what_they_are_worth() {
    let byte = prop_oneof![6 => 0u8..4, 3 => b'a'..=b'c', 2 => any::<u8>(), 1 => Just(0xff)];
    let few = vec(byte.clone(), 0..60);
    let many = (vec(byte, 1..40), 1usize..200).prop_map(|(bytes, times)| bytes.repeat(times));
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) };
    let noise = prop_oneof![few, many];
    let all = |bytes: Vec<u8>| {
        every_type(&mut Measured(&bytes));
        Ok(())
    };
    TestRunner::new(config).run(&noise, all).unwrap();
}

/// The dearest honest message: nothing but lists of empty texts.
fn a_list_of_empty_texts_costs_a_small_multiple() {
    let module = ModuleDescription {
        imports: vec![String::new(); 100_000],
        exports: vec![String::new(); 100_000],
        used_by: vec![String::new(); 100_000],
        ..decode(&[1, b'a', 1, 0, 0, 0, 0, 0, 0, 0]).unwrap()
    };
    let frame = encode(&vec![module], 0);
    let message = &frame[HEADER_SIZE..];
    let (peak, read) = peak_of(|| decode::<Vec<ModuleDescription>>(message).unwrap());
    assert_eq!(read[0].imports.len(), 100_000);
    assert!(peak <= 64 * message.len(), "{peak} bytes for {}", message.len());
}
