//! Contract: what `wit/` says, as Rust.
//!
//! Invariant: generated, so that it cannot differ.

#[allow(unsafe_code, missing_docs, unreachable_pub, clippy::all, reason = "generated from wit/")]
#[allow(unused_qualifications, dead_code, reason = "generated from wit/")]
mod generated {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "filter",
        exports: { default: async },
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

pub(crate) use generated::{
    Filter, FilterPre, exports::millstream::module::transform, millstream::module::host,
};
