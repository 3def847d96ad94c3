//! How connections begin and end: versions, trust, absence, restart, shutdown.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Broker, LIMITS, greeting, hello, round_trip};
use millstream_protocol::ids::NodeId;
use millstream_transport::{
    CloseCode, ConnectionError, Identity, Listener, StreamError, Target, TransportSettings, Trust,
    bind, connect,
};

#[tokio::test]
async fn a_client_and_a_broker_agree_on_version_and_features() {
    let broker = Broker::new(TransportSettings::default());
    let mut accepted = broker.echo();
    let client = broker.dial().await.unwrap();
    assert_eq!(client.welcome().version, 1);
    assert_eq!(client.welcome().features, ["known"]);
    assert_eq!(client.welcome().cluster_id, "cluster");
    let served = accepted.recv().await.unwrap().unwrap();
    assert_eq!(served.hello().client_id, "test");
    round_trip(&client, 7, &Bytes::from_static(b"seven")).await;
}

#[tokio::test]
async fn both_sides_are_told_when_they_have_no_version_in_common() {
    let broker = Broker::new(TransportSettings::default());
    let mut accepted = broker.echo();
    let mut newer = hello();
    (newer.oldest, newer.newest) = (70, 71);
    let error = broker.dial_with(&TransportSettings::default(), newer).await.unwrap_err();
    let ConnectionError::UnsupportedVersion { reason, .. } = &error else { panic!("{error:?}") };
    assert_eq!(reason, "the client speaks versions 70 to 71, the broker 1 to 1");
    let error = accepted.recv().await.unwrap().unwrap_err();
    assert!(matches!(error, ConnectionError::UnsupportedVersion { .. }), "{error:?}");
}

#[tokio::test]
async fn a_client_refuses_a_broker_that_another_authority_signed() {
    let broker = Broker::new(TransportSettings::default());
    let _accepted = broker.echo();
    let other = tempfile::tempdir().unwrap();
    let other = Identity::open(other.path(), NodeId(1), &[]).unwrap();
    let trust = Trust::from_pem(other.ca_pem().as_bytes()).unwrap();
    let target = Target::at(broker.listener.local_addr());
    let error = connect(&target, &trust, &TransportSettings::default(), hello()).await.unwrap_err();
    assert!(matches!(error, ConnectionError::Untrusted { .. }), "{error:?}");
    assert!(error.to_string().contains("--ca FILE"), "{error}");
}

#[tokio::test]
async fn a_client_refuses_a_broker_by_another_name_and_accepts_its_stable_one() {
    let broker = Broker::new(TransportSettings::default());
    let _accepted = broker.echo();
    let settings = TransportSettings::default();
    let mut target = Target::at(broker.listener.local_addr());
    target.server_name = "bank.example.org".to_owned();
    let error = connect(&target, &broker.trust, &settings, hello()).await.unwrap_err();
    assert!(matches!(error, ConnectionError::Untrusted { .. }), "{error:?}");
    for name in ["localhost", "broker-1.millstream"] {
        target.server_name = name.to_owned();
        connect(&target, &broker.trust, &settings, hello()).await.unwrap();
    }
}

#[tokio::test]
async fn calling_where_nobody_listens_fails_at_once() {
    let broker = Broker::new(TransportSettings::default());
    let unused = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let began = Instant::now();
    let error = connect(&Target::at(unused), &broker.trust, &TransportSettings::default(), hello())
        .await
        .unwrap_err();
    assert_eq!(error, ConnectionError::Unreachable { peer: unused });
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn calling_where_nobody_answers_ends_with_the_handshake_timeout() {
    let broker = Broker::new(TransportSettings::default());
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let peer = silent.local_addr().unwrap();
    let settings = TransportSettings {
        handshake_timeout: Duration::from_millis(300),
        ..TransportSettings::default()
    };
    let error = connect(&Target::at(peer), &broker.trust, &settings, hello()).await.unwrap_err();
    assert_eq!(error, ConnectionError::TimedOut { peer });
}

#[tokio::test]
async fn a_closed_listener_tells_its_clients_why() {
    let broker = Broker::new(TransportSettings::default());
    let _accepted = broker.echo();
    let client = broker.dial().await.unwrap();
    let (_writer, mut reader) = client.open().await.unwrap();
    broker.listener.close(CloseCode::ShuttingDown, "broker 1 is stopping");
    broker.listener.wait_idle().await;
    let error = reader.recv::<u64>(LIMITS).await.unwrap_err();
    let StreamError::Connection(ConnectionError::Closed { code, reason, .. }) = error else {
        panic!("{error:?}");
    };
    assert_eq!((code, reason.as_str()), (CloseCode::ShuttingDown, "broker 1 is stopping"));
    let error = broker.dial().await.unwrap_err();
    assert!(matches!(error, ConnectionError::Refused { .. }), "{error:?}");
}

/// Runs a listener on a thread of its own that is torn down without a word to anyone, as by SIGKILL.
fn short_lived(
    addr: SocketAddr,
    identity: Identity,
) -> (std::thread::JoinHandle<()>, SocketAddr, tokio::sync::oneshot::Sender<()>) {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (tell, addr_of) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = Listener::bind(addr, &identity, TransportSettings::default()).unwrap();
            tell.send(listener.local_addr()).unwrap();
            let serve = async {
                let mut held = Vec::new();
                while let Some(incoming) = listener.accept().await {
                    held.push(incoming.handshake(&greeting()).await.unwrap());
                }
            };
            tokio::select! { () = serve => {}, _ = stopped => {} }
        });
        runtime.shutdown_background();
    });
    let addr = addr_of.recv().unwrap();
    (thread, addr, stop)
}

