//! The longest files and functions, for information.
//!
//! Invariant: nothing here is a limit; what is long is shown, and a person decides.

use std::fmt::Write;

use super::lexer;
use super::tree::File;

/// The `count` longest files and functions as two lists.
pub(super) fn report(files: &[File], count: usize) -> String {
    let rust = || files.iter().filter(|file| file.is_rust());
    let lengths = rust().map(|file| (file.text.lines().count(), file.path.clone())).collect();
    let functions = rust().flat_map(functions).collect();
    let mut text = String::new();
    list(&mut text, "longest files", lengths, count);
    list(&mut text, "longest functions", functions, count);
    text
}

fn list(text: &mut String, title: &str, mut rows: Vec<(usize, String)>, count: usize) {
    rows.sort_by(|one, other| other.cmp(one));
    writeln!(text, "{title}:").expect("a string takes all text");
    for (lines, name) in rows.into_iter().take(count) {
        writeln!(text, "  {lines:5} {name}").expect("a string takes all text");
    }
}

/// Every function of a file, with how many lines it takes from `fn` to its last brace.
fn functions(file: &File) -> Vec<(usize, String)> {
    let code = lexer::code_only(&file.text);
    let starts = code.match_indices("fn ").map(|(at, _)| at);
    let words = starts.filter(|&at| at == 0 || !lexer::is_word(code.as_bytes()[at - 1]));
    let mut found = Vec::new();
    for at in words {
        let rest = &code[at + 3..];
        let name: String =
            rest.chars().take_while(|&c| c.is_ascii() && lexer::is_word(c as u8)).collect();
        let body = &rest[..lexer::item_length(rest)];
        if !name.is_empty() && body.ends_with('}') {
            let line = code[..at].matches('\n').count() + 1;
            found.push((body.lines().count(), format!("{}:{line} {name}", file.path)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured_from_their_name_to_their_last_brace() {
        let text =
            "//! A.\nfn one() {\n    if x {\n    }\n}\ntrait T { fn none(&self); }\nfn two() {}\n";
        let found = functions(&File::new("a.rs", text));
        assert_eq!(found, [(4, "a.rs:2 one".to_owned()), (1, "a.rs:7 two".to_owned())]);
    }

    #[test]
    fn the_longest_come_first_and_no_more_than_asked_for() {
        let files =
            [File::new("a.rs", "1\n"), File::new("b.rs", "1\n2\n"), File::new("c.rs", "1\n2\n3\n")];
        let report = report(&files, 2);
        assert!(report.find("c.rs") < report.find("b.rs"));
        assert!(!report.contains("a.rs"));
    }
}
