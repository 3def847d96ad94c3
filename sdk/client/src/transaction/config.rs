//! What a transactional producer can be told.

use std::time::Duration;

use crate::producer::ProducerConfig;

/// How a transactional producer works.
#[derive(Clone, Debug)]
pub struct TransactionConfig {
    /// The name under which its transactions are known from one of its lives to the next. No two producers that live at
    /// the same time may have the same: the later fences the earlier.
    pub id: String,
    /// A transaction that is open for so long is aborted, and its producer fenced: so that readers of what is committed
    /// do not wait for the dead. At most a day.
    pub timeout: Duration,
    /// How records are batched. `acks` is all, and `idempotent` is on, whatever it says.
    pub producer: ProducerConfig,
}

impl TransactionConfig {
    /// The defaults, under an id.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        let producer = ProducerConfig::default();
        Self { id: id.into(), timeout: Duration::from_secs(60), producer }
    }
}
