//! Orphans: directories of logs that belong to no topic.
//!
//! A broker that is away when a topic is deleted, or dies before it has removed its files, finds them at its next
//! start. What a command has deleted is deleted then: its id was given out, and is nobody's. Anything else is named
//! and left alone, whatever the reason that nobody knows it.
//!
//! Invariant: no file is deleted without a committed command to.

use millstream_core::metadata::Image;
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::TopicPartition;
use millstream_storage::data_dir::DataDir;
use millstream_storage::disk::Disk as _;

use crate::drivers::metadata::LOG;
use crate::modules::blocking;
use crate::opening::Opener;

/// Deletes what was to be deleted, and names what else is there.
pub(crate) async fn clear(opener: &Opener, image: &Image) {
    let cleared = try_clear(opener, image).await;
    if let Err(error) = cleared {
        // They take room and do no harm: no reason not to start.
        tracing::warn!(%error, "logs that belong to no topic, if any, are left alone");
    }
}

async fn try_clear(opener: &Opener, image: &Image) -> Result<(), WireError> {
    let (disk, dir) = (opener.disk.clone(), opener.data.partitions_dir());
    let names = blocking(move || {
        // Nothing was ever opened on a disk that does not have it.
        let made = disk.create_dir_all(&dir).and_then(|()| disk.list_dirs(&dir));
        made.map_err(|error| WireError::new(ErrorCode::Internal, error))
    });
    for name in names.await?.iter().filter(|name| !is_known(name, image)) {
        one(opener, name, image).await;
    }
    Ok(())
}

fn is_known(name: &str, image: &Image) -> bool {
    DataDir::partition_of(name).is_some_and(|TopicPartition { topic, partition }| {
        let count = image.topics().get(&topic).map_or(0, |topic| topic.partitions.len());
        topic == LOG.topic || (partition.0 as usize) < count
    })
}

async fn one(opener: &Opener, name: &str, image: &Image) {
    let dir = opener.data.partitions_dir().join(name);
    let gone = DataDir::partition_of(name).filter(|id| image.has_deleted(id.topic));
    match gone {
        None => tracing::warn!(
            dir = %dir.display(),
            "belongs to no topic, and nothing says that it may go: left alone"
        ),
        Some(id) => match opener.remove(id).await {
            Ok(()) => tracing::info!(dir = %dir.display(), "removed: its topic was deleted"),
            Err(error) => {
                tracing::error!(partition = %id, %error, "files of a deleted partition stay")
            }
        },
    }
}
