//! What the disk in memory keeps, loses and refuses.

use super::*;

fn write(file: &MemFile, bytes: &[u8], position: u64) {
    file.write_vectored_at(&[IoSlice::new(bytes)], position).unwrap();
}

fn disk_with(path: &str) -> (MemDisk, MemFile) {
    let disk = MemDisk::new();
    disk.create_dir_all(Path::new("/d")).unwrap();
    let file = disk.create(Path::new(path)).unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    (disk, file)
}

#[test]
fn what_was_synced_survives_every_crash() {
    for seed in 0..200 {
        let (disk, file) = disk_with("/d/f");
        write(&file, b"synced", 0);
        file.sync_data().unwrap();
        write(&file, b" and not", 6);
        disk.crash(seed);
        assert!(file.len().is_err());
        let bytes = disk.bytes(Path::new("/d/f")).unwrap();
        assert_eq!(&bytes[..6], b"synced");
    }
}

#[test]
fn unsynced_bytes_are_sometimes_kept_sometimes_lost_and_sometimes_torn() {
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let (disk, file) = disk_with("/d/f");
        write(&file, b"0123456789", 0);
        disk.crash(seed);
        lengths.insert(disk.bytes(Path::new("/d/f")).unwrap().len());
    }
    assert!(lengths.contains(&0));
    assert!(lengths.contains(&10));
    assert!(lengths.len() > 3);
}

#[test]
fn an_unsynced_name_may_be_lost_and_a_rename_is_never_half_done() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let (disk, file) = disk_with("/d/a");
        write(&file, b"x", 0);
        file.sync_data().unwrap();
        disk.rename(Path::new("/d/a"), Path::new("/d/b")).unwrap();
        disk.crash(seed);
        seen.insert(disk.list(Path::new("/d")).unwrap());
    }
    let expected = [vec!["a".to_owned()], vec!["b".to_owned()]];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn bytes_of_a_failed_sync_can_be_read_and_are_not_saved_by_a_later_one() {
    let (disk, file) = disk_with("/d/f");
    write(&file, b"abc", 0);
    disk.inject(Fault::eio(Operation::Sync));
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    assert_eq!(disk.bytes(Path::new("/d/f")).unwrap(), b"abc");
    disk.crash(1);
    assert_eq!(disk.bytes(Path::new("/d/f")).unwrap(), b"");
}

#[test]
fn a_full_disk_takes_what_fits_and_then_refuses() {
    let (disk, file) = disk_with("/d/f");
    disk.set_capacity(Some(4));
    assert_eq!(file.write_vectored_at(&[IoSlice::new(b"abcdef")], 0).unwrap(), 4);
    let error = file.write_vectored_at(&[IoSlice::new(b"ef")], 4).unwrap_err();
    assert!(super::super::is_disk_full(&error));
    disk.set_capacity(None);
    write(&file, b"ef", 4);
    assert_eq!(disk.bytes(Path::new("/d/f")).unwrap(), b"abcdef");
}

#[test]
fn a_fault_fires_at_its_count_and_only_on_its_file() {
    let (disk, file) = disk_with("/d/f.log");
    disk.inject(Fault::eio(Operation::Write).after(1).on(".log"));
    let other = disk.create(Path::new("/d/g.index")).unwrap();
    write(&other, b"x", 0);
    write(&file, b"x", 0);
    assert!(file.write_vectored_at(&[IoSlice::new(b"y")], 1).is_err());
    write(&file, b"y", 1);
}

#[test]
fn the_same_seed_loses_the_same_bytes() {
    let run = |seed| {
        let (disk, file) = disk_with("/d/f");
        for i in 0..20u8 {
            write(&file, &[i; 100], u64::from(i) * 100);
        }
        disk.crash(seed);
        disk.bytes(Path::new("/d/f")).unwrap()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}
