//! The store over disks that crash, fail and rot.

use super::*;
use crate::disk::{Fault, MemDisk, Operation, RealDisk};

const FRESH: Identity = Identity { cluster: 7, incarnation: 8 };

fn set(table: Table, key: &str, value: &str) -> Change {
    Change { table, key: key.into(), value: Some(value.into()) }
}

fn memory() -> (MemDisk, PathBuf) {
    let disk = MemDisk::new();
    disk.create_dir_all(Path::new("/data")).unwrap();
    (disk, PathBuf::from("/data/metadata.redb"))
}

fn value(store: &Store, table: Table, key: &str) -> Option<String> {
    store.row(table, key.as_bytes()).unwrap().map(|value| String::from_utf8(value).unwrap())
}

#[test]
fn rows_identity_and_applied_offset_come_back_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metadata.redb");
    let mut store = Store::open(&RealDisk, &path, FRESH).unwrap();
    store.commit(Offset(3), &[set(Table::Topics, "a", "1"), set(Table::Jobs, "a", "2")]).unwrap();
    let remove = Change { table: Table::Topics, key: b"a".to_vec(), value: None };
    store.commit(Offset(4), &[remove, set(Table::Topics, "b", "3")]).unwrap();
    store.write_rows(&[set(Table::Positions, "p", "9")]).unwrap();
    drop(store);
    let store = Store::open(&RealDisk, &path, Identity { cluster: 0, incarnation: 0 }).unwrap();
    assert_eq!(store.identity(), FRESH);
    assert_eq!(store.applied(), Offset(4));
    assert_eq!(store.rows(Table::Topics).unwrap(), [(b"b".to_vec(), b"3".to_vec())]);
    assert_eq!(value(&store, Table::Jobs, "a").as_deref(), Some("2"));
    assert_eq!(value(&store, Table::Positions, "p").as_deref(), Some("9"));
    let loaded = store.load().unwrap();
    assert_eq!(loaded.applied, Offset(4));
    assert_eq!(loaded.tables.iter().map(|(_, rows)| rows.len()).sum::<usize>(), 3);
}

#[test]
fn after_any_crash_the_store_is_at_a_commit_not_before_the_last_acknowledged_one() {
    for seed in 0..150 {
        let (disk, path) = memory();
        let mut acknowledged = 0;
        // Which of its writes and syncs a commit dies at moves with the seed.
        let mut store = Store::open(&disk, &path, FRESH).unwrap();
        let operation = if seed % 2 == 0 { Operation::Sync } else { Operation::Write };
        disk.inject(Fault::eio(operation).after(u32::try_from(seed).unwrap() / 3).times(1_000));
        for n in 1..40u64 {
            let changes =
                [set(Table::Topics, "n", &n.to_string()), set(Table::Jobs, "n", &n.to_string())];
            if store.commit(Offset(n), &changes).is_err() {
                break;
            }
            acknowledged = n;
        }
        disk.crash(seed);
        drop(store);
        let store = Store::open(&disk, &path, FRESH).unwrap();
        let applied = store.applied().get();
        assert!(acknowledged <= applied, "seed {seed}: {applied} after {acknowledged}");
        assert!(applied <= acknowledged + 1);
        let expected = (applied > 0).then(|| applied.to_string());
        assert_eq!(value(&store, Table::Topics, "n"), expected, "seed {seed}");
        assert_eq!(value(&store, Table::Jobs, "n"), expected, "seed {seed}");
    }
}

#[test]
fn a_first_start_cut_short_starts_afresh() {
    for seed in 0..30 {
        let (disk, path) = memory();
        disk.inject(Fault::eio(Operation::Sync).after(u32::try_from(seed).unwrap() % 4).times(100));
        drop(Store::open(&disk, &path, FRESH));
        disk.crash(seed);
        let store = Store::open(&disk, &path, FRESH).unwrap();
        assert_eq!(store.applied(), Offset::ZERO);
    }
}

#[test]
fn an_emptied_file_is_not_taken_for_a_new_store() {
    let (disk, path) = memory();
    drop(Store::open(&disk, &path, FRESH).unwrap());
    disk.open(&path).unwrap().truncate(0).unwrap();
    let error = Store::open(&disk, &path, FRESH).unwrap_err();
    assert!(error.to_string().contains("empty"), "{error}");
}

#[test]
fn a_store_of_a_newer_schema_is_refused() {
    let (disk, path) = memory();
    let mut store = Store::open(&disk, &path, FRESH).unwrap();
    store.write("write to", |transaction| migrate::write_version(transaction, 2)).unwrap();
    drop(store);
    let error = Store::open(&disk, &path, FRESH).unwrap_err();
    assert!(matches!(error, MetadataError::Newer { found: 2, supported: 1, .. }), "{error}");
}

#[test]
fn a_damaged_value_is_found_when_read() {
    let (disk, path) = memory();
    let mut store = Store::open(&disk, &path, FRESH).unwrap();
    let text = "a value that is easy to find in the file";
    store.commit(Offset(1), &[set(Table::Topics, "a", text)]).unwrap();
    drop(store);
    let bytes = disk.bytes(&path).unwrap();
    let needle = text.as_bytes();
    for position in 0..bytes.len() - needle.len() {
        if &bytes[position..position + needle.len()] == needle {
            disk.flip(&path, position as u64 + 5, 0x20).unwrap();
        }
    }
    let found = match Store::open(&disk, &path, FRESH) {
        Ok(store) => store.load().unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(found, MetadataError::Corrupt { .. }), "{found}");
}

#[test]
fn a_full_disk_fails_a_commit_and_room_lets_the_next_one_through() {
    let (disk, path) = memory();
    let mut store = Store::open(&disk, &path, FRESH).unwrap();
    store.commit(Offset(1), &[set(Table::Topics, "a", "1")]).unwrap();
    for n in 2..6_u64 {
        disk.inject(Fault::enospc(Operation::Write));
        let refused = store.commit(Offset(n), &[set(Table::Topics, "a", "lost")]).unwrap_err();
        assert!(refused.is_disk_full(), "{refused}");
        store.commit(Offset(n), &[set(Table::Topics, "a", &n.to_string())]).unwrap();
        assert_eq!(value(&store, Table::Topics, "a"), Some(n.to_string()));
    }
    disk.crash(9);
    drop(store);
    let store = Store::open(&disk, &path, FRESH).unwrap();
    assert_eq!((store.applied(), value(&store, Table::Topics, "a")), (Offset(5), Some("5".into())));
}

#[test]
fn an_error_that_is_no_full_disk_is_never_retried_into_a_commit() {
    let (disk, path) = memory();
    let mut store = Store::open(&disk, &path, FRESH).unwrap();
    disk.inject(Fault::eio(Operation::Sync));
    assert!(!store.commit(Offset(1), &[set(Table::Topics, "a", "1")]).unwrap_err().is_disk_full());
    assert!(store.commit(Offset(1), &[set(Table::Topics, "a", "1")]).is_err());
}
