//! What is refused when it is uploaded, and what is kept of what is not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_modules::{Artefacts, Engine, EngineConfig, ModuleKind, UploadError};
use millstream_tests_modules::{Folder, guest, rig::engine};

#[test]
fn a_filter_is_known_by_what_it_exports() {
    let info = engine().inspect(&guest("keep-late")).unwrap();
    assert_eq!(info.kind, ModuleKind::Filter);
    assert_eq!(info.exports, ["millstream:module/transform@0.1.0"]);
    assert!(info.imports.iter().all(|name| name.starts_with("wasi:")), "{:?}", info.imports);
    assert_eq!(info.sha256_hex().len(), 64);
}

#[test]
fn a_module_that_wants_files_or_sockets_is_refused_by_the_name_of_the_import() {
    for (name, import) in
        [("wants-files", "wasi:filesystem/types@"), ("wants-sockets", "wasi:sockets/tcp@")]
    {
        let error = engine().load(&guest(name)).err().expect(name);
        let UploadError::UnknownImports { imports } = &error else { panic!("{error}") };
        assert!(imports.iter().any(|name| name.starts_with(import)), "{error}");
        assert!(imports.iter().all(|name| name.contains("modules have no ")), "{error}");
    }
}

#[test]
fn cut_and_flipped_components_are_refused_and_never_panic() {
    let whole = guest("keep-half");
    for step in 0..40 {
        let cut = &whole[..whole.len() * step / 40];
        assert!(engine().inspect(cut).is_err(), "cut at {}", cut.len());
        let mut flipped = whole.clone();
        flipped[whole.len() * step / 40] ^= 0xff;
        // Some bytes are names or data, which may be anything.
        let _ = engine().inspect(&flipped);
    }
}

#[test]
fn a_module_is_compiled_once_and_a_damaged_artefact_is_compiled_again() {
    let directory = tempfile::tempdir().unwrap();
    let folder: Arc<dyn Artefacts> = Arc::new(Folder::open(directory.path().join("compiled")));
    let config = EngineConfig { artefacts: Some(folder), ..EngineConfig::default() };
    let engine = Engine::new(config).unwrap();
    let bytes = guest("keep-half");
    let module = engine.load(&bytes).unwrap();
    let artefacts = || {
        let entries = std::fs::read_dir(directory.path().join("compiled")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    };
    let [path] = &artefacts()[..] else { panic!("{:?}", artefacts()) };
    let good = std::fs::read(path).unwrap();
    for damage in [0, 20, 100, good.len() - 1] {
        let mut bad = good.clone();
        bad[damage] ^= 1;
        std::fs::write(path, &bad).unwrap();
        engine.load(&bytes).unwrap();
        assert_eq!(std::fs::read(path).unwrap(), good, "damaged at {damage}");
    }
    std::fs::write(path, b"").unwrap();
    engine.load(&bytes).unwrap();
    assert_eq!(artefacts().len(), 1);
    engine.forget(&module.info().sha256);
    assert!(artefacts().is_empty());
}

#[tokio::test]
async fn an_upload_that_compiles_too_long_is_refused_and_keeps_its_place_until_it_is_done() {
    let short = Duration::from_millis(1);
    let config = EngineConfig { compilers: 1, compile_time: short, ..EngineConfig::default() };
    let engine = Engine::new(config).unwrap();
    let bytes = guest("csv-to-json").into();
    let refused = async || match engine.place().await {
        Ok(place) => engine.admit(&bytes, place).err().expect("nothing compiles in a millisecond"),
        Err(busy) => busy,
    };
    assert_eq!(refused().await, UploadError::TooSlow { limit: short });
    // The compiler goes on, on its own: the next has no place and says so, and waits no longer.
    assert_eq!(refused().await, UploadError::Busy { limit: short });
    // What was admitted before does not depend on places.
    engine.load(&guest("keep-half")).unwrap();
    // And the place comes back.
    let begun = Instant::now();
    while refused().await == (UploadError::Busy { limit: short }) {
        assert!(begun.elapsed() < Duration::from_secs(60), "the place is still taken");
    }
}
