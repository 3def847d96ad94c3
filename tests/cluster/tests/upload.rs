//! Uploading modules: how far a large one is can be followed, and a refused one leaves nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Mutex;

use millstream_client::protocol::error::{ErrorCode, WireError};
use millstream_client::protocol::frame::FrameLimits;
use millstream_client::protocol::ids::ModuleName;
use millstream_client::protocol::message::Open;
use millstream_client::protocol::message::module::{ModuleDescription, UploadModule};
use millstream_tests_cluster::{Broker, binary, raw};

/// A component that is as large as wanted: with a section that nobody reads.
fn padded(mut component: Vec<u8>, padding: usize) -> Vec<u8> {
    let mut size = padding + 2;
    component.push(0);
    while size >= 0x80 {
        component.push(u8::try_from(size & 0x7f).unwrap() | 0x80);
        size >>= 7;
    }
    component.push(u8::try_from(size).unwrap());
    component.extend([1, b'x']);
    component.resize(component.len() + padding, 7);
    component
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_tells_how_much_of_it_was_sent() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    let component = padded(binary::guest("keep-late"), 24 << 20);
    let size = component.len() as u64;
    let told = Mutex::new(Vec::new());
    let note = |sent| told.lock().unwrap().push(sent);
    let uploaded = client.admin().upload_module_watched("large", component, &note).await.unwrap();
    assert_eq!(uploaded.size, size);
    let told = told.into_inner().unwrap();
    assert_eq!(*told.last().unwrap(), size, "at the end all of it was sent");
    assert!(told.is_sorted(), "{told:?}");
    assert!(
        told.iter().any(|sent| (1..size).contains(sent)),
        "there was something between: {told:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_is_not_what_was_announced_leaves_nothing_and_takes_nothing() {
    const ANSWER: FrameLimits = FrameLimits { message: 1 << 20, body: 0 };
    let broker = Broker::start().await;
    let connection = raw::dial(&broker).await;
    let component = binary::guest("keep-late");
    let (mut writer, mut reader) = connection.open().await.unwrap();
    let (name, sha256) = (ModuleName::new("damaged").unwrap(), "0".repeat(64));
    let open = Open::Call(UploadModule { name, sha256, size: component.len() as u64 }.into());
    writer.send(&open, [component.into()]).await.unwrap();
    let answer = reader.recv::<Result<ModuleDescription, WireError>>(ANSWER).await.unwrap();
    let error = answer.unwrap().message.unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidRequest, "{}", error.message);
    for dir in ["modules", "cache"] {
        let files = std::fs::read_dir(broker.data_dir().join(dir)).unwrap().count();
        assert_eq!(files, 0, "files in {dir}");
    }
    assert_eq!(broker.metric("millstream_arriving_bytes{of=\"modules\"}"), Some(0.0));
}
