//! Drivers: one shell per machine. The core decides, a driver does.

pub(crate) mod group;
pub(crate) mod job;
pub(crate) mod log_writer;
pub(crate) mod mailbox;
pub(crate) mod metadata;
pub(crate) mod partition;
pub(crate) mod store;
pub(crate) mod transaction;
