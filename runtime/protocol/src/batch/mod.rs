//! Kafka record batch, magic 2.
