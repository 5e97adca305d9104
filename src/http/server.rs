//! The listener: bounded connections, bounded waits, and a bounded stop.
//!
//! hyper is driven directly because `axum::serve` bounds neither the time a client may take for
//! its request head nor the time it may take to read an answer.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;

use super::seats::{Seat, Seats};
use super::{DOOR, Http, Shared, gate, health, routes, snapshot, whep};
use crate::descriptors::{self, Guest};
use crate::metrics::Metrics;
use crate::shutdown::Stopping;

/// Connections at a time, and of those from one address.
pub const CONNECTIONS_MAX: usize = 1024;
const CONNECTIONS_PER_ADDRESS_MAX: usize = 256;

/// WebSockets at a time, and of those from one address. They outlive their HTTP connection.
const SOCKETS_MAX: usize = 512;
const SOCKETS_PER_ADDRESS_MAX: usize = 256;

/// How long a client may take for a request head; also how long it may keep a connection idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a client may go without taking a byte of what is sent to it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bound on a request head; the longest honest one is far below 8 KiB.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;

/// How long a stop waits for requests and WebSockets to end before it ends them.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// How long to wait after the system refused a connection, as it does when it is out of
/// descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a client hears for whom there is no room.
const NO_ROOM: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\n\
    Connection: close\r\nContent-Length: 0\r\n\r\n";

/// Why, in metrics, where few descriptors are left.
const NO_DESCRIPTORS: &str = "no-descriptors";

type Handler = TowerToHyperService<Router>;

/// Serves until `stopping`, then ends what is under way within two seconds.
///
/// # Errors
/// Where the listener has no address or two metrics bear one name; neither happens later.
pub async fn serve(
    listener: TcpListener,
    http: Http,
    mut stopping: Stopping,
) -> Result<(), std::io::Error> {
    let shared = Arc::new(Shared::new(http, listener.local_addr()?, stopping.clone()));
    let handler = TowerToHyperService::new(routes::router(&shared));
    let seats = Seats::new(CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stopping.wait() => break,
            Some(ended) = connections.join_next() => report(ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                    let seat = seats.take(peer.ip()).ok_or("connections");
                    let roomy = |_: &Seat| descriptors::admits(Guest::Http);
                    match seat.and_then(|seat| Some(seat).filter(roomy).ok_or(NO_DESCRIPTORS)) {
                        Ok(seat) => {
                            let (handler, stopping) = (handler.clone(), stopping.clone());
                            let metrics = Arc::clone(&shared.http.metrics);
                            let served =
                                connection(stream, peer, seat, handler, stopping, metrics);
                            connections.spawn(served);
                        }
                        Err(reason) => turn_away(&stream, peer, reason, &shared.http.metrics),
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "HTTP connection not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    stop(&shared, connections).await;
    Ok(())
}

impl Shared {
    pub(super) fn new(http: Http, address: SocketAddr, stopping: Stopping) -> Self {
        health::prepare(&http);
        Self {
            gate: gate::Gate::new(&http.allowed_origins, address.ip().is_loopback()),
            whep: whep::Whep::default(),
            snapshots: snapshot::Snapshots::default(),
            health: health::Health::default(),
            sockets: Seats::new(SOCKETS_MAX, SOCKETS_PER_ADDRESS_MAX),
            stopping,
            http,
        }
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    _seat: Seat,
    handler: Handler,
    mut stopping: Stopping,
    metrics: Arc<Metrics>,
) {
    // Without it, an answer in two writes waits for the peer's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        handler.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(Box::pin(stream)), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping.wait() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "HTTP connection ends");
        if let Some(reason) = refusal(&error) {
            metrics.refused(DOOR, reason);
        }
    }
}

/// Why hyper refused a request before any of ours saw it; none where a connection just ended.
fn refusal(error: &hyper::Error) -> Option<&'static str> {
    if error.is_parse_too_large() {
        Some("head-too-large")
    } else if error.is_parse() {
        Some("unreadable-head")
    } else if error.is_timeout() {
        Some("slow-head")
    } else {
        None
    }
}

/// Says that there is no room, as far as that goes without waiting.
fn turn_away(stream: &TcpStream, peer: SocketAddr, reason: &'static str, metrics: &Metrics) {
    tracing::debug!(%peer, reason, "HTTP connection turned away");
    metrics.refused(DOOR, reason);
    let _ = stream.try_write(NO_ROOM);
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "an HTTP connection's task panicked");
    }
}

async fn stop(shared: &Shared, mut connections: JoinSet<()>) {
    let ended = tokio::time::timeout(STOP_TIMEOUT, async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
        shared.sockets.empty().await;
    });
    if ended.await.is_err() {
        tracing::warn!(connections = connections.len(), "HTTP connections ended by force");
        connections.shutdown().await;
    }
}
