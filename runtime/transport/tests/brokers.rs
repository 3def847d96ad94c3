//! Brokers that call each other: who is known by a certificate, and who is refused or nobody.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use common::{Broker, RawClient, hello, round_trip, trusting};
use millstream_protocol::ids::NodeId;
use millstream_protocol::message::hello::ALPN;
use millstream_transport::{
    Connection, ConnectionError, Identity, Target, TransportSettings, connect_as, issue_into,
};
use quinn::crypto::rustls::QuicServerConfig;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

const DAY: Duration = Duration::from_secs(86_400);
const SERVER: ExtendedKeyUsagePurpose = ExtendedKeyUsagePurpose::ServerAuth;
const CLIENT: ExtendedKeyUsagePurpose = ExtendedKeyUsagePurpose::ClientAuth;

/// What a broker lets in.
type Accepted = tokio::sync::mpsc::Receiver<Result<Connection, ConnectionError>>;

async fn call(target: &Target, identity: &Identity) -> Result<Connection, ConnectionError> {
    connect_as(target, identity, &TransportSettings::default(), hello()).await
}

/// A certificate as `millstream` makes none, and its key.
struct Odd {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Odd {
    /// Signed by the authority in `ca_dir`.
    fn new(ca_dir: &Path, names: &[&str], usages: &[ExtendedKeyUsagePurpose]) -> Self {
        Self::until(ca_dir, names, usages, SystemTime::now() + DAY)
    }

    fn until(
        ca_dir: &Path,
        names: &[&str],
        usages: &[ExtendedKeyUsagePurpose],
        end: SystemTime,
    ) -> Self {
        let read = |name| std::fs::read_to_string(ca_dir.join(name)).unwrap();
        let ca_key = KeyPair::from_pem(&read("ca.key")).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&read("ca.pem"), ca_key).unwrap();
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = usages.to_vec();
        params.not_before = (SystemTime::now() - 10 * DAY).into();
        params.not_after = end.into();
        let key = KeyPair::generate().unwrap();
        let chain = vec![params.signed_by(&key, &issuer).unwrap().der().clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Self { chain, key }
    }

    /// Calls a broker with it, and says what both ends have of it.
    async fn shown_to(
        self,
        broker: &Broker,
        accepted: &mut Accepted,
    ) -> (Result<Connection, ConnectionError>, Result<(), quinn::ConnectionError>) {
        let mut config = trusting(broker).with_client_auth_cert(self.chain, self.key).unwrap();
        config.alpn_protocols = vec![ALPN.to_vec()];
        let client = RawClient::with_config(broker, config).await.unwrap();
        let (served, greeted) = tokio::join!(accepted.recv(), client.greet());
        (served.unwrap(), greeted)
    }

    /// Listens with it, without a word beyond the handshake.
    fn listening(self) -> (quinn::Endpoint, SocketAddr) {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(self.chain, self.key)
            .unwrap();
        config.alpn_protocols = vec![ALPN.to_vec()];
        let config = QuicServerConfig::try_from(config).unwrap();
        let config = quinn::ServerConfig::with_crypto(Arc::new(config));
        let endpoint = quinn::Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = endpoint.local_addr().unwrap();
        let listener = endpoint.clone();
        tokio::spawn(async move {
            while let Some(incoming) = listener.accept().await {
                tokio::spawn(async move {
                    if let Ok(connection) = incoming.await {
                        connection.closed().await;
                    }
                });
            }
        });
        (endpoint, addr)
    }

