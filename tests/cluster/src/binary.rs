//! What is run: the `millstream` binary and the guests, built by the commands that users run.
//!
//! `MILLSTREAM_BIN` and `MILLSTREAM_GUESTS` (a directory of `<name>.wasm` or `<na_me>.wasm`) name
//! ready ones.
//!
//! Invariant: what was not named is never taken from an old build.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// The guests that the tests upload.
const GUESTS: [&str; 7] =
    ["csv-to-json", "fan-out", "keep-half", "keep-late", "redact-json", "hostile", "wants-files"];

/// The `millstream` binary.
///
/// # Panics
/// If it does not build.
pub fn millstream() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(given) = std::env::var_os("MILLSTREAM_BIN") {
            return given.into();
        }
        let mut args = vec!["build", "-p", "millstream"];
        let Some(profile) = profile_dir() else {
            return built_anywhere(&args);
        };
        if profile.ends_with("release") {
            args.push("--release");
        }
        cargo(&args);
        profile.join("millstream")
    })
}

/// Runs a verb of the binary to its end, with nothing of this process's environment that it reads.
///
/// # Panics
/// If it cannot be started.
pub fn run(args: &[&str]) -> Output {
    let mut command = command();
    command.args(args).output().expect("the binary can be started")
}

/// The binary, without the variables that it would read from this process.
#[must_use]
pub fn command() -> Command {
    let mut command = Command::new(millstream());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MILLSTREAM_") {
            command.env_remove(name);
        }
    }
    command
}

/// The bytes of a guest.
///
/// # Panics
/// If the guests do not build.
pub fn guest(name: &str) -> Vec<u8> {
    let path = guest_file(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Where a guest lies.
///
/// # Panics
/// If the guests do not build.
pub fn guest_file(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| match std::env::var_os("MILLSTREAM_GUESTS") {
        Some(given) => given.into(),
        None => {
            let mut args = vec!["build", "--release", "--target", "wasm32-wasip2"];
            args.extend(GUESTS.iter().flat_map(|guest| ["-p", guest]));
            cargo(&args);
            target_dir().join("wasm32-wasip2/release")
        }
    });
    let names = [name.to_owned(), name.replace('-', "_")];
    let mut paths = names.map(|name| directory.join(format!("{name}.wasm"))).into_iter();
    let path = paths.find(|path| path.exists());
    path.unwrap_or_else(|| panic!("no guest {name} in {}", directory.display()))
}

fn cargo_command(args: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let workspace = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let mut command = Command::new(program);
    command.current_dir(workspace).args(args);
    command
}

fn cargo(args: &[&str]) {
    let status = cargo_command(args).status().expect("cargo can be started");
    assert!(status.success(), "cargo {} failed", args.join(" "));
}

/// Builds the binary and has cargo say where it put it: for examples in documentation, which run anywhere.
fn built_anywhere(args: &[&str]) -> PathBuf {
    let args = [args, &["--message-format", "json-render-diagnostics"]].concat();
    let built = cargo_command(&args).stderr(Stdio::inherit()).output();
    let built = built.expect("cargo can be started");
    assert!(built.status.success(), "cargo {} failed", args.join(" "));
    let said = String::from_utf8_lossy(&built.stdout);
    let mut executables = said.split("\"executable\":\"").skip(1);
    let path = executables.find_map(|rest| rest.split('"').next());
    path.expect("cargo says where it put an executable").into()
}

/// The directory that this test's own binary lies below: `target/debug`, usually. Nothing for an example in
/// documentation.
fn profile_dir() -> Option<PathBuf> {
    let own = std::env::current_exe().expect("a test knows where it lies");
    let deps = own.parent().filter(|deps| deps.ends_with("deps"))?;
    deps.parent().map(Path::to_owned)
}

fn target_dir() -> PathBuf {
    let profile = profile_dir().expect("test binaries lie in `deps`");
    profile.parent().expect("profiles lie in the target directory").to_owned()
}
