//! One TCP connection: its place at the door, and the way to end it.

use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use glib::prelude::*;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::GetStruct;
use socket2::SockRef;

use super::idle::Activity;
use super::intake::Intake;
use super::media::Media;
use crate::admission::{Admission, Kind, Permit, Refusal};
use crate::auth::{Nonce, Visitor};
use crate::clock::Timestamp;
use crate::egress::session::{End, Session};

/// What the kernel knows of a TCP connection.
#[derive(Clone, Copy, Debug)]
struct TcpInfo;

/// The beginning of `struct tcp_info`, up to `tcpi_bytes_received` (Linux 4.2), in words of 64 bits:
/// neither libc nor nix know the fields that far.
type TcpInfoWords = [u64; 17];

nix::getsockopt_impl!(
    TcpInfo,
    libc::IPPROTO_TCP,
    libc::TCP_INFO,
    TcpInfoWords,
    GetStruct<TcpInfoWords>
);

/// How long a connection may take to say who it is, where visitors must: players do it at once.
const LOGIN_MAX: Duration = Duration::from_secs(10);

/// Medias that a connection may have at a time: one it plays, and one it was described since.
const MEDIAS_MAX: usize = 2;

/// What is known of one connection. Lives as long as gst-rtsp-server's client for it; its place
/// at the door is given back with it.
#[derive(Debug)]
pub(super) struct Connection {
    address: SocketAddr,
    /// Ours, as the viewer knows it, where gst-rtsp-server cannot tell by its own end.
    local: Option<IpAddr>,
    socket: TcpStream,
    opened: Timestamp,
    /// When it last asked for something, in nanoseconds of the one clock; 0 never.
    asked: AtomicU64,
    /// When it was shut down from this side, in nanoseconds of the one clock; 0 not yet.
    closing: AtomicU64,
    /// What it is challenged with, where its player speaks Digest.
    nonce: Nonce,
    /// What came since it last asked for something.
    intake: Mutex<Intake>,
    state: Mutex<State>,
    /// Its place, from when it has one: where visitors must say who they are, from when they have.
    permit: OnceLock<Permit>,
}

#[derive(Debug, Default)]
struct State {
    visitor: Option<Visitor>,
    session: Option<Arc<Session>>,
    playing: bool,
    medias: Vec<glib::WeakRef<Media>>,
}

impl Connection {
    /// Notes a connection that was let in; `tls` says that gst-rtsp-server does not get to see
    /// this socket.
    ///
    /// # Errors
    /// Where the socket cannot be cloned: no file descriptor is left.
    pub(super) fn new(
        socket: &TcpStream,
        address: SocketAddr,
        permit: Option<Permit>,
        tls: bool,
    ) -> std::io::Result<Self> {
        let local = if tls { Some(socket.local_addr()?.ip().to_canonical()) } else { None };
        Ok(Self {
            address,
            local,
            socket: socket.try_clone()?,
            opened: Timestamp::now(),
            asked: AtomicU64::new(0),
            closing: AtomicU64::new(0),
            nonce: Nonce::random(),
            intake: Mutex::default(),
            state: Mutex::default(),
            permit: permit.map_or_else(OnceLock::new, OnceLock::from),
        })
    }

    /// Where the viewer is.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who it is, where visitors must say so and it has.
    pub(super) fn user(&self) -> Option<&Arc<str>> {
        self.permit.get().and_then(Permit::user)
    }

    /// What it is challenged with.
    pub(super) const fn nonce(&self) -> &Nonce {
        &self.nonce
    }

    /// Who it proved to be.
    pub(super) fn visitor(&self) -> Option<Visitor> {
        self.state().visitor.clone()
    }

    /// Notes who it proved to be.
    pub(super) fn set_visitor(&self, visitor: &Visitor) {
        self.state().visitor = Some(visitor.clone());
    }

    /// Whether it has a place.
    pub(super) fn is_admitted(&self) -> bool {
        self.permit.get().is_some()
    }

