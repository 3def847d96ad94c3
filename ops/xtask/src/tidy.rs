//! `cargo xtask tidy`: the workspace's rules that the compiler does not know.
//!
//! Invariant: every rule is a pure function over a tree of files, and a test shows it failing.

mod documents;
mod headers;
mod imports;
mod lexer;
mod lines;
mod manifests;
mod paths;
mod reading;
mod sizes;
mod tree;
mod words;

use std::fmt;
use std::path::Path;

use anyhow::{Result, bail};

use crate::workspace;
use tree::File;

/// One broken rule at one place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Problem {
    /// The file, from the workspace's root, with `/` between its parts.
    path: String,
    /// The line, from 1; 0 means the file as a whole.
    line: usize,
    /// What is wrong and what to do.
    text: String,
}

impl Problem {
    fn new(path: &str, line: usize, text: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, text: text.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.text),
            line => write!(f, "{}:{line}: {}", self.path, self.text),
        }
    }
}

/// Checks the workspace, prints what is wrong, and lists what is longest.
pub(crate) fn run() -> Result<()> {
    let files = tree::read(workspace::root())?;
    let problems = check(workspace::root(), &files)?;
    print!("{}", sizes::report(&files, 10));
    for problem in &problems {
        println!("{problem}");
    }
    match problems.len() {
        0 => println!("tidy: {} files, nothing to say", files.len()),
        count => bail!("tidy: {count} problems in {} files", files.len()),
    }
    Ok(())
}

/// Every rule over one tree.
fn check(root: &Path, files: &[File]) -> Result<Vec<Problem>> {
    let crates = manifests::crates(&workspace::metadata(root)?, root)?;
    let mut problems = manifests::check(&crates, files);
    problems.extend(imports::check(files));
    problems.extend(headers::check(files));
    problems.extend(reading::check(files));
    problems.extend(words::check(files));
    problems.extend(lines::check(files));
    problems.extend(documents::check(&crates, files));
    problems.sort();
    problems.dedup();
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A workspace on disk that breaks one rule of every file in this module.
    fn broken_workspace() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let core = root.path().join("runtime/core");
        let storage = root.path().join("runtime/storage");
        let put = |path: &Path, text: &str| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let members = "[workspace]\nresolver = \"3\"\nmembers = [\"runtime/*\"]\n\
                       [workspace.lints.rust]\n";
        put(&root.path().join("Cargo.toml"), members);
        let named = |name: &str, rest: &str| {
            format!("[package]\nname = \"{name}\"\nedition = \"2024\"\n{rest}")
        };
        let storage_on_core =
            "[dependencies]\nmillstream-storage = { path = \"../storage\" }\nquinn = \"0.11\"\n";
        put(&core.join("Cargo.toml"), &named("millstream-core", storage_on_core));
        let core_source =
            format!("use std::fs;\nmod lost;\n// {}\n{}", concat!("TO", "DO"), "x".repeat(130));
        put(&core.join("src/lib.rs"), &core_source);
        put(
            &storage.join("Cargo.toml"),
            &named("millstream-storage", "[lints]\nworkspace = true\n"),
        );
        put(&storage.join("src/lib.rs"), "//! Fine.\n#![forbid(unsafe_code)]\n");
        put(&root.path().join("README.md"), "`runtime/storage` and [gone](gone.md)\n");
        root
    }

    #[test]
    fn every_rule_speaks_up_in_a_workspace_that_breaks_them_all() {
        let root = broken_workspace();
        let files = tree::read(root.path()).unwrap();
        let problems = check(root.path(), &files).unwrap();
        let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
        for expected in [
            "may not depend on millstream-storage",
            "may not depend on quinn",
            "[lints] workspace = true",
            "std::fs",
            "begins with `//!`",
            "`lost` is not in the reading order",
            "forbid(unsafe_code)",
            "left behind",
            "130 characters",
            "runtime/core is mentioned neither",
            "gone.md",
        ] {
            assert!(said.iter().any(|line| line.contains(expected)), "{expected}: {said:#?}");
        }
        let about_storage = |problem: &&Problem| problem.path.starts_with("runtime/storage");
        assert_eq!(problems.iter().find(about_storage), None, "storage breaks no rule");
    }

    #[test]
    fn a_problem_is_printed_as_an_editor_can_follow_it() {
        assert_eq!(Problem::new("a/b.rs", 7, "wrong").to_string(), "a/b.rs:7: wrong");
        assert_eq!(Problem::new("a/b.rs", 0, "wrong").to_string(), "a/b.rs: wrong");
    }
}
