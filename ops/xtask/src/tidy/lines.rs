//! Lines that fit beside another window.
//!
//! Invariant: no line of source is longer than 120 characters; rustfmt sees to 100 where it can.

use super::Problem;
use super::tree::File;

const LONGEST: usize = 120;

/// Checks the width of every line of Rust and WIT.
pub(super) fn check(files: &[File]) -> Vec<Problem> {
    let sources = files.iter().filter(|file| file.is_rust() || file.path.ends_with(".wit"));
    let mut problems = Vec::new();
    for file in sources.filter(|file| !file.is_expected_output()) {
        for (index, line) in file.text.lines().enumerate() {
            let width = line.chars().count();
            if width > LONGEST {
                let text = format!("{width} characters, the most is {LONGEST}");
                problems.push(Problem::new(&file.path, index + 1, text));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_121_characters_is_a_problem_and_one_of_120_is_not() {
        let text = format!("{}\n{}\n", "é".repeat(120), "x".repeat(121));
        let problems = check(&[File::new("a.rs", &text), File::new("a.md", &text)]);
        assert_eq!(problems.len(), 1);
        assert_eq!((problems[0].path.as_str(), problems[0].line), ("a.rs", 2));
    }
}
