//! `millstream module upload`.
//!
//! Invariant: a file that is too large is refused before it is read.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use millstream_client::Client;
use millstream_protocol::ids::ModuleName;
use millstream_protocol::limits::MAX_MODULE_BYTES;

use super::view::Module;
use crate::failure::{Failure, Result};
use crate::output::{Changed, Output, print};
use crate::{format, progress};

/// Upload a WebAssembly component as the next version of a module.
///
/// The broker validates it and checks that everything it imports is there. The same bytes again are
/// the same version.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The component, a .wasm file.
    file: PathBuf,
    /// The module's name; the file's name without its extension when not given.
    #[arg(long)]
    name: Option<ModuleName>,
}

pub(super) async fn run(args: Args, client: &Client, output: Output) -> Result {
    let name = args.name.map_or_else(|| name_of(&args.file), Ok)?;
    let component = read(&args.file)?;
    let size = component.len() as u64;
    let bar = progress::bytes("uploading", Some(size));
    let advance = |sent| {
        bar.set_position(sent);
        // Then the broker compiles it, which takes its time.
        bar.set_message(if sent < size { "uploading" } else { "checking" });
    };
    let uploaded = client.admin().upload_module_watched(name.as_str(), component, &advance).await;
    bar.finish_and_clear();
    let module = uploaded.map_err(|error| Failure::from(error).context(args.file.display()))?;
    print(&Changed::new(format!("uploaded {}", module.module), Module::from(module)), output)
}

fn name_of(file: &Path) -> Result<ModuleName> {
    let stem = file.file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
    ModuleName::new(&stem).map_err(|wrong| {
        Failure::usage(format!("{}: {wrong}; or give --name NAME", file.display()))
    })
}

fn read(file: &Path) -> Result<Bytes> {
    let unreadable = |error| Failure::new(error).context(format!("cannot read {}", file.display()));
    let size = fs::metadata(file).map_err(unreadable)?.len();
    if size > MAX_MODULE_BYTES as u64 {
        let (size, most) = (format::bytes(size), format::bytes(MAX_MODULE_BYTES as u64));
        return Err(Failure::new(format!("{} has {size}: the most is {most}", file.display()))
            .or_hint("build the module with `--release` and strip it"));
    }
    Ok(fs::read(file).map_err(unreadable)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_named_after_its_file_unless_that_is_no_name() {
        let name = name_of(Path::new("target/guests/redact-json.wasm")).expect("a name");
        assert_eq!(name.as_str(), "redact-json");
        let refused = name_of(Path::new("my module.wasm")).expect_err("no name").to_string();
        assert!(refused.contains("has ' ' in it") && refused.contains("--name NAME"), "{refused}");
    }

    #[test]
    fn a_file_that_is_too_large_is_refused_before_it_is_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("big.wasm");
        let file = fs::File::create(&path).expect("created");
        file.set_len(100 << 20).expect("sparse");
        let refused = read(&path).expect_err("too large").to_string();
        assert!(refused.contains("has 100 MiB: the most is 64 MiB"), "{refused}");
    }
}
