//! Rig: the real host around one guest, with the fewest words.
//!
//! Invariant: all tests of a process share one engine, as all jobs of a broker do.

use std::sync::{Arc, OnceLock};

use millstream_guest::testing::{Input, encode};
use millstream_modules::{
    Artefacts, BatchInput, Engine, EngineConfig, FilterHandle, FilterSpec, GuestError, Limits,
    Module, Scope, Verdict,
};

use crate::Folder;

/// The engine of this process.
///
/// # Panics
/// If it does not start.
pub fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let artefacts: Arc<dyn Artefacts> = Arc::new(Folder::open(crate::cache_dir()));
        let config = EngineConfig { artefacts: Some(artefacts), ..EngineConfig::default() };
        Engine::new(config).expect("it starts")
    })
}

/// A guest, compiled and linked.
///
/// # Panics
/// If the host refuses it.
pub fn module(name: &str) -> Module {
    engine().load(&crate::guest(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Starts a filter.
///
/// # Errors
/// As [`Engine::start_filter`].
pub async fn start(
    name: &str,
    params: &[(&str, &str)],
    outputs: &[&str],
    limits: Limits,
) -> Result<FilterHandle, GuestError> {
    let params = params.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    let outputs = outputs.iter().map(|&output| output.to_owned()).collect();
    let spec = FilterSpec { params, outputs, scope: Arc::new(Scope::new(limits)), place: None };
    engine().start_filter(&module(name), spec).await
}

/// Starts the hostile guest.
///
/// # Panics
/// If it does not start.
pub async fn hostile(mode: &str, limits: Limits) -> FilterHandle {
    start("hostile", &[("do", mode)], &["out"], limits).await.expect("it starts")
}

/// A batch of partition 7 with these records.
///
/// # Panics
/// If there are more records than a batch holds.
pub fn batch(base_offset: u64, records: &[Input]) -> BatchInput {
    BatchInput {
        topic: "input".into(),
        partition: 7,
        base_offset,
        base_timestamp: 1_700_000_000_123,
        count: u32::try_from(records.len()).expect("few records"),
        records: encode(records).into(),
    }
}

/// A batch of `count` records with short values, of which every second starts with an odd byte.
pub fn numbers(base_offset: u64, count: u32) -> BatchInput {
    let records: Vec<Input> =
        (0..count).map(|n| millstream_guest::testing::value(format!("{}{n}", n % 2))).collect();
    batch(base_offset, &records)
}

/// The output, source, key and value of each record in a rewritten verdict.
///
/// # Panics
/// If the verdict is another.
pub fn rewritten(verdict: &Verdict) -> Vec<(u32, u32, String, String)> {
    let Verdict::Rewritten(rewritten) = verdict else { panic!("not rewritten: {verdict:?}") };
    let text =
        |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    rewritten
        .iter()
        .map(|record| (record.output, record.source, text(record.key), text(record.value)))
        .collect()
}
