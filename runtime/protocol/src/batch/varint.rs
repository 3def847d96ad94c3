//! Variable-length integers as Kafka writes them: zigzag, then 7 bits a byte, low bits first.
//!
//! Source: Protocol Buffers encoding, `sint32` and `sint64`.
//! Invariant: what a reader accepts fits its type exactly; surplus bits or bytes are malformed.

/// Bytes of the longest 32-bit number.
pub const MAX_VARINT_BYTES: usize = 5;
/// Bytes of the longest 64-bit number.
pub const MAX_VARLONG_BYTES: usize = 10;

/// Why no number could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The bytes end inside the number.
    Cut,
    /// More bits than the type has.
    Overflow,
}

/// Undoes the zigzag of a 32-bit number: 0, 1, 2, 3 become 0, -1, 1, -2.
#[inline]
#[must_use]
pub const fn unzigzag32(n: u32) -> i32 {
    (n >> 1).cast_signed() ^ -(n & 1).cast_signed()
}

/// Undoes the zigzag of a 64-bit number.
#[inline]
#[must_use]
pub const fn unzigzag64(n: u64) -> i64 {
    (n >> 1).cast_signed() ^ -(n & 1).cast_signed()
}

/// Folds the sign of a 32-bit number into its lowest bit.
#[inline]
#[must_use]
pub const fn zigzag32(n: i32) -> u32 {
    ((n << 1) ^ (n >> 31)).cast_unsigned()
}

/// Folds the sign of a 64-bit number into its lowest bit.
#[inline]
#[must_use]
pub const fn zigzag64(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)).cast_unsigned()
}

/// Takes a 32-bit number from the front of `input`; on an error `input` stays as it was.
///
/// # Errors
/// [`Malformed::Cut`] or [`Malformed::Overflow`].
#[inline]
pub fn read_varint(input: &mut &[u8]) -> Result<i32, Malformed> {
    // One and two bytes hold everything up to 8191: almost every length and delta there is.
    if let [a, rest @ ..] = *input
        && *a < 0x80
    {
        *input = rest;
        return Ok(unzigzag32(u32::from(*a)));
    }
    if let [a, b, rest @ ..] = *input
        && *b < 0x80
    {
        *input = rest;
        return Ok(unzigzag32(u32::from(*a & 0x7f) | u32::from(*b) << 7));
    }
    let wide = read_long(input, MAX_VARINT_BYTES)?;
    u32::try_from(wide.0).map_err(|_| Malformed::Overflow).map(|n| {
        *input = wide.1;
        unzigzag32(n)
    })
}

/// Takes a 64-bit number from the front of `input`; on an error `input` stays as it was.
///
/// # Errors
/// [`Malformed::Cut`] or [`Malformed::Overflow`].
#[inline]
pub fn read_varlong(input: &mut &[u8]) -> Result<i64, Malformed> {
    if let [a, rest @ ..] = *input
        && *a < 0x80
    {
        *input = rest;
        return Ok(unzigzag64(u64::from(*a)));
    }
    let (n, rest) = read_long(input, MAX_VARLONG_BYTES)?;
    *input = rest;
    Ok(unzigzag64(n))
}

fn read_long(input: &[u8], max_bytes: usize) -> Result<(u64, &[u8]), Malformed> {
    let mut partial = Partial::default();
    for (i, byte) in input.iter().enumerate().take(max_bytes) {
        if let Some(n) = partial.push(*byte, max_bytes)? {
            return Ok((n, &input[i + 1..]));
        }
    }
    Err(Malformed::Cut)
}

/// A number whose bytes arrive one by one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Partial {
    value: u64,
    bytes: u8,
}

impl Partial {
    /// Adds a byte of a number of at most `max_bytes`; the raw (zigzagged) number when it was the last.
    ///
    /// # Errors
    /// [`Malformed::Overflow`] when the number goes on too long, or sets bits beyond 32 or 64.
    pub fn push(&mut self, byte: u8, max_bytes: usize) -> Result<Option<u64>, Malformed> {
        let last = usize::from(self.bytes) + 1 == max_bytes;
        let top = if max_bytes == MAX_VARINT_BYTES { 0x0f } else { 0x01 };
        if last && byte > top {
            return Err(Malformed::Overflow);
        }
        self.value |= u64::from(byte & 0x7f) << (7 * u32::from(self.bytes));
        self.bytes += 1;
        if byte < 0x80 {
            let value = self.value;
            *self = Self::default();
            return Ok(Some(value));
        }
        Ok(None)
    }
}

