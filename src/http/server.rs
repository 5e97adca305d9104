//! The listener: bounded connections, bounded waits, and a bounded stop.
//!
//! hyper is driven directly because `axum::serve` bounds neither the time a client may take for
//! its request head nor the time it may take to read an answer.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
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
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;

use super::seats::{Seat, Seats};
use super::{DOOR, Http, Shared, gate, health, routes, snapshot, whep};
use crate::descriptors::{self, Guest};
use crate::log;
use crate::shutdown::Stopping;
use crate::tls::Unmet;

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

/// What a client hears who speaks plain HTTP where HTTPS is served.
const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\
    Connection: close\r\nContent-Length: 70\r\n\r\n\
    This is HTTPS. Use https:// in the place of http:// and the same port.";

/// How long it may take to tell it.
const EXPLAIN_TIMEOUT: Duration = Duration::from_secs(2);

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
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stopping.wait() => break,
            Some(ended) = connections.join_next() => report(ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                    let seat = shared.connections.take(peer.ip()).ok_or("connections");
                    let roomy = |_: &Seat| descriptors::admits(Guest::Http);
                    match seat.and_then(|seat| Some(seat).filter(roomy).ok_or(NO_DESCRIPTORS)) {
                        Ok(seat) => {
                            let (shared, handler) = (Arc::clone(&shared), handler.clone());
                            connections.spawn(connection(stream, peer, seat, shared, handler));
                        }
                        Err(reason) => turn_away(&stream, peer, reason, &shared.http),
                    }
                }
                Err(error) => {
                    if let Some(suppressed) = log::heard() {
                        tracing::warn!(%error, suppressed, "HTTP connection not accepted");
                    }
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
            gate: gate::Gate::new(
                &http.allowed_origins,
                &http.allowed_hosts,
                address.ip().is_loopback(),
                http.tls.is_some(),
            ),
            whep: whep::Whep::default(),
            snapshots: snapshot::Snapshots::default(),
            health: health::Health::default(),
            address,
            connections: Seats::new(CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX),
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
    shared: Arc<Shared>,
    handler: Handler,
) {
    // Without it, an answer in two writes waits for the peer's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let mut stopping = shared.stopping.clone();
    let Some(identity) = &shared.http.tls else {
        return converse(impatient(stream), peer, handler, &shared).await;
    };
    let greeted = tokio::select! {
        greeted = identity.greet(stream, impatient) => greeted,
        () = stopping.wait() => return,
    };
    let outcome = greeted.as_ref().map_or_else(Unmet::as_str, |_| "done");
    shared.http.metrics.tls.handshakes.with_label_values(&[identity.door(), outcome]).inc();
    match greeted {
        Ok(stream) => converse(stream, peer, handler, &shared).await,
        Err(error) => {
            tracing::debug!(%peer, %error, "HTTPS connection ends before a request");
            if let Unmet::Plain(stream) = error {
                // Where it does not get through, there is nobody to tell.
                let _ = tokio::time::timeout(EXPLAIN_TIMEOUT, explain(stream)).await;
            }
        }
    }
}

/// Bounds the time that a client may go without taking a byte.
fn impatient(stream: TcpStream) -> Pin<Box<TimeoutStream<TcpStream>>> {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    Box::pin(stream)
}

/// Tells one who does not speak TLS how to come in.
async fn explain(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(NOT_TLS).await?;
    stream.shutdown().await?;
    // Data that arrives at a closed socket resets the connection, and the reset overtakes the answer.
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    handler: Handler,
    shared: &Shared,
) {
    let mut stopping = shared.stopping.clone();
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
        .serve_connection(TokioIo::new(stream), service)
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
            shared.http.metrics.refused(DOOR, reason);
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

/// Says that there is no room, as far as that goes without waiting: inside TLS, it does not.
fn turn_away(stream: &TcpStream, peer: SocketAddr, reason: &'static str, http: &Http) {
    tracing::debug!(%peer, reason, "HTTP connection turned away");
    http.metrics.refused(DOOR, reason);
    if http.tls.is_none() {
        let _ = stream.try_write(NO_ROOM);
    }
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
