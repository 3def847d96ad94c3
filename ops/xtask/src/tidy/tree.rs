//! The files that the rules look at.
//!
//! Invariant: what is built, downloaded or hidden is not looked at; everything else that is text is,
//! whether it is committed or not.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// A text file of the workspace.
#[derive(Clone, Debug)]
pub(super) struct File {
    /// Its path from the root, with `/` between its parts.
    pub(super) path: String,
    /// What is in it.
    pub(super) text: String,
}

impl File {
    #[cfg(test)]
    pub(super) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    pub(super) fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == "rs")
    }

    /// Files that hold expected output, byte for byte, and so follow no rule of ours.
    pub(super) fn is_expected_output(&self) -> bool {
        let parts = || self.path.split('/');
        parts().any(|part| part == "golden" || part == "snapshots" || part == "corpus")
    }

    /// Whether the whole file is a test, or a measurement that no user runs.
    pub(super) fn is_test(&self) -> bool {
        let parts = || self.path.split('/');
        parts().any(|part| ["tests", "tests.rs", "benches", "examples"].contains(&part))
    }
}

const HIDDEN_BUT_OURS: [&str; 7] =
    [".ci", ".config", ".cargo", ".deny.toml", ".typos.toml", ".rustfmt.toml", ".gitignore"];
const NOT_OURS: [&str; 4] = ["target", "millstream-data", "proptest-regressions", "Cargo.lock"];
const LARGEST: u64 = 4 << 20;

/// Reads every text file below a root, in the order of their paths.
pub(super) fn read(root: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    walk(root, "", &mut files)?;
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(files)
}

fn walk(folder: &Path, prefix: &str, files: &mut Vec<File>) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let hidden = name.starts_with('.') && !HIDDEN_BUT_OURS.contains(&name.as_str());
        if hidden || NOT_OURS.contains(&name.as_str()) {
            continue;
        }
        let path = format!("{prefix}{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(&entry.path(), &format!("{path}/"), files)?;
        } else if kind.is_file() && entry.metadata()?.len() <= LARGEST {
            let bytes = fs::read(entry.path()).with_context(|| format!("cannot read {path}"))?;
            // What is not UTF-8 is not text: data of tests, compressed input.
            if let Ok(text) = String::from_utf8(bytes) {
                files.push(File { path, text });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_hidden_and_binary_files_are_not_read() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["target", ".git", ".ci", "src"] {
            fs::create_dir(root.path().join(folder)).unwrap();
            fs::write(root.path().join(folder).join("file"), "text").unwrap();
        }
        fs::write(root.path().join("src/binary"), [0xff, 0xfe]).unwrap();
        let paths: Vec<_> = read(root.path()).unwrap().into_iter().map(|file| file.path).collect();
        assert_eq!(paths, [".ci/file", "src/file"]);
    }

    #[test]
    fn tests_and_expected_output_are_known_by_their_folders() {
        assert!(File::new("sdk/client/tests/one.rs", "").is_test());
        assert!(File::new("runtime/core/src/log/tests.rs", "").is_test());
        assert!(!File::new("runtime/core/src/attests.rs", "").is_test());
        assert!(File::new("tests/golden/one.rs", "").is_expected_output());
    }
}
