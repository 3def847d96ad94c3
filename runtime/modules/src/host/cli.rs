//! `wasi:cli`: no arguments, an empty environment, no terminals; standard streams that lead into the job's log.
//!
//! Invariant: nothing of the broker's own process can be read through it.

use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource, ResourceType},
};

use super::{
    HostStop, State,
    io::{InputStream, OutputStream, STDERR, STDOUT},
    state::handle,
    wasi,
};

/// Never made: there are no terminals.
pub(super) enum TerminalInput {}
/// Never made: there are no terminals.
pub(super) enum TerminalOutput {}

type Store<'a> = StoreContextMut<'a, State>;

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut environment = linker.instance(&wasi("cli/environment"))?;
    environment.func_wrap("get-environment", |_: Store<'_>, (): ()| {
        Ok((Vec::<(String, String)>::new(),))
    })?;
    environment.func_wrap("get-arguments", |_: Store<'_>, (): ()| Ok((Vec::<String>::new(),)))?;
    environment.func_wrap("initial-cwd", |_: Store<'_>, (): ()| Ok((None::<String>,)))?;

    let mut exit = linker.instance(&wasi("cli/exit"))?;
    exit.func_wrap("exit", |_: Store<'_>, (_,): (Result<(), ()>,)| -> wasmtime::Result<()> {
        Err(HostStop::Exit.into())
    })?;

    let mut stdin = linker.instance(&wasi("cli/stdin"))?;
    stdin.func_wrap("get-stdin", |_: Store<'_>, (): ()| Ok((handle::<InputStream>(0),)))?;
    let mut stdout = linker.instance(&wasi("cli/stdout"))?;
    stdout.func_wrap("get-stdout", |_: Store<'_>, (): ()| Ok((handle::<OutputStream>(STDOUT),)))?;
    let mut stderr = linker.instance(&wasi("cli/stderr"))?;
    stderr.func_wrap("get-stderr", |_: Store<'_>, (): ()| Ok((handle::<OutputStream>(STDERR),)))?;

    link_terminals(linker)
}

fn link_terminals(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut input = linker.instance(&wasi("cli/terminal-input"))?;
    input.resource("terminal-input", ResourceType::host::<TerminalInput>(), |_, _| Ok(()))?;
    let mut output = linker.instance(&wasi("cli/terminal-output"))?;
    output.resource("terminal-output", ResourceType::host::<TerminalOutput>(), |_, _| Ok(()))?;

    let mut stdin = linker.instance(&wasi("cli/terminal-stdin"))?;
    stdin.func_wrap("get-terminal-stdin", |_: Store<'_>, (): ()| {
        Ok((None::<Resource<TerminalInput>>,))
    })?;
    for (interface, function) in [
        ("cli/terminal-stdout", "get-terminal-stdout"),
        ("cli/terminal-stderr", "get-terminal-stderr"),
    ] {
        let mut terminal = linker.instance(&wasi(interface))?;
        terminal
            .func_wrap(function, |_: Store<'_>, (): ()| Ok((None::<Resource<TerminalOutput>>,)))?;
    }
    Ok(())
}
