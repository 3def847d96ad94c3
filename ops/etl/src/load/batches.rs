//! What goes into one transaction after the other, read by a thread of its own.
//!
//! Invariant: two batches at most wait; one that is handed out has everything up to its position.

use millstream_protocol::limits::MAX_RECORD_BYTES;
use tokio::sync::mpsc;

use super::position::Position;
use crate::error::{EtlError, Fault};
use crate::source::{Place, Ready, Source};
use crate::spec::columns::OnError;
use crate::spec::load::LoadSpec;

/// Batches that wait.
const WAITING: usize = 2;

/// The records of one transaction.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) rows: Vec<Ready>,
    /// Where the next one begins.
    pub(super) after: Position,
}

/// See the module. Dropping it ends the thread.
pub(super) struct Batches(mpsc::Receiver<Result<Batch, EtlError>>);

impl Batches {
    pub(super) fn begin(spec: &LoadSpec, from: Position) -> Self {
        let (to, batches) = mpsc::channel(WAITING);
        let spec = spec.clone();
        drop(tokio::task::spawn_blocking(move || {
            let mut reader =
                Reader { spec: &spec, position: from, batch: Vec::new(), bytes: 0, from };
            let read = reader.all(&|batch| to.blocking_send(Ok(batch)).is_ok());
            if let Err(error) = read {
                // Whoever does not wait for it any more does not want to know.
                let _ = to.blocking_send(Err(error));
            }
        }));
        Self(batches)
    }

    pub(super) async fn next(&mut self) -> Result<Option<Batch>, EtlError> {
        self.0.recv().await.transpose()
    }
}

struct Reader<'a> {
    spec: &'a LoadSpec,
    position: Position,
    batch: Vec<Ready>,
    bytes: u64,
    /// Where the batch began.
    from: Position,
}

impl Reader<'_> {
    /// Reads everything; `send` says whether anybody wants more.
    fn all(&mut self, send: &impl Fn(Batch) -> bool) -> Result<(), EtlError> {
        while let Some(path) = self.spec.files.get(self.position.file) {
            let Position { row, byte, .. } = self.position;
            let mut source = Source::open(path, self.spec, Place { row, byte })?;
            while let Some(row) = source.next()? {
                let Place { row: at, byte } = source.place();
                let fits = row.and_then(fitting);
                match fits {
                    Ok(ready) => {
                        self.bytes += size(&ready);
                        self.batch.push(ready);
                    }
                    Err(fault) => self.fault(at, fault)?,
                }
                self.position.rows += 1;
                (self.position.row, self.position.byte) = (at, byte);
                if self.is_full() && !self.send(send) {
                    return Ok(());
                }
            }
            let Position { rows, skipped, file, .. } = self.position;
            self.position = Position { rows, skipped, file: file + 1, row: 0, byte: 0 };
        }
        if self.from.rows < self.position.rows {
            self.send(send);
        }
        Ok(())
    }

    fn fault(&mut self, row: u64, fault: Fault) -> Result<(), EtlError> {
        match self.spec.input.on_error {
            OnError::Skip => {
                self.position.skipped += 1;
                Ok(())
            }
            OnError::Fail => {
                let path = self.spec.files[self.position.file].clone();
                Err(EtlError::Row { path, row, fault })
            }
        }
    }

    fn is_full(&self) -> bool {
        let most = &self.spec.transaction;
        most.rows <= self.position.rows - self.from.rows || most.bytes.0 <= self.bytes
    }

    fn send(&mut self, send: &impl Fn(Batch) -> bool) -> bool {
        let rows = std::mem::take(&mut self.batch);
        (self.from, self.bytes) = (self.position, 0);
        send(Batch { rows, after: self.position })
    }
}

fn size(row: &Ready) -> u64 {
    (row.value.len() + row.key.as_ref().map_or(0, Vec::len)) as u64
}

/// Refuses what no topic takes, while it is known which row it is.
fn fitting(row: Ready) -> Result<Ready, Fault> {
    /// What else a record has.
    const REST: u64 = 64;
    match size(&row) + REST {
        bytes if bytes <= MAX_RECORD_BYTES as u64 => Ok(row),
        bytes => {
            Err(Fault::whole(format!("{bytes} bytes: a record has {MAX_RECORD_BYTES} at most")))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn batches(spec: &LoadSpec, from: Position) -> Result<Vec<Batch>, EtlError> {
        let all = RefCell::new(Vec::new());
        let mut reader = Reader { spec, position: from, batch: Vec::new(), bytes: 0, from };
        reader.all(&|batch| {
            all.borrow_mut().push(batch);
            true
        })?;
        Ok(all.into_inner())
    }

    fn values(batches: &[Batch]) -> Vec<String> {
        let rows = batches.iter().flat_map(|batch| &batch.rows);
        rows.map(|row| String::from_utf8(row.value.clone()).unwrap()).collect()
    }

    #[test]
    fn from_the_end_of_every_batch_the_rest_is_the_same_over_several_files() {
        let temp = tempfile::tempdir().unwrap();
        let files = ["a", "b", "c"].map(|name| temp.path().join(name));
        std::fs::write(&files[0], "h\n1\n2\n3\n").unwrap();
        std::fs::write(&files[1], "h\n").unwrap();
        std::fs::write(&files[2], "h\n4\nwrong,row\n5\nwrong,row").unwrap();
        let text = format!(
            "name = 'n'\ntopic = 't'\nfiles = {files:?}\ntransaction.rows = 2\n\
             input = {{ format = 'csv', on_error = 'skip' }}\nrecord.value = 'line'"
        );
        let spec = LoadSpec::parse(&text).unwrap();
        let all = batches(&spec, Position::default()).unwrap();
        assert_eq!(values(&all), ["1", "2", "3", "4", "5"]);
        let last = all.last().unwrap().after;
        assert_eq!((last.rows, last.skipped, last.file), (7, 2, 3));
        for (n, batch) in all.iter().enumerate() {
            let rest = batches(&spec, batch.after).unwrap();
            assert_eq!(values(&rest), values(&all[n + 1..]), "behind batch {n}");
            assert_eq!(rest.last().map_or(batch.after, |batch| batch.after), last);
        }
        let strict = LoadSpec::parse(&text.replace("skip", "fail")).unwrap();
        let error = batches(&strict, Position::default()).unwrap_err().to_string();
        assert!(error.ends_with("c, row 2: 2 fields, and 1 columns"), "{error}");
    }
}
