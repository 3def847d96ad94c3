//! Every path that code names, with `use a::{b, c}` spelled out.
//!
//! Invariant: a path in a group is reported in full, so that grouping hides nothing from a rule.

use super::lexer::is_word;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    /// `::`
    Join,
    Other(u8),
}

/// The paths in code that has no comments and strings left, each with its line, from 1.
pub(super) fn paths(code: &str) -> Vec<(usize, String)> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        at = match tokens[at].1 {
            Token::Word(_) => follow(&tokens, at, "", &mut found),
            _ => at + 1,
        };
    }
    found
}

/// Follows one path from the word at `at`; returns where it ends.
fn follow(
    tokens: &[(usize, Token<'_>)],
    mut at: usize,
    prefix: &str,
    found: &mut Vec<(usize, String)>,
) -> usize {
    let mut path = prefix.to_owned();
    let mut line = tokens[at].0;
    while let Some(&(here, Token::Word(word))) = tokens.get(at) {
        path.push_str(word);
        line = here;
        at += 1;
        if tokens.get(at).map(|token| token.1) != Some(Token::Join) {
            break;
        }
        match tokens.get(at + 1).map(|token| token.1) {
            Some(Token::Word(_)) => at += 1,
            Some(Token::Other(b'*')) => {
                path.push_str("::*");
                at += 2;
                break;
            }
            Some(Token::Other(b'{')) => {
                return group(tokens, at + 2, &format!("{path}::"), found);
            }
            _ => break,
        }
        path.push_str("::");
    }
    found.push((line, path));
    at
}

/// Follows what stands between `{` and `}`; returns where the group ends.
fn group(
    tokens: &[(usize, Token<'_>)],
    mut at: usize,
    prefix: &str,
    found: &mut Vec<(usize, String)>,
) -> usize {
    while let Some(&(line, token)) = tokens.get(at) {
        at = match token {
            Token::Other(b'}') => return at + 1,
            Token::Other(b'*') => {
                found.push((line, format!("{prefix}*")));
                at + 1
            }
            // `as name`: the new name is no path of the prefix.
            Token::Word("as") => at + 2,
            Token::Word(_) => follow(tokens, at, prefix, found),
            _ => at + 1,
        };
    }
    at
}

fn tokens(code: &str) -> Vec<(usize, Token<'_>)> {
    let bytes = code.as_bytes();
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 1);
    while at < bytes.len() {
        let length = bytes[at..].iter().take_while(|&&b| is_word(b)).count();
        if length > 0 {
            tokens.push((line, Token::Word(&code[at..at + length])));
            at += length;
        } else if bytes[at..].starts_with(b"::") {
            tokens.push((line, Token::Join));
            at += 2;
        } else {
            match bytes[at] {
                b'\n' => line += 1,
                b if b.is_ascii_whitespace() => {}
                b => tokens.push((line, Token::Other(b))),
            }
            at += 1;
        }
    }
    tokens
}

/// Whether a path is, or lies below, or by a `*` takes in, what a rule names.
pub(super) fn touches(path: &str, named: &str) -> bool {
    let below =
        path.strip_prefix(named).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    let by_glob = path
        .strip_suffix("::*")
        .and_then(|parent| named.strip_prefix(parent))
        .is_some_and(|rest| rest.starts_with("::"));
    below || by_glob
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(code: &str) -> Vec<String> {
        paths(code).into_iter().map(|(_, path)| path).collect()
    }

    #[test]
    fn groups_are_spelled_out_with_their_lines() {
        let code =
            "use std::{\n    collections::{BTreeMap, HashMap as Map},\n    fs::{self, File},\n};";
        let expected = [
            (1, "use"),
            (2, "std::collections::BTreeMap"),
            (2, "std::collections::HashMap"),
            (3, "std::fs::self"),
            (3, "std::fs::File"),
        ];
        let expected: Vec<_> = expected.map(|(line, path)| (line, path.to_owned())).into();
        assert_eq!(paths(code), expected);
    }

    #[test]
    fn paths_inside_expressions_are_found() {
        let paths = found("let x = ::std::fs::read(Vec::<u8>::new());");
        assert!(paths.contains(&"std::fs::read".to_owned()), "{paths:?}");
        assert!(paths.contains(&"new".to_owned()), "{paths:?}");
    }

    #[test]
    fn a_rule_is_touched_from_above_by_a_glob_and_from_below_by_a_path() {
        assert!(touches("std::fs", "std::fs"));
        assert!(touches("std::fs::File", "std::fs"));
        assert!(touches("std::*", "std::fs"));
        assert!(!touches("std::fsx", "std::fs"));
        assert!(!touches("std::io::*", "std::fs"));
    }
}
