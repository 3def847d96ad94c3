//! The native async client of Millstream: producer, transactions, consumer, group consumer, admin.
//!
//! ```text
//!   Client ──┬─ admin()     one stream a call, to any broker      ┐
//!            ├─ producer()  one stream a partition, to its leader, ├─▶ one QUIC connection a broker,
//!            │              batches pipelined                      │   dialled again when it is lost
//!            └─ consumer()  one stream a partition, to its leader, ┘
//!                  ▲        filled up to its credit
//!            group_consumer()  what to read as the group's coordinator says, on a thread and connections of its own
//! ```
//!
//! A leader may move or die, and any broker may be away: streams find the new leader by themselves,
//! calls another broker.
//!
//! Reading order: [`config`], [`client`], `links`, `brokers`, `calls`, `destination`, `routes`,
//! `search`, `finder`, [`admin`], [`producer`], [`consumer`], [`group`], [`transaction`], [`error`], `race`, `backoff`.
//!
//! It never skips the verification of a broker's certificate, never buffers without a bound, never
//! sends a record again in a way that could write it twice (unless `idempotent` is off), never moves
//! a consumer's position by itself (unless told to), never reads on over records that were replaced
//! without saying so, and leaves no task behind.
//!
//! ```
//! use millstream_client::{Client, ClientConfig, ConsumerConfig, ProducerConfig, ProducerRecord, StartAt};
//!
//! # millstream_tests_cluster::example::run(async {
//! # use millstream_tests_cluster::example::ClientConfig;
//! let client = Client::connect(ClientConfig::new(["127.0.0.1:9440"]).ca_file("ca.pem")).await?;
//! client.admin().create_topic("greetings", 1).await?;
//!
//! let producer = client.producer(ProducerConfig::default())?;
//! let delivery = producer.send(ProducerRecord::new("greetings").value(b"hello")).await?;
//! println!("written at {:?}", delivery.await?);
//!
//! let consumer = client.consumer(ConsumerConfig::default())?;
//! consumer.assign_all("greetings", StartAt::Earliest).await?;
//! for record in &consumer.next().await? {
//!     println!("{:?}", record?.value);
//! }
//! # Ok(()) });
//! ```

#![forbid(unsafe_code)]

mod backoff;
mod brokers;
mod calls;
mod destination;
mod finder;
mod links;
mod race;
mod routes;
mod search;

pub mod admin;
pub mod client;
pub mod config;
pub mod consumer;
pub mod error;
pub mod group;
pub mod producer;
pub mod transaction;

pub use admin::{Admin, TopicChange};
pub use backoff::BackoffConfig;
pub use client::Client;
pub use config::{Ca, ClientConfig};
pub use consumer::{Consumer, ConsumerConfig, Fetched, OutOfRange, Record, StartAt};
pub use error::{
    ClientError, CommitError, ConsumeError, ProduceError, TopicGone, TransactionError,
};
pub use group::{CommitMode, GroupConfig, GroupConsumer, RebalanceListener, Turn};
pub use producer::{
    Delivery, Partitioner, Producer, ProducerConfig, ProducerRecord, RecordMetadata,
};

pub use transaction::{Transaction, TransactionConfig, TransactionalProducer};

/// What appears in this crate's signatures: ids, batches, messages, errors.
pub use millstream_protocol as protocol;
pub use millstream_protocol::batch::Compression;
pub use millstream_protocol::message::produce::Acks;
pub use millstream_protocol::message::transaction::Isolation;
pub use millstream_transport::TransportSettings;
