//! Lines that fit beside another window.
//!
//! Invariant: no line of source is longer than 120 characters, expected output in a test apart;
//! rustfmt sees to 100 where it can.

use super::Problem;
use super::tree::File;

const LONGEST: usize = 120;

/// Checks the width of every line of Rust and WIT.
pub(super) fn check(files: &[File]) -> Vec<Problem> {
    let sources = files.iter().filter(|file| file.is_rust() || file.path.ends_with(".wit"));
    let mut problems = Vec::new();
    for file in sources.filter(|file| !file.is_expected_output()) {
        let mut snapshot = false;
        for (index, line) in file.text.lines().enumerate() {
            let expected = snapshot || opens_snapshot(line);
            snapshot = expected && !closes_snapshot(line);
            let width = line.chars().count();
            if width > LONGEST && !expected {
                let text = format!("{width} characters, the most is {LONGEST}");
                problems.push(Problem::new(&file.path, index + 1, text));
            }
        }
    }
    problems
}

/// Expected output beside its test is as wide as it is.
fn opens_snapshot(line: &str) -> bool {
    ["@\"", "@r\"", "@r#\"", "@r##\""].iter().any(|open| line.contains(open))
}

fn closes_snapshot(line: &str) -> bool {
    let line = line.trim_end();
    line.ends_with(");") || line.ends_with(')')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expected_output_is_as_wide_as_it_is_and_what_follows_is_not() {
        let wide = "x".repeat(121);
        let text = format!("assert_snapshot!(f(), @r\"\n{wide}\n\");\n{wide}\n");
        let problems = check(&[File::new("a.rs", &text)]);
        assert_eq!(problems.iter().map(|p| p.line).collect::<Vec<_>>(), [4]);
    }

    #[test]
    fn a_line_of_121_characters_is_a_problem_and_one_of_120_is_not() {
        let text = format!("{}\n{}\n", "é".repeat(120), "x".repeat(121));
        let problems = check(&[File::new("a.rs", &text), File::new("a.md", &text)]);
        assert_eq!(problems.len(), 1);
        assert_eq!((problems[0].path.as_str(), problems[0].line), ("a.rs", 2));
    }
}
