//! Whatever the bytes, no decoder of a message panics: an error or a value, always.

use std::fmt::Debug;

use proptest::collection::vec;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::check::is_read_or_refused;
use crate::every_type::{Visitor, every_type};

struct Read<'a>(&'a [u8]);

impl Visitor for Read<'_> {
    fn visit<M: Serialize + DeserializeOwned + PartialEq + Debug>(&mut self) {
        is_read_or_refused::<M>(self.0);
    }
}

/// Mostly small numbers, which are lengths, tags and letters that lead further in.
fn noise(len: usize) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![6 => 0u8..4, 3 => b'a'..=b'c', 2 => any::<u8>(), 1 => Just(0xff)];
    vec(byte, 0..len)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in noise(200)) {
        every_type(&mut Read(&bytes));
    }

    #[test]
    fn few_bytes_are_read_or_refused(bytes in noise(24)) {
        every_type(&mut Read(&bytes));
    }
}
