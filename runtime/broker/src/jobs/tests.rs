//! Jobs of which no input is open: what is kept of them, and what becomes of it.

use std::pin::pin;

use millstream_protocol::ids::{JobName, ModuleRef, PartitionIndex};
use millstream_protocol::message::job::ErrorPolicy;
use millstream_storage::disk::{Disk as _, MemDisk};
use millstream_storage::metadata::{Identity, Store};
use tokio::sync::oneshot;

use super::*;
use crate::drivers::store;
use crate::modules;

const RARELY: Duration = Duration::from_hours(1);

/// No jobs yet, and the token that stops them.
fn no_jobs() -> (Jobs, CancellationToken) {
    let (disk, data) = (MemDisk::new(), std::path::Path::new("/data"));
    disk.create_dir_all(data).expect("a directory");
    let fresh = Identity { cluster: 1, incarnation: 1 };
    let store = Store::open(&disk, &data.join("metadata.redb"), fresh).expect("a store");
    let (store, _) = store::start(store).expect("a thread");
    let stop = CancellationToken::new();
    let jobs = Jobs::new(
        (Arc::default(), modules::tests::modules(&disk)),
        Metadata::idle(),
        Arc::new(Cores::start(1).expect("a thread")),
        store,
        Clock::start(),
        stop.clone(),
        BTreeMap::new(),
    );
    (jobs, stop)
}

fn job() -> Job {
    let spec = JobSpec {
        name: JobName::new("job").expect("a name"),
        module: "module@1".parse::<ModuleRef>().expect("a version"),
        inputs: vec![TopicName::new("in").expect("a name")],
        outputs: vec![TopicName::new("out").expect("a name")],
        params: BTreeMap::new(),
        limits: JobLimits::default(),
        on_error: ErrorPolicy::default(),
        start: StartPosition::Earliest,
    };
    Job { spec, state: JobState::Running, generation: 0 }
}

#[tokio::test]
async fn a_job_whose_tasks_still_end_as_the_broker_stops_is_found_by_who_has_it_rest() {
    let (jobs, stop) = no_jobs();
    let id = JobId(7);
    jobs.one(id, &job());
    let (end, ends) = oneshot::channel::<()>();
    let slow = jobs.running.lock()[&id].tasks.track_future(ends);
    let slow = tokio::spawn(slow);
    stop.cancel();
    let mut saving = pin!(jobs.save_positions(RARELY));
    assert!(futures::poll!(saving.as_mut()).is_pending(), "a task has not ended");

    let held = || jobs.running.lock().get(&id).map(|runtime| runtime.wanted.borrow().held);
    let rest = jobs.rest(&[id]).await.expect("nothing is in the way");
    assert_eq!(held(), Some(1));
    drop(rest);
    assert_eq!(held(), Some(0));
    end.send(()).expect("it is waited for");
    saving.await;
    slow.await.expect("no panic").expect("it was told");
    assert_eq!(held(), Some(0), "it is found as long as anybody asks");
}

#[tokio::test]
async fn of_a_job_that_is_gone_nothing_is_kept_whoever_still_asks_for_it() {
    let (jobs, _) = no_jobs();
    let id = JobId(7);
    assert!(jobs.scope(id).is_none(), "it does not run yet");
    jobs.one(id, &job());
    let scope = Arc::downgrade(&jobs.scope(id).expect("it runs"));
    jobs.reconcile_before(&Image::default()).await;
    assert!(jobs.scope(id).is_none(), "it is gone");
    assert_eq!(scope.strong_count(), 0);
}

#[test]
fn the_positions_of_jobs_that_are_gone_are_removed_and_no_other() {
    let key = |job, partition| {
        let topic = TopicName::new("in").expect("a name");
        let partition = PartitionIndex(partition);
        Place { job: JobId(job), input: 1, topic, partition }.key()
    };
    let places = [(7, 0), (7, 3), (8, 0), (1 << 24, 0)];
    let mut stored = places.map(|(job, at)| (key(job, at), Offset(5))).into_iter().collect();
    let removed = orphans(&mut stored, |job| job == JobId(8));
    assert_eq!(removed, [key(7, 0), key(7, 3), key(1 << 24, 0)]);
    assert_eq!(stored.into_keys().collect::<Vec<_>>(), [key(8, 0)]);
}