    /// How a call to who listens with it fails.
    async fn called_by(self, identity: &Identity) -> String {
        let (_endpoint, addr) = self.listening();
        let error = call(&Target::at(addr), identity).await.unwrap_err();
        assert!(matches!(error, ConnectionError::Unproven { .. }), "{error:?}");
        error.to_string()
    }
}

#[tokio::test]
async fn a_broker_is_known_by_its_certificate_on_both_sides() {
    let one = Broker::new(TransportSettings::default());
    let two = one.joined(2);
    let mut accepted = one.echo();
    let addr = one.listener.local_addr();
    let by_name = Target { addr, server_name: "localhost".to_owned() };
    // The second time of each the handshake is a resumed one.
    for target in [Target::broker(NodeId(1), addr), Target::at(addr), by_name] {
        for _ in 0..2 {
            let connection = call(&target, &two.identity).await.unwrap();
            let served = accepted.recv().await.unwrap().unwrap();
            assert_eq!(connection.peer_broker(), Some(NodeId(1)), "{target:?}");
            assert_eq!(served.peer_broker(), Some(NodeId(2)), "{target:?}");
            round_trip(&connection, 7, &Bytes::from_static(b"seven")).await;
        }
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_is_served_and_is_nobody() {
    let broker = Broker::new(TransportSettings::default());
    let mut accepted = broker.echo();
    let client = broker.dial().await.unwrap();
    let served = accepted.recv().await.unwrap().unwrap();
    assert_eq!((client.peer_broker(), served.peer_broker()), (None, None));
    round_trip(&client, 7, &Bytes::from_static(b"seven")).await;
}

#[tokio::test]
async fn a_broker_that_is_not_the_expected_one_is_refused_by_its_caller() {
    let one = Broker::new(TransportSettings::default());
    let two = one.joined(2);
    let _accepted = one.echo();
    for other in [NodeId(2), NodeId(3), NodeId(11)] {
        let target = Target::broker(other, one.listener.local_addr());
        let error = call(&target, &two.identity).await.unwrap_err();
        assert!(matches!(error, ConnectionError::Unproven { .. }), "{error:?}");
        assert!(error.to_string().contains("broker-1.millstream"), "{error}");
    }
}

#[tokio::test]
async fn a_broker_of_another_cluster_is_refused_by_its_caller() {
    let (ours, theirs) = (TransportSettings::default(), TransportSettings::default());
    let (ours, theirs) = (Broker::new(ours), Broker::new(theirs));
    let mut accepted = theirs.echo();
    let target = Target::broker(NodeId(1), theirs.listener.local_addr());
    let error = call(&target, &ours.identity).await.unwrap_err();
    assert!(matches!(error, ConnectionError::Unproven { .. }), "{error:?}");
    assert!(error.to_string().contains("this cluster"), "{error}");
    let told = accepted.recv().await.unwrap().unwrap_err();
    assert!(matches!(told, ConnectionError::NotAccepted { .. }), "{told:?}");
}

#[tokio::test]
async fn a_broker_of_another_cluster_is_refused_by_a_listener() {
    let ours = Broker::new(TransportSettings::default());
    let theirs = Broker::new(TransportSettings::default());
    // It has been given our authority's certificate, which is no secret.
    let dir = tempfile::tempdir().unwrap();
    issue_into(theirs.dir.path(), NodeId(2), &[], dir.path()).unwrap();
    let both = [theirs.identity.ca_pem(), ours.identity.ca_pem()].concat();
    std::fs::write(dir.path().join("ca.pem"), both).unwrap();
    let stranger = Identity::join(dir.path(), NodeId(2), &[]).unwrap();
    let mut accepted = ours.echo();
    let target = Target::at(ours.listener.local_addr());
    let error = call(&target, &stranger).await.unwrap_err();
    assert!(matches!(error, ConnectionError::NotAccepted { .. }), "{error:?}");
    let refused = accepted.recv().await.unwrap().unwrap_err();
    assert!(matches!(refused, ConnectionError::Unproven { .. }), "{refused:?}");
    assert_eq!(ours.listener.admission().connections(), 0);
    ours.dial().await.unwrap();
}

#[tokio::test]
async fn an_expired_certificate_is_refused_on_both_sides() {
    let broker = Broker::new(TransportSettings::default());
    let mut accepted = broker.echo();
    let expired = || {
        let names = ["127.0.0.1", "broker-2.millstream"];
        Odd::until(broker.dir.path(), &names, &[SERVER, CLIENT], SystemTime::now() - DAY)
    };
    let (served, greeted) = expired().shown_to(&broker, &mut accepted).await;
    let refused = served.unwrap_err();
    assert!(matches!(refused, ConnectionError::Unproven { .. }), "{refused:?}");
    assert!(refused.to_string().contains("expired"), "{refused}");
    greeted.unwrap_err();
    let text = expired().called_by(&broker.identity).await;
    assert!(text.contains("expired"), "{text}");
}

#[tokio::test]
async fn a_certificate_that_is_not_for_clients_makes_no_broker() {
    let broker = Broker::new(TransportSettings::default());
    let mut accepted = broker.echo();
    let odd =
        |usages: &[_]| Odd::new(broker.dir.path(), &["127.0.0.1", "broker-2.millstream"], usages);
    let (served, greeted) = odd(&[SERVER]).shown_to(&broker, &mut accepted).await;
    let refused = served.unwrap_err();
    assert!(matches!(refused, ConnectionError::Unproven { .. }), "{refused:?}");
    greeted.unwrap_err();
    // One that is for nothing in particular may be shown, and proves nothing.
    let (served, greeted) = odd(&[]).shown_to(&broker, &mut accepted).await;
    assert_eq!(served.unwrap().peer_broker(), None);
    greeted.unwrap();
    for usages in [&[SERVER][..], &[]] {
        let text = odd(usages).called_by(&broker.identity).await;
        assert!(text.contains("extended key usage"), "{text}");
    }
}

#[tokio::test]
async fn a_certificate_without_exactly_one_brokers_name_makes_no_broker() {
    let broker = Broker::new(TransportSettings::default());
    let mut accepted = broker.echo();
    let odd: [&[&str]; 4] = [
        &["127.0.0.1"],
        &["127.0.0.1", "broker-01.millstream"],
        &["127.0.0.1", "broker-2.millstream", "broker-3.millstream"],
        &["127.0.0.1", "broker-2.millstream", "BROKER-3.millstream"],
    ];
    for names in odd {
        let odd = || Odd::new(broker.dir.path(), names, &[SERVER, CLIENT]);
        let (served, greeted) = odd().shown_to(&broker, &mut accepted).await;
        assert_eq!(served.unwrap().peer_broker(), None, "{names:?}");
        greeted.unwrap();
        odd().called_by(&broker.identity).await;
    }
}
