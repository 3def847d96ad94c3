//! Keeps about half of the records, by the last bit of the value's first byte: the cheapest filter
//! that looks at its records.

use millstream_guest::{Filter, Params, Record, export};

/// Keeps values that start with an odd byte.
#[derive(Debug)]
pub struct KeepHalf;

impl Filter for KeepHalf {
    fn new(params: &Params) -> Result<Self, String> {
        params.allow_only(&[]).map(|()| Self)
    }

    fn keep(&mut self, record: &Record<'_>) -> bool {
        record.value().and_then(|value| value.first()).is_some_and(|first| first & 1 == 1)
    }
}

export!(KeepHalf);
