//! The metadata store: applied metadata rows and the offset they were applied up to, in redb.
//!
//! Invariant: rows and the applied offset change in one transaction, so that whatever a crash leaves is the state after
//! some whole number of commands; a row that comes back differs in no bit from what was stored.

mod backend;
mod error;
mod migrate;
mod schema;
mod store;

pub use error::MetadataError;
pub use schema::{SCHEMA_VERSION, Table};
pub use store::{Change, Identity, Loaded, Row, Store};
