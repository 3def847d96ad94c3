//! How far a load is, as the cluster remembers it: a group's offset, and what is noted with it.
//!
//! Invariant: the offset is the number of rows before the position, skipped ones included.

use millstream_client::{Client, ClientError};
use millstream_protocol::error::ErrorCode;
use millstream_protocol::ids::{Offset, TopicPartition};
use millstream_protocol::limits::MAX_OFFSET_METADATA_BYTES;
use millstream_protocol::message::group::{Committed, OffsetCommit};
use serde::{Deserialize, Serialize};

use super::files::{FileSet, KnownFile};
use crate::error::EtlError;
use crate::spec::load::LoadSpec;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// Rows of all files before it.
    pub(super) rows: u64,
    /// How many of those were left out.
    pub(super) skipped: u64,
    /// Which file is next.
    pub(super) file: usize,
    /// Rows and bytes of that file before it.
    pub(super) row: u64,
    pub(super) byte: u64,
}

/// What is noted with the offset.
#[derive(Serialize, Deserialize)]
struct Note {
    /// The hash of what the files are known by.
    set: String,
    /// What they are known by; left out where there are too many of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    files: Option<Vec<KnownFile>>,
    file: usize,
    row: u64,
    byte: u64,
    skipped: u64,
}

/// What is committed with the rows before `position`.
pub(super) fn commit(place: TopicPartition, position: &Position, files: &FileSet) -> OffsetCommit {
    let Position { rows, skipped, file, row, byte } = *position;
    let note = |known| Note { set: files.hash(), files: known, file, row, byte, skipped };
    let write = |note: &Note| serde_json::to_string(note).expect("every key is a text");
    let mut metadata = write(&note(Some(files.files().to_vec())));
    if MAX_OFFSET_METADATA_BYTES < metadata.len() {
        metadata = write(&note(None));
    }
    let committed = Committed { offset: Offset(rows), epoch: None, metadata };
    OffsetCommit { partition: place, committed }
}

/// What is committed; the beginning, if nothing is. Refuses other files.
pub(super) async fn committed(
    client: &Client,
    spec: &LoadSpec,
    place: TopicPartition,
    files: &FileSet,
) -> Result<Position, EtlError> {
    let offsets = match client.admin().group_offsets(&spec.id()).await {
        Ok(offsets) => offsets,
        Err(ClientError::Refused(error)) if error.code == ErrorCode::UnknownGroup => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    match offsets.into_iter().find(|one| one.partition == place) {
        None => Ok(Position::default()),
        Some(found) => of(&spec.name, &found.committed, files),
    }
}

fn of(name: &str, committed: &Committed, files: &FileSet) -> Result<Position, EtlError> {
    let rows = committed.offset.get();
    let refuse = |problem| EtlError::OtherFiles { name: name.to_owned(), rows, problem };
    let note: Note = serde_json::from_str(&committed.metadata)
        .map_err(|_| refuse("its position was not written by a load".to_owned()))?;
    if note.set != files.hash() {
        let known = note.files.as_deref().and_then(|others| files.difference(others));
        return Err(refuse(
            known.unwrap_or_else(|| "their names, sizes or contents differ".to_owned()),
        ));
    }
    let Note { file, row, byte, skipped, .. } = note;
    Ok(Position { rows, skipped, file, row, byte })
}

#[cfg(test)]
mod tests {
    use millstream_protocol::ids::{PartitionIndex, TopicId};

    use super::*;

    fn place() -> TopicPartition {
        TopicPartition { topic: TopicId(7), partition: PartitionIndex(0) }
    }

    fn set(folder: &std::path::Path, files: &[(&str, &str)]) -> FileSet {
        let paths: Vec<_> = files
            .iter()
            .map(|(name, text)| {
                std::fs::write(folder.join(name), text).unwrap();
                folder.join(name)
            })
            .collect();
        FileSet::read(&paths).unwrap()
    }

    #[test]
    fn a_position_is_read_back_and_other_files_are_refused_by_what_differs() {
        let temp = tempfile::tempdir().unwrap();
        let files = set(temp.path(), &[("a", "1\n2\n"), ("b", "3\n")]);
        let position = Position { rows: 3, skipped: 1, file: 1, row: 1, byte: 2 };
        let committed = commit(place(), &position, &files).committed;
        assert_eq!(of("n", &committed, &files).unwrap(), position);
        for (others, said) in [
            (&[("a", "1\n2\n")][..], "there are 1 files, and were 2"),
            (&[("a", "1\n2\n"), ("b", "4\n")], "b begins differently"),
            (&[("a", "1\n2\n"), ("b", "3\n4\n")], "b has 4 bytes, and had 2"),
            (&[("b", "1\n2\n"), ("a", "3\n")], "b is where a was"),
        ] {
            let others = set(temp.path(), others);
            let error = of("n", &committed, &others).unwrap_err().to_string();
            assert!(error.contains("3 rows") && error.contains(said), "{error}");
        }
    }

    #[test]
    fn what_is_noted_of_many_files_is_no_longer_than_it_may_be() {
        let temp = tempfile::tempdir().unwrap();
        let names: Vec<_> = (0..200).map(|n| format!("file-{n}")).collect();
        let all: Vec<_> = names.iter().map(|name| (name.as_str(), "x\n")).collect();
        let files = set(temp.path(), &all);
        let committed = commit(place(), &Position::default(), &files).committed;
        assert!(committed.metadata.len() <= MAX_OFFSET_METADATA_BYTES);
        assert_eq!(of("n", &committed, &files).unwrap(), Position::default());
        let error = of("n", &committed, &set(temp.path(), &all[1..])).unwrap_err().to_string();
        assert!(error.contains("differ"), "{error}");
    }
}
