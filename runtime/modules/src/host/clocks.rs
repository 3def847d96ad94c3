//! `wasi:clocks`: time as the records know it.
//!
//! Invariant: within one call time stands still, at the batch's base timestamp; waiting is over at once.

use wasmtime::{
    StoreContextMut,
    component::{ComponentType, Lift, Linker, Lower},
};

use super::{State, io::Pollable, state::handle, wasi};

const NANOS_PER_MILLI: u64 = 1_000_000;

/// `wasi:clocks/wall-clock` `datetime`.
#[derive(ComponentType, Lift, Lower)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

type Store<'a> = StoreContextMut<'a, State>;

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut monotonic = linker.instance(&wasi("clocks/monotonic-clock"))?;
    monotonic.func_wrap("now", |store: Store<'_>, (): ()| {
        Ok((store.data().clock_millis.saturating_mul(NANOS_PER_MILLI),))
    })?;
    monotonic.func_wrap("resolution", |_: Store<'_>, (): ()| Ok((NANOS_PER_MILLI,)))?;
    for subscribe in ["subscribe-instant", "subscribe-duration"] {
        monotonic
            .func_wrap(subscribe, |_: Store<'_>, (_,): (u64,)| Ok((handle::<Pollable>(0),)))?;
    }

    let mut wall = linker.instance(&wasi("clocks/wall-clock"))?;
    wall.func_wrap("now", |store: Store<'_>, (): ()| Ok((datetime(store.data().clock_millis),)))?;
    wall.func_wrap("resolution", |_: Store<'_>, (): ()| Ok((datetime(1),)))
}

fn datetime(millis: u64) -> Datetime {
    let nanoseconds = u32::try_from(millis % 1_000 * NANOS_PER_MILLI).expect("below a second");
    Datetime { seconds: millis / 1_000, nanoseconds }
}
