//! `cargo xtask guests`: every crate of guest-examples/ as a WebAssembly component.
//!
//! Invariant: `target/guests/<name>.wasm` is what the sources say now, or the command failed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::{shell, workspace};

const TARGET: &str = "wasm32-wasip2";

/// Builds every guest example and prints where each one is.
pub(crate) fn run() -> Result<()> {
    for built in build()? {
        let bytes = fs::metadata(&built)?.len();
        println!("{} ({} KiB)", built.display(), bytes.div_ceil(1024));
    }
    Ok(())
}

/// Builds every guest example; returns the paths of the components, in the order of their names.
pub(crate) fn build() -> Result<Vec<PathBuf>> {
    ensure_target()?;
    let names = examples(&workspace::root().join("guest-examples"))?;
    if names.is_empty() {
        bail!("guest-examples/ holds no crate");
    }
    // The guests of the tests come along, so that no test waits for a compiler.
    let of_tests = examples(&workspace::root().join("tests/modules/guests")).unwrap_or_default();
    let mut build = shell::cargo();
    build.args(["build", "--release", "--target", TARGET]);
    for name in names.iter().chain(&of_tests) {
        build.args(["--package", name]);
    }
    shell::run(&mut build)?;

    let from = components()?;
    let to = workspace::guests_directory();
    fs::create_dir_all(&to).with_context(|| format!("cannot create {}", to.display()))?;
    names.iter().map(|name| place(name, &from, &to)).collect()
}

/// Where cargo puts every component, the guests of the tests among them.
pub(crate) fn components() -> Result<PathBuf> {
    Ok(workspace::target_directory()?.join(TARGET).join("release"))
}

/// Copies one component under its crate's name; readers never see half of it.
fn place(name: &str, from: &Path, to: &Path) -> Result<PathBuf> {
    let built = from.join(format!("{}.wasm", name.replace('-', "_")));
    let placed = to.join(format!("{name}.wasm"));
    let partial = to.join(format!(".{name}.wasm.{}", std::process::id()));
    fs::copy(&built, &partial).with_context(|| {
        let built = built.display();
        format!("{built} was not built: guest-examples/{name} needs crate-type = [\"cdylib\"]")
    })?;
    fs::rename(&partial, &placed).with_context(|| format!("cannot place {}", placed.display()))?;
    Ok(placed)
}

/// The crates in a folder, by the names of their own folders.
fn examples(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))? {
        let entry = entry?;
        if entry.path().join("Cargo.toml").is_file() {
            let name = entry.file_name().into_string();
            names.push(name.map_err(|name| anyhow::anyhow!("{name:?} is not UTF-8"))?);
        }
    }
    names.sort();
    Ok(names)
}

/// Makes sure the standard library for the guests' target is installed.
fn ensure_target() -> Result<()> {
    if target_installed()? {
        return Ok(());
    }
    if !shell::found("rustup", &["--version"]) {
        bail!(
            "the Rust target {TARGET} is not installed, and rustup was not found to add it.\n\
             Install rustup (https://rustup.rs) and run `rustup target add {TARGET}`, or install\n\
             your distribution's package of the Rust standard library for {TARGET}."
        );
    }
    eprintln!("adding the Rust target {TARGET}");
    shell::run(shell::command("rustup").args(["target", "add", TARGET]))
        .with_context(|| format!("`rustup target add {TARGET}` needs the network once"))
}

fn target_installed() -> Result<bool> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let asked =
        shell::command(rustc).args(["--print", "target-libdir", "--target", TARGET]).output();
    let answer = asked.context("rustc was not found: install Rust from https://rustup.rs")?;
    let libraries = PathBuf::from(String::from_utf8_lossy(&answer.stdout).trim());
    Ok(answer.status.success() && libraries.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_with_a_manifest_are_examples() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("notes")).unwrap();
        for name in ["second", "first"] {
            fs::create_dir(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join("Cargo.toml"), "").unwrap();
        }
        assert_eq!(examples(folder.path()).unwrap(), ["first", "second"]);
    }

    #[test]
    fn a_component_is_placed_under_its_crates_name() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("keep_late.wasm"), b"bytes").unwrap();
        let placed = place("keep-late", folder.path(), folder.path()).unwrap();
        assert_eq!(placed, folder.path().join("keep-late.wasm"));
        assert_eq!(fs::read(placed).unwrap(), b"bytes");
    }

    #[test]
    fn a_crate_that_gives_no_component_is_told_what_it_lacks() {
        let folder = tempfile::tempdir().unwrap();
        let error = place("empty", folder.path(), folder.path()).expect_err("nothing was built");
        assert!(error.to_string().contains("cdylib"), "{error}");
    }
}
