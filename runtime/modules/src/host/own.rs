//! `millstream:module/host`: log lines and counters.
//!
//! Invariant: a guest's text is cut before it is copied.

use wasmtime::{
    StoreContextMut,
    component::{Linker, WasmStr},
};

use super::State;
use crate::{Level, filter::contract::host, log_ring::cut};

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut own = linker.instance("millstream:module/host@0.1.0")?;
    own.func_wrap(
        "log",
        |store: StoreContextMut<'_, State>, (level, text): (host::Level, WasmStr)| {
            let text = text.to_str(&store)?;
            store.data().log(level.into(), cut(&text));
            Ok(())
        },
    )?;
    own.func_wrap("count", |store: StoreContextMut<'_, State>, (name, by): (WasmStr, u64)| {
        let name = name.to_str(&store)?;
        store.data().scope.counters().add_custom(&name, by);
        Ok(())
    })
}

impl From<host::Level> for Level {
    fn from(level: host::Level) -> Self {
        match level {
            host::Level::Trace => Self::Trace,
            host::Level::Debug => Self::Debug,
            host::Level::Info => Self::Info,
            host::Level::Warn => Self::Warn,
            host::Level::Error => Self::Error,
        }
    }
}
