//! Why a coordinator of transactions refuses something.
//!
//! Invariant: a refusal has changed nothing.

use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::TransactionalId;
use thiserror::Error;

/// Why a coordinator refuses something.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TransactionError {
    /// No such id.
    #[error("there is no transactional id {0}: `millstream txn list` shows those that are there")]
    Unknown(TransactionalId),
    /// Somebody else has the id now, or the transaction was open for too long and has been aborted.
    #[error(
        "transactional id {id} is at epoch {current}, and the request came from epoch {given}: another producer took \
         the id over, or the transaction was aborted because it was open for longer than its timeout of {timeout_ms} ms"
    )]
    Fenced {
        /// The id.
        id: TransactionalId,
        /// The newest epoch.
        current: i16,
        /// The epoch of who asked.
        given: i16,
        /// Of the id.
        timeout_ms: u32,
    },
    /// Nothing is open, or something else.
    #[error("transactional id {id} is {state}: {what}")]
    State {
        /// The id.
        id: TransactionalId,
        /// How it stands.
        state: &'static str,
        /// What was wrong with the request.
        what: &'static str,
    },
    /// The transaction before is still being ended.
    #[error("the transaction before of {0} is still being ended: ask again")]
    Ending(TransactionalId),
    /// No producer id is at hand.
    #[error("no producer id is at hand for {0}: ask again")]
    NoProducer(TransactionalId),
    /// Too much of something.
    #[error("{count} {what}: the most is {limit}{remedy}")]
    Full {
        /// Of what.
        what: &'static str,
        /// How many there would be.
        count: usize,
        /// How many there may be.
        limit: usize,
        /// What to do.
        remedy: &'static str,
    },
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
}

impl TransactionError {
    /// The code a client is told.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Unknown(_) => ErrorCode::UnknownTransaction,
            Self::Fenced { .. } => ErrorCode::ProducerFenced,
            Self::State { .. } => ErrorCode::InvalidTransaction,
            Self::Ending(_) => ErrorCode::ConcurrentTransactions,
            Self::NoProducer(_) => ErrorCode::Overloaded,
            Self::Full { .. } | Self::Invalid(_) => ErrorCode::InvalidRequest,
        }
    }
}

impl From<&TransactionError> for WireError {
    fn from(error: &TransactionError) -> Self {
        Self::new(error.code(), error)
    }
}
