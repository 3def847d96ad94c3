//! Uploading a module that is not small: how far it is can be followed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Mutex;

use millstream_tests_cluster::{Broker, binary};

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
