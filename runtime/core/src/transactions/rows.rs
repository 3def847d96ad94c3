//! Transactions as rows: keyed records of `__transactions`, of which the last one with a key counts.
//!
//! A key is postcard of the transactional id, a value postcard of what is known of it; a record without a value is an
//! id that is forgotten.
//!
//! Invariant: an id is one row, so that no write can be torn.

use std::collections::BTreeMap;

use millstream_protocol::ids::TransactionalId;
use thiserror::Error;

use super::image::{Transaction, Transactions};

/// Rows by their keys; without a value where they are gone.
pub type Rows = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Why a stored row is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("row {key:02x?} of the transactions does not decode")]
pub struct RowError {
    /// Its key.
    pub key: Vec<u8>,
}

impl Transactions {
    /// The row of an id as it is now.
    pub(super) fn row(&self, id: &TransactionalId) -> (Vec<u8>, Option<Vec<u8>>) {
        let encode =
            |known: &Transaction| postcard::to_stdvec(known).expect("memory takes any row");
        let key = postcard::to_stdvec(id).expect("memory takes any row");
        (key, self.ids.get(id).map(encode))
    }

    /// Takes in a row as it was stored, in the order of the log.
    ///
    /// # Errors
    /// [`RowError`]: nothing was taken in.
    pub fn load(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), RowError> {
        let wrong = || RowError { key: key.to_vec() };
        let id = whole::<TransactionalId>(key).ok_or_else(wrong)?;
        match value {
            Some(value) => {
                drop(self.ids.insert(id, whole::<Transaction>(value).ok_or_else(wrong)?));
            }
            None => drop(self.ids.remove(&id)),
        }
        Ok(())
    }

    /// The transactions, when all rows are loaded.
    #[must_use]
    pub fn loaded(mut self) -> Self {
        self.index();
        self
    }
}

fn whole<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (value, rest) = postcard::take_from_bytes(bytes).ok()?;
    rest.is_empty().then_some(value)
}
