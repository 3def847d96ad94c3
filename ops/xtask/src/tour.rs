//! `cargo xtask tour`: the commands of the README and the guides, run as they are printed.
//!
//! Invariant: what is run is their own text, so that a command that no longer works fails
//! here before a reader meets it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::demo::Broker;
use crate::workspace::{self, Profile};
use crate::{guests, shell};

/// What `cargo xtask tour` takes.
#[derive(Args, Default)]
pub(crate) struct Options {
    /// Use the development build, as `cargo xtask test` does
    #[arg(long)]
    dev: bool,
    /// Use this binary and build none
    #[arg(long, value_name = "PATH", conflicts_with = "dev")]
    binary: Option<PathBuf>,
}

impl Options {
    /// The form that `cargo xtask test` runs: with the binary that it has built.
    pub(crate) fn quick(binary: PathBuf) -> Self {
        Self { binary: Some(binary), ..Self::default() }
    }
}

/// The line before a block of commands that are run here.
const MARK: &str = "<!-- tour -->";

/// Runs every marked block of the README and then of the guides against one broker, in one shell, stopping at what
/// fails.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut script = String::new();
    for document in documents()? {
        let text =
            fs::read_to_string(&document).with_context(|| format!("no {}", document.display()))?;
        for block in blocks(&text).with_context(|| document.display().to_string())? {
            script.push_str(block);
            script.push('\n');
        }
    }
    let profile = if options.dev { Profile::Dev } else { Profile::Release };
    let binary = match &options.binary {
        Some(path) => {
            path.canonicalize().with_context(|| format!("no binary at {}", path.display()))?
        }
        None => workspace::build_binary(profile)?,
    };
    guests::build()?;

    let folder = tempfile::Builder::new().prefix("millstream-tour-").tempdir()?;
    let broker = Broker::start(&binary, &folder.path().join("data"))?;
    let mut path = vec![binary.parent().context("a binary without a folder")?.to_owned()];
    path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let mut run = shell::command("bash");
    run.args(["-euxo", "pipefail", "-c", &script]).env("PATH", env::join_paths(path)?);
    // The README's files are written here, and its paths to the sources lead from here.
    fs::create_dir(folder.path().join("target"))?;
    link(&workspace::guests_directory(), &folder.path().join("target/guests"))?;
    link(&workspace::root().join("ops"), &folder.path().join("ops"))?;
    run.current_dir(folder.path());
    shell::run(broker.client().guide(&mut run)).map_err(|error| broker.explain(error))?;
    println!("the commands of the README and the guides work");
    Ok(())
}

/// The README, then the guides by their names.
fn documents() -> Result<Vec<PathBuf>> {
    let root = workspace::root();
    let mut guides = Vec::new();
    for entry in fs::read_dir(root.join("ops/guides")).context("no guides")? {
        guides.push(entry?.path());
    }
    guides.sort();
    guides.insert(0, root.join("README.md"));
    Ok(guides)
}

fn link(to: &Path, at: &Path) -> Result<()> {
    std::os::unix::fs::symlink(to, at).with_context(|| format!("cannot link {}", at.display()))
}

/// The marked blocks of commands, in their order.
fn blocks(readme: &str) -> Result<Vec<&str>> {
    let mut blocks = Vec::new();
    for rest in readme.split(MARK).skip(1) {
        let Some(block) = rest.trim_start().strip_prefix("```sh\n") else {
            bail!("after {MARK} there has to be a block that begins with ```sh");
        };
        let (block, _) = block.split_once("\n```").context("a block has no end")?;
        blocks.push(block);
    }
    ensure!(!blocks.is_empty(), "no block is marked with {MARK}");
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_blocks_are_found_and_others_are_not() {
        let readme = "```sh\nnot this\n```\n<!-- tour -->\n```sh\none\ntwo\n```\ntext\n\
                      <!-- tour -->\n```sh\nthree\n```\n";
        assert_eq!(blocks(readme).unwrap(), ["one\ntwo", "three"]);
    }

    #[test]
    fn a_readme_without_commands_to_check_is_a_problem() {
        assert!(blocks("# Title\n").is_err());
        assert!(blocks("<!-- tour -->\ntext").is_err());
        assert!(blocks("<!-- tour -->\n```sh\nno end").is_err());
    }

    #[test]
    fn the_readme_has_commands_to_check() {
        let readme = fs::read_to_string(workspace::root().join("README.md")).unwrap();
        assert!(blocks(&readme).unwrap().iter().any(|block| block.contains("millstream produce")));
    }
}
