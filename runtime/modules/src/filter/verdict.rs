//! Verdict: what becomes of a batch.
//!
//! Invariant: a verdict was checked against its batch: bits and sources lie within it, outputs exist.

use bytes::Bytes;

use super::Rewritten;

/// What becomes of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every record is kept as it is.
    All,
    /// Every record is dropped.
    None,
    /// Some records are kept as they are.
    Keep(Bitmap),
    /// New records, for outputs of their choice.
    Rewritten(Rewritten),
}

/// Which records of a batch are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitmap {
    bits: Bytes,
    kept: u32,
}

impl Bitmap {
    /// Checks a guest's bitmap for a batch of `count` records.
    pub(crate) fn check(bits: Vec<u8>, count: u32) -> Result<Self, String> {
        let want = (count as usize).div_ceil(8);
        if bits.len() != want {
            return Err(format!("the bitmap has {} bytes instead of {want}", bits.len()));
        }
        let used = count % 8;
        if used != 0 && bits.last().is_some_and(|last| last >> used != 0) {
            return Err("the bitmap keeps records beyond the last".to_owned());
        }
        let kept = bits.iter().map(|byte| byte.count_ones()).sum();
        Ok(Self { bits: bits.into(), kept })
    }

    /// Whether the record at this place is kept; false beyond the batch.
    #[inline]
    pub fn keeps(&self, index: u32) -> bool {
        self.bits.get(index as usize / 8).is_some_and(|byte| byte & (1 << (index % 8)) != 0)
    }

    /// How many records are kept.
    pub const fn kept(&self) -> u32 {
        self.kept
    }

    /// The places of the records that are kept, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.bits.iter().zip((0..).step_by(8)).flat_map(|(&byte, base): (&u8, u32)| {
            (0..8).filter(move |bit| byte & (1 << bit) != 0).map(move |bit| base + bit)
        })
    }
}

impl Verdict {
    /// How many records come out of a batch of `count`.
    pub const fn records(&self, count: u32) -> u32 {
        match self {
            Self::All => count,
            Self::None => 0,
            Self::Keep(bitmap) => bitmap.kept(),
            Self::Rewritten(rewritten) => rewritten.records(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bitmap_says_what_is_kept() {
        let bitmap = Bitmap::check(vec![0b1000_0001, 0b10], 10).expect("well formed");
        assert_eq!(bitmap.iter().collect::<Vec<_>>(), [0, 7, 9]);
        assert_eq!(bitmap.kept(), 3);
        assert!(bitmap.keeps(9));
        assert!(!bitmap.keeps(8));
        assert!(!bitmap.keeps(1_000));
    }

    #[test]
    fn a_bitmap_of_another_size_or_with_stray_bits_is_refused() {
        assert!(Bitmap::check(vec![0], 9).is_err());
        assert!(Bitmap::check(vec![0, 0], 8).is_err());
        assert!(Bitmap::check(vec![0, 0b100], 10).is_err());
        assert!(Bitmap::check(vec![0xff], 8).is_ok());
        assert!(Bitmap::check(vec![], 0).is_ok());
    }
}
