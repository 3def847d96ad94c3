//! Host: everything that a guest can import.
//!
//! Invariant: an import tells a guest nothing that is not in its batch, and costs the broker a bounded amount per call.

mod cli;
mod clocks;
mod io;
mod own;
mod random;
mod state;

use wasmtime::component::Linker;

pub(crate) use state::{HostStop, State};

/// The interfaces that a guest may import, without their version.
pub(crate) const OFFERED: [&str; 19] = [
    "millstream:module/host",
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
];

/// Links all of them.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    own::link(linker)?;
    cli::link(linker)?;
    io::link(linker)?;
    clocks::link(linker)?;
    random::link(linker)
}

/// The version of WASI that is offered; the linker matches every 0.2.
fn wasi(interface: &str) -> String {
    format!("wasi:{interface}@0.2.6")
}
