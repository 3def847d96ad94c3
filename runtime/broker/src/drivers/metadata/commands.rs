//! Commands as batches of the metadata log, and what applying them yields.
//!
//! Invariant: what a leader writes for the replicas is no command and is skipped; anything else that does not
//! read as one is damage.

use bytes::Bytes;
use millstream_core::metadata::rows::{RowChange, Table as CoreTable};
use millstream_core::metadata::{Command, Image, Response, apply};
use millstream_protocol::batch::{
    Batch, BatchBuilder, BatchHeader, Compression, DecodeLimits, ProducerStamp, SealedBatches,
};
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{Offset, ProducerEpoch, ProducerId, Sequence};
use millstream_storage::metadata::{Change, Table};

use crate::clock::Clock;

/// A command by who proposed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signed {
    pub(super) producer: ProducerId,
    pub(super) epoch: ProducerEpoch,
    pub(super) sequence: Sequence,
}

/// What came of a command.
pub(super) type Outcome = Result<Response, WireError>;

/// What applying some commands came to.
#[derive(Default)]
pub(super) struct Effects {
    pub(super) changes: Vec<Change>,
    pub(super) outcomes: Vec<(Signed, Outcome)>,
}

/// Applies commands from `from` on.
pub(super) fn apply_batches(
    image: &mut Image,
    sealed: Bytes,
    from: Offset,
    effects: &mut Effects,
) -> Result<(), WireError> {
    each_command(sealed, |at, signed, command| {
        if at < from {
            return;
        }
        let outcome = match apply(image, at, &command) {
            Ok(applied) => {
                effects.changes.extend(applied.rows.into_iter().map(change));
                Ok(applied.response)
            }
            Err(rejection) => Err(WireError::from(&rejection)),
        };
        effects.outcomes.push((signed, outcome));
    })
}

/// Visits every command with its offset and who proposed it.
pub(super) fn each_command(
    sealed: Bytes,
    mut visit: impl FnMut(Offset, Signed, Command),
) -> Result<(), WireError> {
    for batch in SealedBatches::new(sealed) {
        let batch = batch.map_err(|e| corrupt(&e))?.batch;
        if !batch.header.attributes.is_control() {
            commands_in(&batch, &mut visit)?;
        }
    }
    Ok(())
}

fn commands_in(
    batch: &Batch,
    visit: &mut impl FnMut(Offset, Signed, Command),
) -> Result<(), WireError> {
    let BatchHeader { producer_id: producer, producer_epoch: epoch, base_sequence, .. } =
        batch.header;
    let records = batch.records(&DecodeLimits::default()).map_err(|e| corrupt(&e))?;
    for (n, record) in (0..).zip(&records) {
        let record = record.map_err(|e| corrupt(&e))?;
        let command = postcard::from_bytes(record.value.unwrap_or_default());
        let signed = Signed { producer, epoch, sequence: base_sequence.plus(n) };
        visit(records.offset_of(&record), signed, command.map_err(|e| corrupt(&e))?);
    }
    Ok(())
}

/// Takes a batch of commands from another broker, if that is what it is.
pub(super) fn received(bytes: Bytes) -> Result<Batch, WireError> {
    let invalid = |error: &dyn std::fmt::Display| {
        let text = format!("the batch holds no commands that this broker knows: {error}");
        WireError::new(ErrorCode::InvalidRequest, text)
    };
    let batch = Batch::parse(bytes).map_err(|e| invalid(&e))?;
    batch.verify_crc().map_err(|e| invalid(&e))?;
    if batch.header.attributes.is_control() || !batch.header.producer_id.is_some() {
        return Err(invalid(&"it is not what a broker proposes"));
    }
    commands_in(&batch, &mut |_, _, _| {}).map_err(|e| invalid(&e))?;
    Ok(batch)
}

fn corrupt(error: &dyn std::fmt::Display) -> WireError {
    WireError::new(ErrorCode::CorruptLog, error)
}

/// A command as the log has it.
pub(super) fn encode(command: &Command) -> Vec<u8> {
    postcard::to_stdvec(command).expect("memory takes a command")
}

/// Commands, encoded, as one batch.
pub(super) fn batch(commands: &[Vec<u8>], stamp: ProducerStamp) -> Result<Batch, WireError> {
    let failed = |error: &dyn std::fmt::Display| {
        WireError::new(ErrorCode::TooLarge, format!("the request makes no command: {error}"))
    };
    let len: usize = commands.iter().map(|command| command.len() + 64).sum();
    let mut builder = BatchBuilder::new(len + 128);
    for command in commands {
        builder.push(Clock::wall(), None, Some(command), &[]).map_err(|e| failed(&e))?;
    }
    let bytes = builder.finish(Compression::None, stamp).map_err(|e| failed(&e))?;
    Batch::parse(bytes).map_err(|e| failed(&e))
}

pub(super) fn change(row: RowChange) -> Change {
    let table = match row.table {
        CoreTable::Topics => Table::Topics,
        CoreTable::Configs => Table::Configs,
        CoreTable::Modules => Table::Modules,
        CoreTable::Jobs => Table::Jobs,
        CoreTable::Brokers => Table::Brokers,
        CoreTable::Allocations => Table::Allocations,
        CoreTable::Features => Table::Features,
    };
    Change { table, key: row.key, value: row.value }
}
