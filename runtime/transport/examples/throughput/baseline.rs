//! Plain quinn with the same windows and packet size, and nothing of ours.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use quinn::{
    ClientConfig, Endpoint, EndpointConfig, MtuDiscoveryConfig, ServerConfig, TokioRuntime,
    TransportConfig,
};
use rustls::pki_types::PrivateKeyDer;

use crate::BODY;
use crate::cost::{Cost, peak_rss};

pub(crate) async fn serve() {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = certified.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
    let mut config = ServerConfig::with_single_cert(vec![certificate.clone()], key).unwrap();
    config.transport_config(transport());
    let endpoint = endpoint(Some(config));
    let hex: String = certificate.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{} {hex}", endpoint.local_addr().unwrap());
    let connection = endpoint.accept().await.unwrap().await.unwrap();
    let (mut send, mut receive) = connection.accept_bi().await.unwrap();
    let cost = Cost::start();
    let mut bytes = 0;
    let mut chunks = [const { Bytes::new() }; 16];
    while let Some(count) = receive.read_chunks(&mut chunks).await.unwrap() {
        bytes += chunks[..count].iter_mut().map(|c| std::mem::take(c).len()).sum::<usize>();
    }
    send.write_all(b"done").await.unwrap();
    send.finish().unwrap();
    let gb = bytes as f64 / 1e9;
    println!("server {:.2} CPU s/GB, peak {} MiB", cost.cpu() / gb, peak_rss());
    connection.closed().await;
}

pub(crate) async fn bulk(hello: &str, gigabytes: u64) {
    let (addr, hex) = hello.split_once(' ').unwrap();
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    let certificate: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.into()).unwrap();
    let mut config = ClientConfig::with_root_certificates(Arc::new(roots)).unwrap();
    config.transport_config(transport());
    let endpoint = endpoint(None);
    let addr: SocketAddr = addr.parse().unwrap();
    let connection = endpoint.connect_with(config, addr, "localhost").unwrap().await.unwrap();
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    let body = Bytes::from(vec![7; BODY]);
    let cost = Cost::start();
    for _ in 0..gigabytes * 1_000_000_000 / BODY as u64 {
        send.write_chunk(body.clone()).await.unwrap();
    }
    send.finish().unwrap();
    receive.read_to_end(4).await.unwrap();
    let gb = gigabytes as f64;
    println!(
        "plain quinn, bulk: {:.0} MB/s, client {:.2} CPU s/GB, {} lost",
        gb * 1e3 / cost.seconds(),
        cost.cpu() / gb,
        connection.stats().path.lost_packets,
    );
    connection.close(0_u32.into(), b"");
    endpoint.wait_idle().await;
}

fn transport() -> Arc<TransportConfig> {
    let path = millstream_transport::TransportSettings::default().local;
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(path.max_packet);
    let mut config = TransportConfig::default();
    config
        .stream_receive_window(path.stream_receive_window.into())
        .receive_window(path.connection_receive_window.into())
        .send_window(path.send_window.into())
        .mtu_discovery_config(Some(mtu))
        .enable_segmentation_offload(false);
    Arc::new(config)
}

fn endpoint(server: Option<ServerConfig>) -> Endpoint {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let reference = socket2::SockRef::from(&socket);
    reference.set_recv_buffer_size(4 << 20).unwrap();
    reference.set_send_buffer_size(4 << 20).unwrap();
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(65_527).unwrap();
    Endpoint::new(config, server, socket, Arc::new(TokioRuntime)).unwrap()
}
