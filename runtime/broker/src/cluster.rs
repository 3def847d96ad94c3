//! What a broker does for the cluster, besides what it is asked to.
//!
//! - `members`: follows who is part of the cluster, and where.
//! - `arrival`: makes itself known, and is ready when it does what is decided.
//! - `reports`: tells the cluster who votes on the partitions that it leads.
//! - `fencing`: of the metadata's leader: no new partitions for those who are away.
//! - `preferred`: gives partitions back to the brokers that should lead them.
//!
//! Invariant: nothing here is needed for what is committed to stay so: each could stop, and the cluster would
//! only become lopsided.

pub(crate) mod arrival;
pub(crate) mod fencing;
pub(crate) mod members;
pub(crate) mod preferred;
pub(crate) mod reports;
