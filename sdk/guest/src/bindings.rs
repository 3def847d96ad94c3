//! The contract of `wit/`, as Rust.

wit_bindgen::generate!({
    path: "../../wit",
    world: "filter",
    pub_export_macro: true,
    default_bindings_module: "millstream_guest::bindings",
});
