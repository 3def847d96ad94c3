//! Variable-length integers of the record format: LEB128, signed ones zigzag encoded.
//!
//! Invariant: reading never goes beyond the slice and never takes more than ten bytes.

/// Reads an unsigned integer from the front of `bytes` and moves past it; `None` if it is cut or too long.
///
/// One and two bytes are read in line: nearly every length and delta of a batch has no more.
#[inline(always)]
pub(crate) fn read_unsigned(bytes: &mut &[u8]) -> Option<u64> {
    let (&first, rest) = bytes.split_first()?;
    if first < 0x80 {
        *bytes = rest;
        return Some(u64::from(first));
    }
    let (&second, rest) = rest.split_first()?;
    if second < 0x80 {
        *bytes = rest;
        return Some(u64::from(first & 0x7f) | u64::from(second) << 7);
    }
    read_long(bytes)
}

#[inline(never)]
fn read_long(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for (place, &byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            *bytes = &bytes[place + 1..];
            return Some(value);
        }
    }
    None
}

/// Reads a zigzag-encoded signed integer from the front of `bytes` and moves past it.
#[inline(always)]
pub(crate) fn read_signed(bytes: &mut &[u8]) -> Option<i64> {
    let value = read_unsigned(bytes)?;
    Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
}

/// Reads a length-prefixed byte string: `Some(None)` is null (-1), `None` is malformed.
#[inline(always)]
pub(crate) fn read_bytes<'a>(bytes: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = read_signed(bytes)?;
    if length < 0 {
        return (length == -1).then_some(None);
    }
    let (value, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    Some(Some(value))
}

pub(crate) fn write_unsigned(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low_bits(value) | 0x80);
        value >>= 7;
    }
    out.push(low_bits(value));
}

fn low_bits(value: u64) -> u8 {
    (value & 0x7f) as u8
}

pub(crate) fn write_signed(out: &mut Vec<u8>, value: i64) {
    write_unsigned(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

pub(crate) fn write_bytes(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        None => write_signed(out, -1),
        Some(value) => {
            write_signed(out, value.len() as i64);
            out.extend_from_slice(value);
        }
    }
}

/// How many bytes [`write_unsigned`] takes.
pub(crate) fn unsigned_len(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// How many bytes [`write_bytes`] takes.
pub(crate) fn bytes_len(value: Option<&[u8]>) -> usize {
    value.map_or(1, |value| unsigned_len((value.len() as u64) << 1) + value.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_as_long_as_said() {
        for shift in 0..63 {
            for value in [1_i64 << shift, -(1_i64 << shift), (1_i64 << shift) - 1] {
                let mut bytes = Vec::new();
                write_signed(&mut bytes, value);
                assert_eq!(read_signed(&mut bytes.as_slice()), Some(value));
            }
            let mut bytes = Vec::new();
            write_unsigned(&mut bytes, 1 << shift);
            assert_eq!(bytes.len(), unsigned_len(1 << shift));
        }
        assert_eq!(unsigned_len(0), 1);
    }

    #[test]
    fn cut_or_endless_integers_are_refused() {
        assert_eq!(read_unsigned(&mut [].as_slice()), None);
        assert_eq!(read_unsigned(&mut [0x80].as_slice()), None);
        assert_eq!(read_unsigned(&mut [0xff; 11].as_slice()), None);
        assert_eq!(read_bytes(&mut [4, b'a'].as_slice()), None);
        assert_eq!(read_bytes(&mut [3].as_slice()), None);
        assert_eq!(read_bytes(&mut [1].as_slice()), Some(None));
    }
}
