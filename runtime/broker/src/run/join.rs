//! Coming to a cluster: the store as it is, or a new one for a broker that founds a cluster, joins one, or comes
//! back to one without what it knew.
//!
//! Invariant: a store that is damaged is never taken for an empty one: it is set aside only when there are other
//! brokers to ask, and the broker comes back as another replica.

use std::sync::Arc;
use std::time::Duration;

use millstream_core::replication::VoterSet;
use millstream_protocol::error::WireError;
use millstream_protocol::frame::FrameLimits;
use millstream_protocol::ids::ReplicaId;
use millstream_protocol::limits::MAX_MESSAGE_BYTES;
use millstream_protocol::message::Open;
use millstream_protocol::message::hello::{Hello, NEWEST_VERSION, OLDEST_VERSION};
use millstream_protocol::message::peer::{JoinCluster, JoinedCluster};
use millstream_storage::data_dir::DataDirError;
use millstream_storage::disk::{AnyDisk, Disk as _};
use millstream_storage::members;
use millstream_storage::metadata::{Identity, Store};
use millstream_transport::{CloseCode, Target, TransportSettings, connect_as};

use super::error::StartError;
use super::ground::Ground;
use super::stored::{Stored, random};
use crate::config::Config;

/// Between two rounds over the brokers that are asked, and how long one may take to answer.
const PAUSE: Duration = Duration::from_millis(500);
const ANSWER: Duration = Duration::from_secs(10);

/// What is stored, of a broker that is part of a cluster from now on.
pub(super) async fn load(
    config: &Config,
    ground: &Ground,
    disk: &AnyDisk,
) -> Result<Stored, StartError> {
    let (data, file) = (&ground.data, ground.data.metadata_file());
    let unmade =
        |source| DataDirError::Io { action: "create", path: data.root().to_owned(), source };
    disk.create_dir_all(data.root()).map_err(unmade)?;
    let mut others = config.server.join_addresses();
    let stored = match disk.len(&file) {
        Err(_) => None,
        Ok(_) => match Stored::load(disk, &file, fresh()) {
            Ok(stored) => Some(stored),
            Err(StartError::Metadata(error)) if error.is_damage() => {
                others.extend(members::read(disk, data.root()));
                if others.is_empty() {
                    return Err(error.into());
                }
                tracing::error!(%error, "the metadata store is set aside, and the cluster asked for what was in it");
                Store::set_aside(disk, &file).map_err(unmade)?;
                None
            }
            Err(error) => return Err(error),
        },
    };
    match stored {
        Some(stored) if stored.own.founders.is_some() => Ok(stored),
        Some(stored) if others.is_empty() || !stored.image.brokers().is_empty() => {
            Ok(founded(stored, ground))
        }
        None if others.is_empty() => Ok(founded(Stored::load(disk, &file, fresh())?, ground)),
        known => joined(config, ground, disk, known, &others).await,
    }
}

fn fresh() -> Identity {
    Identity { cluster: random(), incarnation: random() }
}

/// A cluster that begins with this broker.
fn founded(mut stored: Stored, ground: &Ground) -> Stored {
    let me = ReplicaId { node: ground.node, incarnation: stored.identity.incarnation };
    stored.own.founders = Some((Default::default(), VoterSet::new([me])));
    stored
}

async fn joined(
    config: &Config,
    ground: &Ground,
    disk: &AnyDisk,
    known: Option<Stored>,
    others: &[String],
) -> Result<Stored, StartError> {
    let incarnation = known.as_ref().map_or_else(random, |known| known.identity.incarnation);
    let request = JoinCluster {
        replica: ReplicaId { node: ground.node, incarnation },
        address: ground.advertised.clone(),
        rack: config.server.rack_name(),
    };
    let answer = ask(ground, others, request).await?;
    let mut stored = match known {
        Some(known) if known.identity.cluster == answer.cluster => known,
        Some(_) => {
            let text = "the data directory is of another cluster than the one that --join names: use an empty one";
            return Err(StartError::Join(text.to_owned()));
        }
        None => {
            let identity = Identity { cluster: answer.cluster, incarnation };
            Stored::load(disk, &ground.data.metadata_file(), identity)?
        }
    };
    let voters = VoterSet::try_from(answer.voters.clone());
    let voters = voters.map_err(|error| StartError::Join(error.to_string()))?;
    stored.own.founders = Some((answer.voters_at, voters));
    let addresses: Vec<_> = answer.brokers.iter().map(|broker| broker.address.clone()).collect();
    let brokers = answer.brokers.into_iter().map(|broker| (broker.node, broker.address));
    stored.own.brokers = brokers.collect();
    if let Err(error) = members::write(disk, ground.data.root(), &addresses) {
        tracing::warn!(%error, "where the other brokers are is not noted down");
    }
    Ok(stored)
}

/// Asks one broker after the other until one takes this one in, or says why not.
async fn ask(
    ground: &Ground,
    others: &[String],
    request: JoinCluster,
) -> Result<JoinedCluster, StartError> {
    let mut told = String::new();
    loop {
        for address in others {
            match ask_one(ground, address, &request).await {
                Ok(Ok(joined)) => {
                    tracing::info!(%address, "taken into the cluster");
                    return Ok(joined);
                }
                Ok(Err(error)) if !error.is_retriable() => {
                    return Err(StartError::Join(error.to_string()));
                }
                Ok(Err(error)) => note(&mut told, address, &error.to_string()),
                Err(error) => note(&mut told, address, &error),
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Says why nobody answers, once for each reason.
fn note(told: &mut String, address: &str, error: &str) {
    let text = format!("{address}: {error}");
    if *told != text {
        tracing::warn!(%address, %error, "not taken into the cluster yet");
        *told = text;
    }
}

async fn ask_one(
    ground: &Ground,
    address: &str,
    request: &JoinCluster,
) -> Result<Result<JoinedCluster, WireError>, String> {
    const LIMITS: FrameLimits = FrameLimits { message: MAX_MESSAGE_BYTES, body: 0 };
    let mut found = tokio::net::lookup_host(address).await.map_err(|error| error.to_string())?;
    let addr = found.next().ok_or("it has no address")?;
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let target = Target { addr, server_name: host.trim_matches(['[', ']']).to_owned() };
    let hello = Hello {
        oldest: OLDEST_VERSION,
        newest: NEWEST_VERSION,
        features: Vec::new(),
        client_id: format!("broker-{}", ground.node),
        software: format!("millstream {}", env!("CARGO_PKG_VERSION")),
    };
    let identity = Arc::clone(&ground.identity);
    let settings = TransportSettings::default();
    let asking = async {
        let connection =
            connect_as(&target, &identity, &settings, hello).await.map_err(|e| e.to_string())?;
        let (mut writer, mut reader) = connection.open().await.map_err(|e| e.to_string())?;
        let sent = writer.send(&Open::Call(request.clone().into()), []).await;
        sent.map_err(|e| e.to_string())?;
        let frame = reader.recv::<Result<JoinedCluster, WireError>>(LIMITS).await;
        let frame = frame.map_err(|e| e.to_string())?.ok_or("it did not answer")?;
        let answer = frame.message;
        connection.close_and_wait(CloseCode::Done, "taken in").await;
        Ok(answer)
    };
    tokio::time::timeout(ANSWER, asking)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {ANSWER:?}")))
}