    /// Gives it a place, if it has none, which counts as one of `user`'s.
    ///
    /// # Errors
    /// The limit that was reached.
    pub(super) fn admit(&self, admission: &Admission, user: &Arc<str>) -> Result<(), Refusal> {
        if let Some(permit) = self.permit.get() {
            return permit.count_for(user);
        }
        let now = Timestamp::now().since_boot();
        let permit = admission.admit(Kind::Rtsp, self.address.ip(), now)?;
        permit.count_for(user)?;
        // One thread answers a connection's requests.
        let _ = self.permit.set(permit);
        Ok(())
    }

    /// Whether it has taken too long to say who it is.
    pub(super) fn is_stranger_for_long(&self, now: Timestamp) -> bool {
        !self.is_admitted() && now.since(self.opened) > LOGIN_MAX
    }

    /// The address that the viewer reached, where gst-rtsp-server does not know it.
    pub(super) const fn local(&self) -> Option<IpAddr> {
        self.local
    }

    /// Notes that it asked for something.
    pub(super) fn touch(&self) {
        self.asked.store(Timestamp::now().as_nanos(), Ordering::Relaxed);
        self.intake().asked(self.received());
    }

    /// Whether it has sent more since it last asked for something than a request may be long.
    pub(super) fn sends_too_much(&self, now: Timestamp) -> bool {
        let playing = self.state().playing;
        self.intake().is_too_much(self.received(), now, playing)
    }

    /// Bytes that have come over it, as the kernel counts them; those of TLS included.
    fn received(&self) -> u64 {
        // An error means that it is closed, and nothing more comes.
        let info = getsockopt(&self.socket, TcpInfo).unwrap_or_default();
        info.last().copied().unwrap_or_default()
    }

    fn intake(&self) -> MutexGuard<'_, Intake> {
        self.intake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it without waiting for what the peer has still under way: the kernel would hold a
    /// connection for another minute whose peer is full of data to send.
    pub(super) fn cut_off(&self) {
        // Where it fails, the connection ends in the ordinary way.
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
        self.end(End::Flood);
    }

    /// Ends it, and its session for this reason.
    pub(super) fn end(&self, reason: End) {
        if let Some(session) = self.session() {
            session.end(reason);
        }
        self.shut_down();
    }

    /// What the rule of [`super::idle`] looks at.
    pub(super) fn activity(&self) -> Activity {
        let asked = self.asked.load(Ordering::Relaxed);
        Activity {
            opened: self.opened,
            asked: (asked > 0).then(|| Timestamp::from_nanos(asked)),
            playing: self.state().playing,
        }
    }

    /// Notes the session that plays over it, or that it pauses.
    pub(super) fn plays(&self, session: Option<&Arc<Session>>) {
        self.touch();
        let mut state = self.state();
        state.playing = session.is_some();
        if let Some(session) = session {
            state.session = Some(Arc::clone(session));
        }
    }

    /// Its session, if it ever played.
    pub(super) fn session(&self) -> Option<Arc<Session>> {
        self.state().session.clone()
    }

    /// Notes a media that was built for it.
    pub(super) fn adopt(&self, media: &Media) {
        let mut state = self.state();
        state.medias.retain(|media| media.upgrade().is_some());
        state.medias.push(media.downgrade());
    }

    /// Whether it has all the medias it may have.
    pub(super) fn is_full(&self) -> bool {
        self.medias().len() >= MEDIAS_MAX
    }

    /// The medias that were built for it and are not torn down yet.
    pub(super) fn medias(&self) -> Vec<Media> {
        let medias = self.state().medias.clone();
        let live = medias.iter().filter_map(glib::WeakRef::upgrade);
        live.filter(|media| !media.is_torn_down()).collect()
    }

    /// Ends it. gst-rtsp-server sees the end of the stream on its own thread, and tears down
    /// there as it does for a viewer that left.
    pub(super) fn shut_down(&self) {
        let now = Timestamp::now().as_nanos();
        let first = self.closing.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        if first.is_ok() {
            // An error means that the other side has shut it down before.
            let _ = self.socket.shutdown(Shutdown::Both);
        }
    }

    /// For how long it has been shut down and is still there.
    pub(super) fn closing_for(&self, now: Timestamp) -> Option<Duration> {
        let closing = self.closing.load(Ordering::Relaxed);
        (closing > 0).then(|| now.since(Timestamp::from_nanos(closing)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