#[tokio::test]
async fn a_client_learns_at_once_that_its_broker_was_restarted() {
    let dir = tempfile::tempdir().unwrap();
    let identity = || Identity::open(dir.path(), NodeId(1), &[]).unwrap();
    let trust = Trust::from_pem(identity().ca_pem().as_bytes()).unwrap();
    let (thread, addr, stop) = short_lived("127.0.0.1:0".parse().unwrap(), identity());
    let client =
        connect(&Target::at(addr), &trust, &TransportSettings::default(), hello()).await.unwrap();
    stop.send(()).unwrap();
    thread.join().unwrap();
    let (_thread, _, _stop) = short_lived(addr, identity());
    let began = Instant::now();
    let (mut writer, _reader) = client.open().await.unwrap();
    writer.send(&1_u64, []).await.unwrap();
    let error = client.closed().await;
    let expected =
        [ConnectionError::Forgotten { peer: addr }, ConnectionError::Unreachable { peer: addr }];
    assert!(expected.contains(&error), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn who_comes_up_at_a_port_that_refused_a_client_hears_nothing_of_it() {
    let broker = Broker::new(TransportSettings::default());
    let unused = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = TransportSettings::default();
    let error = connect(&Target::at(unused), &broker.trust, &settings, hello()).await.unwrap_err();
    assert_eq!(error, ConnectionError::Unreachable { peer: unused });
    // Before the client's endpoint runs again.
    let late = tokio::net::UdpSocket::bind(unused).await.unwrap();
    let mut packet = [0; 2_048];
    let heard = tokio::time::timeout(Duration::from_millis(500), late.recv(&mut packet)).await;
    assert!(heard.is_err(), "a good-bye without a greeting: {heard:?}");
}

#[tokio::test]
async fn a_port_that_a_broker_listens_on_is_refused_to_the_next() {
    let broker = Broker::new(TransportSettings::default());
    let error = bind(broker.listener.local_addr(), 2, TransportSettings::default()).unwrap_err();
    assert!(error.to_string().contains("cannot listen on udp 127.0.0.1"), "{error}");
}

#[test]
fn every_shard_of_one_port_serves_clients_on_its_own_thread() {
    let dir = tempfile::tempdir().unwrap();
    let identity = Identity::open(dir.path(), NodeId(1), &[]).unwrap();
    let trust = Trust::from_pem(identity.ca_pem().as_bytes()).unwrap();
    let settings = TransportSettings::default();
    let sockets = bind("127.0.0.1:0".parse().unwrap(), 2, settings.clone()).unwrap();
    let addr = sockets[0].local_addr();
    assert_eq!(addr, sockets[1].local_addr());
    let served = [const { AtomicUsize::new(0) }; 2];
    let (stop, stopped) = tokio::sync::watch::channel(());
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    std::thread::scope(|scope| {
        for (served, socket) in served.iter().zip(sockets) {
            let (identity, mut stopped) = (&identity, stopped.clone());
            scope.spawn(move || {
                runtime().block_on(async {
                    let listener = socket.listen(identity).unwrap();
                    let mut held = Vec::new();
                    let serve = async {
                        while let Some(incoming) = listener.accept().await {
                            held.push(incoming.handshake(&greeting()).await.unwrap());
                            served.fetch_add(1, Ordering::Relaxed);
                        }
                    };
                    tokio::select! { () = serve => {}, _ = stopped.changed() => {} }
                });
            });
        }
        runtime().block_on(async {
            let target = Target::at(addr);
            let both = || served.iter().all(|count| count.load(Ordering::Relaxed) > 0);
            let mut clients = 0;
            while clients < 64 && !both() {
                connect(&target, &trust, &settings, hello()).await.unwrap();
                clients += 1;
            }
            drop(stop);
            assert!(both(), "64 clients on one of two shards");
        });
    });
}
