//! Where things are: the root, the target directory, the built binary.
//!
//! Invariant: the target directory is asked of cargo, never assumed, so that `CARGO_TARGET_DIR`
//! and a configured one both hold.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::shell;

/// Which of the two ways of building is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Quick to build; what tests run.
    Dev,
    /// What users get.
    Release,
}

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("this crate lies two folders below the root")
}

/// What cargo says of the workspace, without resolving any dependency.
pub(crate) fn metadata(root: &Path) -> Result<Value> {
    let mut asked = shell::cargo();
    asked.current_dir(root).args(["metadata", "--no-deps", "--format-version", "1"]);
    serde_json::from_str(&shell::capture(&mut asked)?).context("cargo metadata is not JSON")
}

/// Where cargo puts what it builds.
pub(crate) fn target_directory() -> Result<PathBuf> {
    let metadata = metadata(root())?;
    let path = metadata["target_directory"].as_str();
    Ok(path.context("cargo metadata names no target_directory")?.into())
}

/// Where the guest examples are put, whatever the target directory is.
pub(crate) fn guests_directory() -> PathBuf {
    root().join("target/guests")
}

/// Where the binary of a profile is, built or not.
pub(crate) fn binary(profile: Profile) -> Result<PathBuf> {
    let folder = match profile {
        Profile::Dev => "debug",
        Profile::Release => "release",
    };
    let name = format!("millstream{}", std::env::consts::EXE_SUFFIX);
    Ok(target_directory()?.join(folder).join(name))
}

/// Builds the binary and says where it is.
///
/// The dev binary is built along with every test, from the same selection of packages: cargo
/// unites the features of what it builds together, and another selection would compile the large
/// dependencies a second time.
pub(crate) fn build_binary(profile: Profile) -> Result<PathBuf> {
    let mut build = shell::cargo();
    build.arg("build");
    match profile {
        Profile::Dev => build.args(["--workspace", "--all-targets"]),
        Profile::Release => build.args(["--release", "--package", "millstream"]),
    };
    shell::run(&mut build)?;
    let binary = binary(profile)?;
    if !binary.is_file() {
        bail!("cargo build succeeded, but {} is not there", binary.display());
    }
    Ok(binary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_holds_the_workspace_manifest() {
        let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[workspace]"));
    }

    #[test]
    fn both_profiles_have_a_binary_of_their_own() {
        let dev = binary(Profile::Dev).unwrap();
        let release = binary(Profile::Release).unwrap();
        assert_ne!(dev, release);
        assert!(dev.starts_with(target_directory().unwrap()));
    }
}