/// Bytes that `n` takes once written.
#[inline]
#[must_use]
pub const fn varint_len(n: i32) -> usize {
    unsigned_len(zigzag32(n) as u64)
}

/// Bytes that `n` takes once written.
#[inline]
#[must_use]
pub const fn varlong_len(n: i64) -> usize {
    unsigned_len(zigzag64(n))
}

#[inline]
const fn unsigned_len(n: u64) -> usize {
    // ceil(bits / 7) without a division: 9/64 is close enough to 1/7 up to 64 bits.
    let bits = 64 - (n | 1).leading_zeros();
    ((bits * 9 + 64) / 64) as usize
}

/// Writes `n` at `at` and returns the place after it.
///
/// # Panics
/// When `out` has no room for it.
#[inline]
#[must_use]
pub fn write_varint(out: &mut [u8], at: usize, n: i32) -> usize {
    write_unsigned(out, at, u64::from(zigzag32(n)))
}

/// Writes `n` at `at` and returns the place after it.
///
/// # Panics
/// When `out` has no room for it.
#[inline]
#[must_use]
pub fn write_varlong(out: &mut [u8], at: usize, n: i64) -> usize {
    write_unsigned(out, at, zigzag64(n))
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the low byte is what is written")]
fn write_unsigned(out: &mut [u8], mut at: usize, mut n: u64) -> usize {
    while n >= 0x80 {
        out[at] = n as u8 | 0x80;
        n >>= 7;
        at += 1;
    }
    out[at] = n as u8;
    at + 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_encodings_are_as_protocol_buffers_writes_them() {
        for (n, bytes) in [
            (0, &[0x00][..]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (63, &[0x7e]),
            (64, &[0x80, 0x01]),
            (300, &[0xd8, 0x04]),
            (i32::MAX, &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i32::MIN, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ] {
            let mut out = [0; MAX_VARINT_BYTES];
            let end = write_varint(&mut out, 0, n);
            assert_eq!(&out[..end], bytes);
            assert_eq!(read_varint(&mut &bytes[..]), Ok(n));
        }
    }

    #[test]
    fn surplus_bits_and_missing_bytes_are_malformed() {
        let mut long: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0x1f];
        assert_eq!(read_varint(&mut long), Err(Malformed::Overflow));
        let mut longer: &[u8] = &[0x80, 0x80, 0x80, 0x80, 0x80, 0x00];
        assert_eq!(read_varint(&mut longer), Err(Malformed::Overflow));
        let mut cut: &[u8] = &[0x80, 0x80];
        assert_eq!(read_varint(&mut cut), Err(Malformed::Cut));
        assert_eq!(cut.len(), 2, "an error leaves the input where it was");
        assert_eq!(read_varlong(&mut &[0xff; 10][..]), Err(Malformed::Overflow));
        assert_eq!(read_varlong(&mut &[0xff; 9][..]), Err(Malformed::Cut));
    }

    proptest! {
        #[test]
        fn every_number_comes_back_and_takes_the_bytes_foretold(
            a in any::<i32>(), b in any::<i64>(), shift in 0u32..63,
        ) {
            let b = b >> shift;
            let a = a >> (shift / 2);
            let mut out = [0; 16];
            let middle = write_varint(&mut out, 0, a);
            let end = write_varlong(&mut out, middle, b);
            prop_assert_eq!(middle, varint_len(a));
            prop_assert_eq!(end - middle, varlong_len(b));
            let mut input = &out[..end];
            prop_assert_eq!(read_varint(&mut input), Ok(a));
            prop_assert_eq!(read_varlong(&mut input), Ok(b));
            prop_assert!(input.is_empty());
        }
    }
}
