//! Every world against the real host: limits, traps, every guest example.
//!
//! Invariant: guests are built once, by the same command that users run, and never taken from an old build.
//!
//! Reading order: this file, [`rig`] (a guest with the real host around it), `folder` (what keeps artefacts).

mod folder;
pub mod rig;

pub use folder::Folder;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The crates that become components.
pub const GUESTS: [&str; 8] = [
    "keep-late",
    "redact-json",
    "csv-to-json",
    "fan-out",
    "keep-half",
    "hostile",
    "wants-files",
    "wants-sockets",
];

/// The component of a guest crate, built if need be.
///
/// # Panics
/// If a guest does not build.
pub fn guest(name: &str) -> Vec<u8> {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let path = DIRECTORY.get_or_init(build).join(format!("{}.wasm", name.replace('-', "_")));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Where compiled guests are kept from one run of the tests to the next.
pub fn cache_dir() -> PathBuf {
    target().join("guests-compiled")
}

/// Builds every guest, unless `MILLSTREAM_GUESTS` says where they are, and says where they are.
fn build() -> PathBuf {
    if let Some(given) = std::env::var_os("MILLSTREAM_GUESTS") {
        return given.into();
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace()).args(["build", "--release", "--target", "wasm32-wasip2"]);
    for guest in GUESTS {
        cargo.args(["-p", guest]);
    }
    let status = cargo.status().expect("cargo can be started");
    assert!(status.success(), "the guests do not build: is the target wasm32-wasip2 installed?");
    target().join("wasm32-wasip2/release")
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}
