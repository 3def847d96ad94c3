//! The first stream of a connection: Hello, Welcome, and from then on one version both speak.
//!
//! Invariant: no other stream is opened or accepted before both sides have agreed on a version; a
//! connection without one in common ends with a reason that names the versions.

use millstream_protocol::frame::FrameLimits;
use millstream_protocol::ids::NodeId;
use millstream_protocol::message::hello::{self, Hello, NEWEST_VERSION, OLDEST_VERSION, Welcome};

use crate::error::{CloseCode, ConnectionError, StreamError, connection_error};
use crate::stream::{FrameReader, FrameWriter};

/// What either side may say in a greeting: a few names.
const LIMITS: FrameLimits = FrameLimits { message: 4_096, body: 0 };

/// What a broker says of itself to everyone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Optional features it knows, by name.
    pub features: Vec<String>,
    /// The cluster's identity.
    pub cluster_id: String,
    /// The broker's identity.
    pub node: NodeId,
    /// Name and version of its software.
    pub software: String,
}

/// The client's half: says `hello` and takes the answer.
pub(crate) async fn ask(
    connection: &quinn::Connection,
    hello: &Hello,
) -> Result<Welcome, ConnectionError> {
    let peer = connection.remote_address();
    let lost = |error| connection_error(error, peer, false);
    let (send, receive) = connection.open_bi().await.map_err(lost)?;
    let mut writer = FrameWriter::new(send, peer);
    let mut reader = FrameReader::new(receive, peer);
    let answer = async {
        writer.send(hello, []).await?;
        writer.finish()?;
        Ok(reader.recv::<Welcome>(LIMITS).await?.map(|frame| frame.message))
    };
    let welcome = answer.await.map_err(|error| match error {
        StreamError::Connection(error) => error,
        other => failed(connection, &format!("broken greeting: {other}")),
    })?;
    let welcome = welcome.ok_or_else(|| failed(connection, "the greeting was not answered"))?;
    if !(hello.oldest..=hello.newest).contains(&welcome.version) {
        let reason = format!(
            "the broker chose version {}, outside of what was offered: {} to {}",
            welcome.version, hello.oldest, hello.newest,
        );
        connection.close(CloseCode::UnsupportedVersion.into(), reason.as_bytes());
        return Err(ConnectionError::UnsupportedVersion { peer, reason });
    }
    Ok(welcome)
}

/// The broker's half: takes the client's hello and answers it.
pub(crate) async fn answer(
    connection: &quinn::Connection,
    greeting: &Greeting,
) -> Result<(Hello, Welcome), ConnectionError> {
    let peer = connection.remote_address();
    let lost = |error| connection_error(error, peer, false);
    let (send, receive) = connection.accept_bi().await.map_err(lost)?;
    let mut writer = FrameWriter::new(send, peer);
    let mut reader = FrameReader::new(receive, peer);
    let hello = match reader.recv::<Hello>(LIMITS).await {
        Ok(Some(frame)) => frame.message,
        Ok(None) => return Err(failed(connection, "the first stream carried no hello")),
        Err(StreamError::Connection(error)) => return Err(error),
        Err(other) => return Err(failed(connection, &format!("broken hello: {other}"))),
    };
    let Some(version) = hello::negotiate(&hello) else {
        let reason = format!(
            "the client speaks versions {} to {}, the broker {OLDEST_VERSION} to {NEWEST_VERSION}",
            hello.oldest, hello.newest,
        );
        connection.close(CloseCode::UnsupportedVersion.into(), reason.as_bytes());
        return Err(ConnectionError::UnsupportedVersion { peer, reason });
    };
    let known = |feature: &&String| greeting.features.contains(*feature);
    let welcome = Welcome {
        version,
        features: hello.features.iter().filter(known).cloned().collect(),
        cluster_id: greeting.cluster_id.clone(),
        node: greeting.node,
        software: greeting.software.clone(),
    };
    let sent = async {
        writer.send(&welcome, []).await?;
        writer.finish()
    };
    sent.await.map_err(|error| match error {
        StreamError::Connection(error) => error,
        other => failed(connection, &format!("the greeting broke off: {other}")),
    })?;
    Ok((hello, welcome))
}

fn failed(connection: &quinn::Connection, reason: &str) -> ConnectionError {
    connection.close(CloseCode::ProtocolViolation.into(), reason.as_bytes());
    ConnectionError::Failed { peer: connection.remote_address(), reason: reason.to_owned() }
}
