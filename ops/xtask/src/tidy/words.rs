//! Words that may not stay: left-behind work, and names of things outside the repository.
//!
//! Invariant: a reader who has only this repository can follow every reference in it.

use super::tree::File;
use super::{Problem, lexer};

/// Marks of unfinished work, spelled so that this file does not hold them.
const LEFT_BEHIND: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];

/// Paths of one machine.
const MACHINE_PATHS: [&str; 4] =
    [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/tmp", "/ms")];

/// Documents that are not part of the repository.
const ABSENT_DOCUMENTS: [&str; 5] = [
    concat!("DESI", "GN.md"),
    concat!("PEE", "RS.md"),
    concat!("STY", "LE.md"),
    concat!("INVARI", "ANTS.md"),
    concat!("SP", "EC.md"),
];

/// Checks every text file for words, and every Rust file for a left-behind debugging macro.
pub(super) fn check(files: &[File]) -> Vec<Problem> {
    let ours = files.iter().filter(|file| !file.is_expected_output());
    let mut problems = Vec::new();
    for file in ours {
        for (index, line) in file.text.lines().enumerate() {
            let said = complaints(line, file.is_rust());
            problems.extend(said.into_iter().map(|text| Problem::new(&file.path, index + 1, text)));
        }
        if file.is_rust() {
            problems.extend(debugging(file));
        }
    }
    problems
}

fn complaints(line: &str, rust: bool) -> Vec<String> {
    let mut said = Vec::new();
    for word in LEFT_BEHIND.iter().filter(|word| contains_word(line, word)) {
        said.push(format!("`{word}` was left behind: do it, or say why not"));
    }
    for path in MACHINE_PATHS.iter().filter(|path| contains_path(line, path)) {
        said.push(format!("`{path}` is a path of one machine"));
    }
    for name in ABSENT_DOCUMENTS.iter().filter(|name| contains_word(line, name)) {
        said.push(format!("`{name}` is not in this repository"));
    }
    // In Rust, a string may hold `#1` for reasons of its own; a comment has none.
    let prose = if rust { line.split_once("//").map_or("", |(_, comment)| comment) } else { line };
    if let Some(number) = issue_number(prose) {
        said.push(format!("`{number}` names an issue: say what it was about"));
    }
    said
}

fn debugging(file: &File) -> Vec<Problem> {
    const MACRO: &str = concat!("db", "g!");
    let code = lexer::code_only(&file.text);
    let lines = code.lines().enumerate().filter(|(_, line)| contains_word(line, MACRO));
    lines
        .map(|(index, _)| Problem::new(&file.path, index + 1, format!("`{MACRO}` was left behind")))
        .collect()
}

/// Whether a word stands in a line with no word's character on either side.
fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = at.checked_sub(1).map(|at| line.as_bytes()[at]);
        let after = line.as_bytes().get(at + word.len()).copied();
        let ends_open = lexer::is_word(*word.as_bytes().last().unwrap_or(&b' '));
        !(before.is_some_and(lexer::is_word) || ends_open && after.is_some_and(lexer::is_word))
    })
}

/// Whether a path stands in a line as the beginning of a path.
fn contains_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = at.checked_sub(1).map(|at| line.as_bytes()[at]);
        !before.is_some_and(|byte| lexer::is_word(byte) || byte == b'.' || byte == b'}')
    })
}

/// The first `#12`, `issue 12` or `issues #12` of a line. Colours and attributes are neither.
fn issue_number(line: &str) -> Option<String> {
    let words: Vec<&str> =
        line.split(|c: char| c.is_whitespace() || "()[],.;:".contains(c)).collect();
    for (index, word) in words.iter().enumerate() {
        let number = word.strip_prefix('#').unwrap_or("");
        if is_number(number) {
            return Some((*word).to_owned());
        }
        let next = words.get(index + 1).map_or("", |next| next.trim_start_matches('#'));
        if ["issue", "issues"].contains(&word.to_lowercase().as_str()) && is_number(next) {
            return Some(format!("{word} {next}"));
        }
    }
    None
}

fn is_number(text: &str) -> bool {
    (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Vec<String> {
        check(&[File::new("a.rs", text)]).into_iter().map(|problem| problem.text).collect()
    }

    #[test]
    fn marks_of_unfinished_work_are_problems() {
        for word in LEFT_BEHIND {
            assert_eq!(said(&format!("// {word}: later")).len(), 1, "{word}");
            assert_eq!(said(&format!("a{word}b")).len(), 0, "{word}");
        }
    }

    #[test]
    fn a_debugging_macro_is_a_problem_in_code_only() {
        let name = concat!("db", "g!");
        assert_eq!(said(&format!("fn f() {{ {name}(1); }}")).len(), 1);
        assert_eq!(said(&format!("// {name} is what we do not use")).len(), 0);
    }

    #[test]
    fn numbers_of_issues_are_problems_and_other_uses_of_the_sign_are_not() {
        for line in ["see #12", "(#3)", "as issue 2 says", "Issues #4 and others"] {
            assert_eq!(said(&format!("// {line}")).len(), 1, "{line}");
        }
        for line in ["#[test]", "r#\"12\"#", "colour: #112233", "# Title", "three issues", "a#12"] {
            assert_eq!(said(&format!("// {line}")).len(), 0, "{line}");
        }
    }

    #[test]
    fn a_number_in_a_string_is_no_issue_and_one_in_a_document_is() {
        assert_eq!(said("let said = \"acknowledge #1 at 0\";").len(), 0);
        assert_eq!(check(&[File::new("a.md", "see #1")]).len(), 1);
    }

    #[test]
    fn paths_of_one_machine_are_problems() {
        for path in MACHINE_PATHS {
            assert_eq!(said(&format!("see {path}x")).len(), 1, "{path}");
            assert_eq!(said(&format!("see a{path}x")).len(), 0, "{path}");
        }
    }

    #[test]
    fn documents_outside_the_repository_are_problems() {
        for name in ABSENT_DOCUMENTS {
            assert_eq!(said(&format!("as {name} says")).len(), 1, "{name}");
        }
    }
}
