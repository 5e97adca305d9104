//! The thread at the door: lets viewers in, refuses them properly, and ends what must end.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use gst_rtsp_server::prelude::*;
use gst_rtsp_server::{RTSPFilterResult, RTSPSessionPool};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{SockRef, TcpKeepalive};

use super::connection::Connection;
use super::hop::Hops;
use super::media::Media;
use super::refusal::{PATIENCE, PATIENCE_TLS, Refusal};
use super::server::{Server, Shared};
use crate::admission::{self, Kind, Permit, network};
use crate::clock::Timestamp;
use crate::descriptors::{self, Guest};
use crate::egress::session::{End, Transport};
use crate::guard::Cleanup;
use crate::log;
use crate::metrics;
use crate::shutdown::Stopping;

/// The door's name in metrics.
const DOOR: &str = metrics::RTSP_DOOR;

/// How often connections are looked at; also the longest an end that was asked for waits.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How often sessions that nobody kept alive are looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(2);

/// Connections accepted in one turn, so that the rest of the work is not starved by a flood.
const ACCEPTS_PER_TURN: usize = 32;

/// Connections at a time whose visitors have not said yet who they are, where they must: in all, and
/// from one address.
const STRANGERS_MAX: usize = 64;
const STRANGERS_PER_ADDRESS_MAX: usize = 16;

/// Connections being refused at a time; more are closed without a word.
const REFUSALS_MAX: usize = 64;

/// What the kernel may hold of a viewer's stream: about a second of 2.5 Mbit/s. Without a bound it
/// grows to megabytes of old pictures. The kernel counts twice what is asked for.
pub const SEND_BUFFER_BYTES: usize = 256 << 10;

/// What of that may not even be on its way yet. A socket with more is full, the pipeline waits, and
/// what the viewer does not take stays in the ring, where the feed skips over it.
pub const UNSENT_BYTES_MAX: u32 = 64 << 10;

/// A peer that acknowledges nothing for this long is gone.
pub const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);

/// Bound on the time from the word to stop until every connection is gone.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// A connection that was shut down and is still there after this counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// What the thread at the door works with.
pub(super) struct Door {
    pub(super) listener: TcpListener,
    pub(super) server: Server,
    pub(super) pool: RTSPSessionPool,
    pub(super) shared: Arc<Shared>,
    /// Where RTSPS is served, and then nothing else.
    pub(super) hops: Option<Hops>,
    pub(super) connections: Vec<Entry>,
    pub(super) refusals: Vec<Refusal>,
}

/// A connection that was let in, and whether it was reported as stuck.
pub(super) struct Entry {
    connection: Weak<Connection>,
    stuck: bool,
}

impl Door {
    /// Works until it is told to stop, then ends every connection, with a bound.
    pub(super) fn keep(mut self, stopping: &Stopping) {
        let mut expired = Instant::now();
        while !stopping.is_stopping() {
            self.wait();
            self.accept();
            self.refusals.retain_mut(Refusal::proceed);
            self.sweep(Timestamp::now());
            if expired.elapsed() > EXPIRE_EVERY {
                expired = Instant::now();
                self.expire();
            }
        }
        self.stop();
    }

