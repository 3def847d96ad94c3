//! Transactions, as those see them who do not write in them.

use millstream_protocol::ids::TransactionalId;
use millstream_protocol::message::transaction::{
    AbortTransaction, DescribeTransaction, ListTransactions, TransactionDescription,
};

use super::Admin;
use crate::error::ClientError;

impl Admin {
    /// Every transactional id, and how its newest transaction stands.
    ///
    /// # Errors
    /// As [`Client::call`](crate::Client::call).
    pub async fn list_transactions(&self) -> Result<Vec<TransactionDescription>, ClientError> {
        self.client.call(ListTransactions { here: false }).await
    }

    /// One transactional id.
    ///
    /// # Errors
    /// There is no such id, or as [`Client::call`](crate::Client::call).
    pub async fn describe_transaction(
        &self,
        id: &str,
    ) -> Result<TransactionDescription, ClientError> {
        let id = TransactionalId::new(id)?;
        self.client.call_of_transaction(&id, DescribeTransaction { id: id.clone() }).await
    }

    /// Aborts an id's open transaction, and fences its producer.
    ///
    /// # Errors
    /// There is no open transaction, or as [`Client::call`](crate::Client::call).
    pub async fn abort_transaction(&self, id: &str) -> Result<(), ClientError> {
        let id = TransactionalId::new(id)?;
        self.client.call_of_transaction(&id, AbortTransaction { id: id.clone() }).await
    }
}
