//! Csv: the cells of a row and the numbers in them, where they lie.
//!
//! Invariant: a number is the one that [`str::parse`] gives for the same text, to the last bit; only how long it
//! takes differs.

/// The cell of a row in one column, counted from 0; `None` if the row is shorter. Quotes are not looked at.
#[inline]
pub fn cell(row: &[u8], column: usize) -> Option<&[u8]> {
    row.split(|&byte| byte == b',').nth(column)
}

/// The number in a cell, spaces around it aside; `None` if there is none.
#[inline]
pub fn number(cell: &[u8]) -> Option<f64> {
    match plain(cell) {
        Some(number) => Some(number),
        None => std::str::from_utf8(cell).ok()?.trim().parse().ok(),
    }
}

/// Digits with at most one point and a sign. Up to 15 digits and a power of ten below 10^15 are both exact as
/// floating point, so that their quotient is the nearest number there is (Clinger, "How to Read Floating Point
/// Numbers Accurately", 1990).
#[inline]
fn plain(cell: &[u8]) -> Option<f64> {
    const MAX_DIGITS: u32 = 15;
    let (negative, digits) = match cell {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let (mut mantissa, mut count, mut scale) = (0_u64, 0, None);
    for &byte in digits {
        match byte {
            b'0'..=b'9' if count < MAX_DIGITS => {
                mantissa = mantissa * 10 + u64::from(byte - b'0');
                count += 1;
                scale = scale.map(|scale: u64| scale * 10);
            }
            b'.' if scale.is_none() => scale = Some(1),
            _ => return None,
        }
    }
    if count == 0 {
        return None;
    }
    let number = match scale {
        None | Some(1) => mantissa as f64,
        Some(scale) => mantissa as f64 / scale as f64,
    };
    Some(if negative { -number } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<f64> {
        text.trim().parse().ok()
    }

    #[test]
    fn a_number_is_the_one_that_parse_gives() {
        let texts = [
            "0",
            "-0",
            "7",
            "-7",
            "4.5",
            ".5",
            "5.",
            "-.5",
            "0.1",
            "0.3",
            "123456789012345",
            "1234567890123456",
            "0.00000000000001",
            "999999.999999999",
            "1e3",
            "-1E-7",
            "inf",
            "NaN",
            " 12 ",
            "\t3.25\n",
            "+4",
            "",
            "-",
            ".",
            "-.",
            "1.2.3",
            "12a",
            "NA",
            "1 2",
            "0x10",
            "9007199254740993",
        ];
        for text in texts {
            let found = number(text.as_bytes());
            assert_eq!(found.map(f64::to_bits), parsed(text).map(f64::to_bits), "{text:?}");
        }
        assert_eq!(number(&[0xff]), None);
    }

    #[test]
    fn every_short_decimal_is_read_to_the_last_bit() {
        let mut state = 1_u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (digits, point) = (state >> 20, (state & 15) as u32);
            let text = format!("{}.{:05}", digits % 10_u64.pow(point), state % 100_000);
            assert_eq!(number(text.as_bytes()), parsed(&text), "{text}");
        }
    }

    #[test]
    fn a_cell_is_found_by_its_column() {
        assert_eq!(cell(b"a,,c", 0), Some(&b"a"[..]));
        assert_eq!(cell(b"a,,c", 1), Some(&b""[..]));
        assert_eq!(cell(b"a,,c", 2), Some(&b"c"[..]));
        assert_eq!(cell(b"a,,c", 3), None);
    }
}