    /// Waits until somebody is at the door, or a turn is over.
    fn wait(&self) {
        let refused =
            self.refusals.iter().map(|refusal| PollFd::new(refusal.stream(), PollFlags::IN));
        let listener = PollFd::new(&self.listener, PollFlags::IN);
        let mut fds: Vec<PollFd<'_>> = std::iter::once(listener).chain(refused).collect();
        let turn = Timespec { tv_sec: 0, tv_nsec: i64::from(LOOK_EVERY.subsec_nanos()) };
        if let Err(error) = poll(&mut fds, Some(&turn))
            && error != rustix::io::Errno::INTR
        {
            tracing::error!(%error, "the RTSP door cannot wait");
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTS_PER_TURN {
            match self.listener.accept() {
                Ok((stream, address)) => self.receive(stream, address),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => {
                    // The peer gave up in between, or no descriptor is left: the next turn tells.
                    if let Some(suppressed) = log::heard() {
                        tracing::warn!(%error, suppressed, "an RTSP connection was not accepted");
                    }
                    std::thread::sleep(LOOK_EVERY);
                    return;
                }
            }
        }
    }

    fn receive(&mut self, stream: TcpStream, address: SocketAddr) {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let permit = match self.admit(address.ip()) {
            Ok(permit) => permit,
            Err(refusal) => {
                self.shared.metrics.refused(DOOR, refusal.as_str());
                let labels = ["rtsp", refusal.as_str()];
                self.shared.metrics.sessions_refused.with_label_values(&labels).inc();
                if let Some(suppressed) = log::heard() {
                    tracing::info!(%address, %refusal, suppressed, "RTSP connection refused");
                }
                if self.refusals.len() < refusals_max(refusal)
                    && stream.set_nonblocking(true).is_ok()
                    && let Ok(stream) = self.without_tls(stream, address)
                {
                    let patience = if self.hops.is_some() { PATIENCE_TLS } else { PATIENCE };
                    self.refusals.push(Refusal::new(stream, refusal.retry_after(), patience));
                }
                return;
            }
        };
        let entered = configure(&stream)
            .and_then(|()| Connection::new(&stream, address, permit, self.hops.is_some()))
            .map_err(|error| error.to_string())
            .and_then(|connection| self.enter(stream, Arc::new(connection)));
        if let Err(error) = entered
            && let Some(suppressed) = log::heard()
        {
            tracing::warn!(%address, error, suppressed, "RTSP connection dropped");
        }
    }

    /// A place for somebody at `address`; none yet where visitors must say who they are: places, and
    /// the rate of joins, are not for strangers to use up.
    fn admit(&self, address: IpAddr) -> Result<Option<Permit>, admission::Refusal> {
        let permit = if self.shared.auth.is_open() {
            let now = Timestamp::now().since_boot();
            Some(self.shared.admission.admit(Kind::Rtsp, address, now)?)
        } else {
            self.admit_stranger(network(address))?;
            None
        };
        Some(permit)
            .filter(|_| descriptors::admits(Guest::Rtsp))
            .ok_or(admission::Refusal::Descriptors)
    }

    fn admit_stranger(&self, from: IpAddr) -> Result<(), admission::Refusal> {
        let connections = self.connections.iter().filter_map(|entry| entry.connection.upgrade());
        let strangers = connections.filter(|connection| !connection.is_admitted());
        let addresses: Vec<IpAddr> =
            strangers.map(|connection| network(connection.address().ip())).collect();
        let here = addresses.iter().filter(|address| **address == from).count();
        if here >= STRANGERS_PER_ADDRESS_MAX {
            return Err(admission::Refusal::Address { max: STRANGERS_PER_ADDRESS_MAX });
        }
        if addresses.len() >= STRANGERS_MAX {
            return Err(admission::Refusal::Sessions { kind: Kind::Rtsp, max: STRANGERS_MAX });
        }
        Ok(())
    }

    /// Hands the socket over to gst-rtsp-server.
    fn enter(&mut self, stream: TcpStream, connection: Arc<Connection>) -> Result<(), String> {
        let address = connection.address();
        let weak = Arc::downgrade(&connection);
        let stream = self.without_tls(stream, address).map_err(|error| error.to_string())?;
        let socket = gio::Socket::from_fd(stream).map_err(|error| error.to_string())?;
        self.server.expect(connection);
        let entered = self.server.transfer_connection(
            socket,
            &address.ip().to_string(),
            i32::from(address.port()),
            None,
        );
        entered.map_err(|error| error.to_string())?;
        self.connections.push(Entry { connection: weak, stuck: false });
        Ok(())
    }

    /// Where to speak RTSP with the peer at `stream`.
    fn without_tls(&self, stream: TcpStream, address: SocketAddr) -> std::io::Result<OwnedFd> {
        match &self.hops {
            Some(hops) => hops.begin(stream, address),
            None => Ok(stream.into()),
        }
    }

    /// Ends connections whose session was asked to end, and those that are idle.
    fn sweep(&mut self, now: Timestamp) {
        let metrics = &self.shared.metrics;
        self.connections.retain_mut(|entry| {
            let Some(connection) = entry.connection.upgrade() else { return false };
            let address = connection.address();
            if let Some(closing) = connection.closing_for(now) {
                if closing > STUCK_AFTER && !entry.stuck {
                    entry.stuck = true;
                    metrics.teardowns_stuck.inc();
                    tracing::error!(%address, "RTSP connection does not end");
                }
            } else if connection.session().is_some_and(|session| session.end_reason().is_some()) {
                connection.shut_down();
            } else if connection.sends_too_much(now) {
                if let Some(suppressed) = log::heard() {
                    tracing::warn!(%address, suppressed, "RTSP connection sends on without a request");
                }
                metrics.refused(DOOR, "request-too-large");
                connection.cut_off();
            } else if connection.is_stranger_for_long(now) || connection.activity().is_idle(now) {
                if let Some(suppressed) = log::heard() {
                    tracing::info!(%address, suppressed, "RTSP connection is idle and is closed");
                }
                metrics.refused(DOOR, "idle");
                connection.end(End::Idle);
            }
            true
        });
    }

    /// Ends sessions that nobody kept alive: UDP viewers that have gone without a word.
    fn expire(&self) {
        let now = glib::monotonic_time();
        let mut any = false;
        self.pool.filter(Some(&mut |_, session| {
            if session.is_expired_usec(now) {
                any = true;
                let medias = session.filter(None).into_iter().filter_map(|media| media.media());
                for media in medias.filter_map(|media| media.downcast::<Media>().ok()) {
                    media.end(End::Vanished);
                }
            }
            RTSPFilterResult::Keep
        }));
        if any {
            // Takes the sessions' pipelines down, which may block.
            let pool = self.pool.clone();
            let cleanup = Cleanup::new(move || {
                pool.cleanup();
            });
            self.shared.teardowns.take("expired RTSP sessions", cleanup);
        }
    }

    fn stop(mut self) {
        for session in self.shared.registry.list() {
            if matches!(session.transport, Transport::RtspTcp | Transport::RtspUdp) {
                session.end(End::Shutdown);
            }
        }
        for connection in self.connections.iter().filter_map(|entry| entry.connection.upgrade()) {
            connection.shut_down();
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        while !self.connections.is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
            self.connections.retain(|entry| entry.connection.strong_count() > 0);
        }
        if !self.connections.is_empty() {
            tracing::error!(connections = self.connections.len(), "RTSP connections did not end");
        }
    }
}

/// How many may be refused at a time for this reason: each holds a descriptor meanwhile.
fn refusals_max(refusal: admission::Refusal) -> usize {
    if refusal == admission::Refusal::Descriptors { REFUSALS_MAX / 2 } else { REFUSALS_MAX }
}

/// Bounds what the kernel does for a viewer.
fn configure(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nonblocking(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(20))
        .with_interval(Duration::from_secs(5))
        .with_retries(3);
    socket.set_tcp_keepalive(&keepalive)
}
