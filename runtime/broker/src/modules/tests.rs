//! The modules of a broker whose image has none: what comes of uploads is refused, or never decided.

use std::time::Duration;

use millstream_protocol::ids::{NodeId, ReplicaId};
use millstream_storage::disk::MemDisk;

use super::*;

/// Modules of a broker, on a disk of its own.
pub(crate) fn modules(disk: &MemDisk) -> Arc<Modules> {
    let disk = AnyDisk::Memory(disk.clone());
    let blobs = Blobs::open(disk.clone(), "modules".into()).expect("blobs");
    let cache = CacheDir::open(disk, "cache".as_ref()).expect("a cache");
    let me = ReplicaId { node: NodeId(1), incarnation: 1 };
    let peers = Peers::none(me);
    let mut modules = Modules::new(&config::Modules::default(), blobs, cache, peers, Arc::default);
    modules.config.compilers = 1;
    Arc::new(modules)
}

fn refusal(code: ErrorCode) -> WireError {
    WireError::new(code, "not today")
}

#[test]
fn bytes_that_are_being_uploaded_outlive_the_version_that_had_them() {
    let modules = modules(&MemDisk::new());
    let id = modules.blobs.put(b"a module").expect("stored");
    let held = [(); 2].map(|()| Arc::clone(&modules).hold(id));
    for held in held {
        modules.forget(&id.to_string());
        assert!(modules.blobs.contains(&id), "it is being uploaded");
        drop(held);
    }
    assert!(!modules.blobs.contains(&id), "nobody has it or wants it");
}

#[test]
fn a_refused_upload_leaves_nothing_and_an_undecided_one_its_bytes_for_the_next_start() {
    let disk = MemDisk::new();
    let at_once = modules(&disk);
    let id = at_once.blobs.put(b"a module").expect("stored");
    let info = || at_once.engine().expect("an engine").inspect(b"\0asm");
    assert!(info().is_err(), "these bytes are no module: only whether they stay matters here");
    for (code, stays) in [(ErrorCode::InvalidRequest, false), (ErrorCode::StorageStopped, true)] {
        at_once.blobs.put(b"a module").expect("stored");
        let mut held = Arc::clone(&at_once).hold(id);
        held.undecided = is_undecided(&refusal(code));
        drop(held);
        assert_eq!(at_once.blobs.contains(&id), stays, "{code:?}");
    }
    let cache = CacheDir::open(AnyDisk::Memory(disk.clone()), "cache".as_ref());
    let compiled = Compiled(cache.expect("a cache"));
    compiled.write(&format!("{id}-0.cwasm"), b"machine code").expect("written");
    compiled.write("of somebody else", b"anything").expect("written");
    let next = modules(&disk);
    next.sweep().expect("swept");
    assert!(!next.blobs.contains(&id), "no version names it");
    assert_eq!(compiled.names().expect("listed"), ["of somebody else"]);
}

#[test]
fn an_upload_that_is_not_what_was_announced_waits_for_no_compiler_and_stays_nowhere() {
    runtime(1).block_on(async {
        let modules = modules(&MemDisk::new());
        let _place = modules.engine().expect("an engine").place().await.expect("the only one");
        let bytes = Bytes::from_static(b"a module");
        let error = modules.upload(bytes, &"0".repeat(64)).await.expect_err("another hash");
        assert_eq!(error.code, ErrorCode::InvalidRequest, "{}", error.message);
        assert!(modules.blobs.list().expect("listed").is_empty());
    });
}

#[test]
fn uploads_that_wait_for_a_compiler_leave_the_threads_to_others() {
    runtime(2).block_on(async {
        let modules = modules(&MemDisk::new());
        let place = modules.engine().expect("an engine").place().await.expect("the only one");
        let uploads: Vec<_> = (0..8)
            .map(|n| {
                let (modules, bytes) = (Arc::clone(&modules), Bytes::from(vec![n; 100]));
                let sha256 = BlobId::of(&bytes).to_string();
                tokio::spawn(async move { modules.upload(bytes, &sha256).await })
            })
            .collect();
        // In the order in which they came: each is at a compiler's door before this is done.
        for _ in 0..8 {
            let done = tokio::time::timeout(Duration::from_secs(20), blocking(|| Ok(())));
            done.await.expect("a thread is free").expect("it has run");
        }
        assert!(uploads.iter().all(|upload| !upload.is_finished()), "they wait for the compiler");
        drop(place);
        for upload in uploads {
            let error = upload.await.expect("it ends").expect_err("zeroes are no module");
            assert_eq!(error.code, ErrorCode::InvalidModule, "{}", error.message);
        }
        assert!(modules.blobs.list().expect("listed").is_empty());
    });
}

fn runtime(threads: usize) -> tokio::runtime::Runtime {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().max_blocking_threads(threads).build().expect("a runtime")
}
