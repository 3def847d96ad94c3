//! The admin port: Prometheus metrics, liveness, readiness. Plain HTTP, read-only.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Whether the broker takes requests. Starts as no.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readiness(Arc<watch::Sender<bool>>);

impl Readiness {
    pub(crate) fn set(&self, ready: bool) {
        self.0.send_replace(ready);
    }

    /// Waits until it does.
    pub(crate) async fn wait(&self) {
        // The sender is this one.
        let _ = self.0.subscribe().wait_for(|ready| *ready).await;
    }

    fn get(&self) -> bool {
        *self.0.borrow()
    }
}

/// Makes the page of metrics; known once the broker has parts to look at.
#[derive(Clone, Default)]
pub(crate) struct Source(Arc<OnceLock<Box<dyn Fn() -> String + Send + Sync>>>);

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

impl Source {
    pub(crate) fn set(&self, page: impl Fn() -> String + Send + Sync + 'static) {
        let first = self.0.set(Box::new(page)).is_ok();
        assert!(first, "there is one broker behind an admin port");
    }
}

/// Binds the port, so that an address in use is an error of the start and not of a task.
pub(crate) fn bind(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Answers until `stop` is cancelled.
pub(crate) async fn serve(
    listener: std::net::TcpListener,
    source: Source,
    ready: Readiness,
    stop: CancellationToken,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the admin port cannot be served"),
    };
    let routes = Router::new()
        .route("/metrics", get(async move || metrics(source).await))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(async move || readiness(&ready)));
    let served = axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = served.await {
        tracing::error!(%error, "the admin port stopped");
    }
}

/// The page, made beside the core: it may be long.
async fn metrics(source: Source) -> impl IntoResponse {
    let made =
        tokio::task::spawn_blocking(move || source.0.get().map_or_else(String::new, |f| f()));
    let page = made.await.unwrap_or_default();
    ([("content-type", "text/plain; version=0.0.4")], page)
}

fn readiness(ready: &Readiness) -> impl IntoResponse + use<> {
    if ready.get() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "starting\n")
    }
}
