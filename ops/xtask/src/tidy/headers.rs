//! Every Rust file begins by saying what it is.
//!
//! Invariant: the first line of a file is `//!` and a text, not a licence, not an attribute.

use super::Problem;
use super::tree::File;

/// Checks the first line of every Rust file.
pub(super) fn check(files: &[File]) -> Vec<Problem> {
    let rust = files.iter().filter(|file| file.is_rust() && !file.is_expected_output());
    let unopened = rust.filter(|file| !opens(&file.text));
    let text = "no file begins so: the first line begins with `//!` and says what the file is";
    unopened.map(|file| Problem::new(&file.path, 1, text)).collect()
}

fn opens(text: &str) -> bool {
    let first = text.lines().next().unwrap_or_default();
    first.strip_prefix("//!").is_some_and(|said| !said.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_opening_line_is_a_problem() {
        let files = [
            File::new("a.rs", "//! What it is.\n"),
            File::new("b.rs", "use std::io;\n"),
            File::new("c.rs", "\n//! Late.\n"),
            File::new("d.rs", "//!\n"),
            File::new("e.rs", ""),
            File::new("f.md", "no Rust"),
            File::new("tests/golden/g.rs", "expected output"),
        ];
        let paths: Vec<String> = check(&files).into_iter().map(|problem| problem.path).collect();
        assert_eq!(paths, ["b.rs", "c.rs", "d.rs", "e.rs"]);
    }
}
