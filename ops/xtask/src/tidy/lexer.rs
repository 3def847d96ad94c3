//! Just enough of Rust's lexis to tell code from comments, strings and tests.
//!
//! Invariant: what comes out has as many lines as what went in, and the same code on each of them.

/// The code alone: comments and the insides of strings and characters are blanks.
pub(super) fn code_only(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    while out.len() < bytes.len() {
        let at = out.len();
        let skipped = skip_length(bytes, at);
        if skipped == 0 {
            out.push(if bytes[at].is_ascii() { bytes[at] } else { b' ' });
        } else {
            let end = bytes.len().min(at + skipped);
            out.extend(bytes[at..end].iter().map(|&b| if b == b'\n' { b'\n' } else { b' ' }));
        }
    }
    String::from_utf8(out).expect("only ASCII was pushed")
}

/// How many bytes from `at` on are a comment, a string or a character; 0 if it is code.
fn skip_length(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    match rest[0] {
        b'/' if rest.starts_with(b"//") => length_until(rest, b'\n'),
        b'/' if rest.starts_with(b"/*") => block_comment(rest),
        b'"' => 1 + quoted(&rest[1..], b'"'),
        b'\'' => character(rest),
        b'r' | b'b' | b'c' if at == 0 || !is_word(bytes[at - 1]) => prefixed(rest),
        _ => 0,
    }
}

fn length_until(rest: &[u8], end: u8) -> usize {
    rest.iter().position(|&b| b == end).unwrap_or(rest.len())
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// The length up to and with the closing quote, escapes skipped.
fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 0;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b if b == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// A character literal; a lifetime is code.
fn character(rest: &[u8]) -> usize {
    match rest.get(1) {
        Some(b'\\') => 1 + quoted(&rest[1..], b'\''),
        Some(&first) => {
            let width = match first {
                0xf0.. => 4,
                0xe0.. => 3,
                0xc0.. => 2,
                _ => 1,
            };
            if rest.get(1 + width) == Some(&b'\'') { width + 2 } else { 0 }
        }
        None => 0,
    }
}

/// Raw, byte and C strings, and byte characters; a word that begins with `r`, `b` or `c` is code.
fn prefixed(rest: &[u8]) -> usize {
    let letters = rest.iter().take(2).take_while(|b| b"rbc".contains(b)).count();
    let raw = rest[..letters].contains(&b'r');
    let after = &rest[letters..];
    if !raw {
        return match after.first() {
            Some(b'"') => letters + 1 + quoted(&after[1..], b'"'),
            Some(b'\'') if rest[0] == b'b' => letters + character(after),
            _ => 0,
        };
    }
    let hashes = after.iter().take_while(|&&b| b == b'#').count();
    if after.get(hashes) != Some(&b'"') {
        return 0;
    }
    let mut end = vec![b'"'];
    end.resize(hashes + 1, b'#');
    let body = letters + hashes + 1;
    let length = rest[body..].windows(end.len()).position(|window| window == end);
    length.map_or(rest.len(), |length| body + length + end.len())
}

pub(super) const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Code without the items that are marked `#[cfg(test)]`.
pub(super) fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = code.to_owned();
    while let Some(start) = out.find(MARK) {
        let end = start + item_length(&out[start + MARK.len()..]) + MARK.len();
        let blank: String =
            out[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(start..end, &blank);
    }
    out
}

/// The length of the item that code begins with: to its `;`, or to the end of its braces.
pub(super) fn item_length(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 && byte == b'}' {
                    return at + 1;
                }
            }
            b';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_not_code() {
        let code = code_only("a // b\n/* c /* d */ e */ f \"g \\\" h\" i r#\"j \" k\"# l b\"m\" n");
        let words: Vec<&str> = code.split_whitespace().collect();
        assert_eq!(words, ["a", "f", "i", "l", "n"]);
    }

    #[test]
    fn lifetimes_are_code_and_characters_are_not() {
        let code = code_only("fn f<'a>(x: &'a str) { x == '\"' || y == '\\'' || z == 'é' } // w");
        assert!(code.contains("'a>(x: &'a str)"));
        assert!(code.contains("y =="));
        assert!(!code.contains('"'));
        assert!(!code.contains('w'));
    }

    #[test]
    fn raw_names_and_words_that_look_like_prefixes_are_code() {
        let code = code_only("r#type b c br rest bar(\"gone\") r\"gone\"");
        assert_eq!(code.trim_end(), "r#type b c br rest bar(      )");
    }

    #[test]
    fn every_line_stays_where_it_was() {
        let source = "a\n/*\n\n*/b\n\"\n\"c";
        assert_eq!(code_only(source).lines().count(), source.lines().count());
        assert!(code_only(source).lines().nth(3).unwrap().contains('b'));
    }

    #[test]
    fn marked_items_are_cut_out_and_others_stay() {
        let code = "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { c(); } }\nfn d() {}\n\
                    #[cfg(test)] use e;\nfn f() {}";
        let left = without_tests(code);
        let words: Vec<&str> = left.split_whitespace().collect();
        assert_eq!(words, ["fn", "a()", "{}", "fn", "d()", "{}", "fn", "f()", "{}"]);
        assert_eq!(left.lines().count(), code.lines().count());
    }
}
