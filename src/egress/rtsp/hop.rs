//! RTSPS: the hop between a viewer's TLS and gst-rtsp-server, which sees a plain stream.
//!
//! ```text
//! viewer ══ TCP, as the door configured it ══ hop (a task) ── loopback TCP ── gst-rtsp-server
//! ```
//!
//! Loopback, because gst-rtsp-server 1.22 takes every socket's address for one of IP, also a UNIX
//! socket's, and complains of each connection.
//!
//! It ends when either side does, and closes both. What it may hold is bounded in bytes, so that a
//! viewer that does not read is felt in the loopback, and by its feed, as it is without TLS.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy, split};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::refusal;
use crate::metrics::Metrics;
use crate::tls::{Identity, Unmet};

/// What each end of the pair may hold for sending and of what it received.
const PAIR_BYTES: usize = 32 << 10;

/// The largest segment between them: a loopback's usual 64 KiB do not fit into [`PAIR_BYTES`], and a
/// sender whose segments do not fit waits for timers.
const SEGMENT_BYTES: u32 = 4 << 10;

/// How often strangers may come between when a pair is made.
const STRANGERS_MAX: usize = 8;

/// How long a viewer may take for the last bytes, and for TLS's own goodbye.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// How long one who does not speak TLS may take to send a request and to take the answer.
const EXPLAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// What is needed for hops, beside the viewer's socket.
#[derive(Debug)]
pub(super) struct Hops {
    pub(super) identity: Identity,
    pub(super) metrics: Arc<Metrics>,
    pub(super) runtime: Handle,
}

impl Hops {
    /// Starts one for `stream`, which must not block; the end that is spoken to without TLS, which
    /// does not block either.
    ///
    /// # Errors
    /// Where no file descriptor is left.
    pub(super) fn begin(&self, stream: TcpStream, address: SocketAddr) -> std::io::Result<OwnedFd> {
        let (near, far) = pair(address.ip())?;
        let (identity, metrics) = (self.identity.clone(), Arc::clone(&self.metrics));
        self.runtime.spawn(async move {
            if let Err(error) = carry(stream, near, &identity, &metrics).await {
                tracing::debug!(%address, %error, "RTSPS connection ends before a request");
            }
        });
        Ok(far.into())
    }
}

/// Two sockets that are connected to each other and do not block, of the same family as `viewer`.
fn pair(viewer: IpAddr) -> std::io::Result<(TcpStream, TcpStream)> {
    let loopback: IpAddr = match viewer {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let listener = TcpListener::bind((loopback, 0))?;
    // The end that is accepted inherits this; set later, it would not bind the first window.
    let socket = SockRef::from(&listener);
    socket.set_recv_buffer_size(PAIR_BYTES)?;
    socket.set_send_buffer_size(PAIR_BYTES)?;
    socket.set_tcp_mss(SEGMENT_BYTES)?;
    let far = TcpStream::connect(listener.local_addr()?)?;
    SockRef::from(&far).set_send_buffer_size(PAIR_BYTES)?;
    let own = far.local_addr()?;
    for _ in 0..STRANGERS_MAX {
        // Ours is in the queue by now, so that this does not wait.
        let (near, peer) = listener.accept()?;
        if peer == own {
            for end in [&near, &far] {
                end.set_nonblocking(true)?;
                end.set_nodelay(true)?;
            }
            return Ok((near, far));
        }
    }
    Err(std::io::Error::new(ErrorKind::ConnectionRefused, "strangers at a port of our own"))
}

/// Goes on until either side ends it.
///
/// # Errors
/// Why there was no handshake.
async fn carry(
    stream: TcpStream,
    near: TcpStream,
    identity: &Identity,
    metrics: &Metrics,
) -> Result<(), Unmet> {
    let stream = tokio::net::TcpStream::from_std(stream)?;
    let near = tokio::net::TcpStream::from_std(near)?;
    let greeted = tokio::select! {
        greeted = identity.greet(stream, |stream| stream) => greeted,
        // Nothing was asked, so nothing is answered: this is the end of the pair.
        _ = near.readable() => return Ok(()),
    };
    let outcome = greeted.as_ref().map_or_else(Unmet::as_str, |_| "done");
    metrics.tls.handshakes.with_label_values(&[identity.door(), outcome]).inc();
    match greeted {
        Ok(stream) => exchange(stream, near).await,
        Err(Unmet::Plain(stream)) => {
            // Where it does not get through, there is nobody to tell.
            let _ = timeout(EXPLAIN_TIMEOUT, explain(stream)).await;
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

async fn exchange(stream: TlsStream<tokio::net::TcpStream>, mut near: tokio::net::TcpStream) {
    let (mut from_viewer, mut to_viewer) = split(stream);
    let (mut from_server, mut to_server) = near.split();
    // How it ended makes no difference to what follows.
    tokio::select! {
        _ = copy(&mut from_viewer, &mut to_server) => {}
        _ = copy(&mut from_server, &mut to_viewer) => {}
    }
    let _ = timeout(FAREWELL_TIMEOUT, to_viewer.shutdown()).await;
}

/// Tells one who does not speak TLS how to come in.
async fn explain(mut stream: tokio::net::TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut chunk = [0; 1024];
    while !refusal::is_complete(&request) {
        match stream.read(&mut chunk).await? {
            0 => return Ok(()),
            count => request.extend(chunk.iter().take(count)),
        }
    }
    let answer = refusal::answer(&request, "400 This Is RTSPS, Use rtsps://", "");
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // Data that arrives at a closed socket resets the connection, and the reset overtakes the answer.
    while stream.read(&mut chunk).await? > 0 {}
    Ok(())
}
