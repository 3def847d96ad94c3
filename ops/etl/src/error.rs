//! What can go wrong, said so that the reader knows where, and what to do about it.
//!
//! Invariant: an error about a record names its partition and offset, one about a row its file and number.

use std::io;
use std::path::{Path, PathBuf};

use millstream_client::{ClientError, CommitError, ConsumeError, ProduceError, TransactionError};
use thiserror::Error;

/// Why a run or a load ended early. What was finished before is kept: the same command again goes on there.
#[derive(Debug, Error)]
pub enum EtlError {
    /// The file that describes it cannot work.
    #[error("{}{problem}", path.display())]
    Spec {
        /// The file.
        path: PathBuf,
        /// `:LINE:COLUMN: ` where the place is known, and what is wrong.
        problem: String,
    },
    /// The system refused something.
    #[error("cannot {doing} {}: {source}", path.display())]
    File {
        /// What was to be done.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another run or load is at work there.
    #[error("another run is at work in {}: wait for its end, or choose another directory", .0.display())]
    Busy(PathBuf),
    /// The journal says what it never wrote.
    #[error(
        "{}, line {line}: {problem}; restore the journal, or move the directory away and run again",
        path.display()
    )]
    Journal {
        /// The journal.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// The output directory does not go with what is to be done.
    #[error("{}: {problem}", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The range cannot be read whole.
    #[error("partition {partition} of {topic}: {problem}")]
    Range {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A record does not have the columns.
    #[error("record {offset} of partition {partition}: {fault}")]
    Record {
        /// Its partition.
        partition: u32,
        /// Its offset.
        offset: u64,
        /// What is wrong.
        fault: Fault,
    },
    /// A row of a file does not have the columns.
    #[error("{}, row {row}: {fault}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// Which row of it, from 1, the header not counted.
        row: u64,
        /// What is wrong.
        fault: Fault,
    },
    /// A file is not what it should be.
    #[error("{}: {problem}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The files are not those of which a part was loaded.
    #[error(
        "load {name} has loaded {rows} rows of other files: {problem}; put them back, or choose another name"
    )]
    OtherFiles {
        /// The load.
        name: String,
        /// How many.
        rows: u64,
        /// What differs.
        problem: String,
    },
    /// Another load of the same name is at work.
    #[error(
        "another load named {0} has taken over, or a transaction was open for too long: run it again"
    )]
    Fenced(String),
    /// Records could not be had.
    #[error(transparent)]
    Consume(#[from] ConsumeError),
    /// A record could not be sent.
    #[error(transparent)]
    Produce(#[from] ProduceError),
    /// A transaction could not be ended.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
    /// The position could not be committed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The cluster could not be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A task ended that should not have.
    #[error("a task of the run ended unexpectedly: {0}")]
    Task(String),
}

impl EtlError {
    /// For `map_err`: what was being done, and with what.
    pub(crate) fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { doing, path, source }
    }
}

/// What is wrong with a record or row.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}{wrong}", column.as_ref().map(|name| format!("column {name}: ")).unwrap_or_default())]
pub struct Fault {
    /// In which column, if in one.
    pub column: Option<String>,
    /// What.
    pub wrong: String,
}

impl Fault {
    pub(crate) fn whole(wrong: impl Into<String>) -> Self {
        Self { column: None, wrong: wrong.into() }
    }

    pub(crate) fn at(column: &str, wrong: impl Into<String>) -> Self {
        Self { column: Some(column.to_owned()), wrong: wrong.into() }
    }
}
