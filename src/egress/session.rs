//! Who watches: every session by name, what it got, and how to end it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Serialize, Serializer};
use tokio::sync::watch;
use utoipa::ToSchema;

use crate::catalog::Rendition;
use crate::clock::Timestamp;
use crate::metrics::Metrics;

/// How a session's frames travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// WebRTC: SRTP over UDP.
    Webrtc,
    /// RTSP with the media in it.
    RtspTcp,
    /// RTSP with the media beside it, over UDP.
    RtspUdp,
}

impl Transport {
    /// The name used in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Webrtc => "webrtc",
            Self::RtspTcp => "rtsp_tcp",
            Self::RtspUdp => "rtsp_udp",
        }
    }
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum End {
    /// The viewer said goodbye.
    Left = 1,
    /// The viewer fell silent, or its path broke.
    Vanished,
    /// Offer, answer and connection took too long.
    NegotiationTimeout,
    /// The certificate of the WebRTC peer was not the one that its offer promised.
    FingerprintMismatch,
    /// The viewer did not take what was sent, for longer than the limit.
    Backlog,
    /// The viewer sent more than one may have cause to send.
    Flood,
    /// A connection that never asked for anything, or stopped asking.
    Idle,
    /// An operator ended it.
    Operator,
    /// The server stops.
    Shutdown,
    /// Something failed; the log has it under the session's name.
    Failed,
}

impl End {
    /// Every reason there is.
    pub const ALL: [Self; 10] = [
        Self::Left,
        Self::Vanished,
        Self::NegotiationTimeout,
        Self::FingerprintMismatch,
        Self::Backlog,
        Self::Flood,
        Self::Idle,
        Self::Operator,
        Self::Shutdown,
        Self::Failed,
    ];

    /// The name used in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Vanished => "vanished",
            Self::NegotiationTimeout => "negotiation_timeout",
            Self::FingerprintMismatch => "fingerprint_mismatch",
            Self::Backlog => "backlog",
            Self::Flood => "flood",
            Self::Idle => "idle",
            Self::Operator => "operator",
            Self::Shutdown => "shutdown",
            Self::Failed => "failed",
        }
    }
}

/// Name of a session: 128 random bits, so that nobody can guess another's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, ToSchema)]
#[schema(value_type = String)]
pub struct SessionId(Arc<str>);

impl SessionId {
    /// A name nobody has.
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().simple().to_string().into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A count that one side adds to and any side reads.
#[derive(Debug, Default, ToSchema)]
#[schema(value_type = u64)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds to it.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Replaces it.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// Reads it.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.get())
    }
}

/// What a session got, and what its peer says of it.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Stats {
    /// Frames handed to the session.
    pub delivered: Count,
    /// Frames published in its time that it did not get.
    pub skipped: Count,
    /// Bytes of H.264 handed to the session.
    pub bytes: Count,
    /// Round-trip time as the peer's reports give it, in microseconds; 0 unknown.
    pub rtt_us: Count,
    /// Packets the peer reports as lost.
    pub packets_lost: Count,
    /// Key frames the peer asked for (PLI and FIR).
    pub keyframe_requests: Count,
    /// Bits a second the path is thought to carry; 0 unknown.
    pub estimate_bps: Count,
}

/// One session, as `/api/v1/sessions` shows it.
#[derive(Debug)]
pub struct Session {
    /// Its name.
    pub id: SessionId,
    /// How its frames travel.
    pub transport: Transport,
    /// What it watches.
    pub rendition: Arc<Rendition>,
    /// Where the viewer is.
    pub address: SocketAddr,
    /// Who it is, where visitors must say so.
    pub user: Option<Arc<str>>,
    /// When it asked to come in.
    pub started: Timestamp,
    /// What it got.
    pub stats: Arc<Stats>,
    end: AtomicU8,
    ending: watch::Sender<bool>,
}

impl Session {
    /// Asks the session to end. The first reason given stays.
    pub fn end(&self, reason: End) {
        let _ = self.end.compare_exchange(0, reason as u8, Ordering::AcqRel, Ordering::Acquire);
        self.ending.send_replace(true);
    }

    /// The reason given, if one was.
    pub fn end_reason(&self) -> Option<End> {
        let code = self.end.load(Ordering::Acquire);
        End::ALL.into_iter().find(|end| *end as u8 == code)
    }

    /// Resolves when the session was asked to end.
    pub async fn ending(&self) {
        // The sender lives in `self`: it cannot be gone.
        let _ = self.ending.subscribe().wait_for(|ending| *ending).await;
    }
}

/// Every live session. Cheap to clone; all clones are one registry.
#[derive(Clone, Debug)]
pub struct Registry {
    sessions: Arc<Mutex<BTreeMap<SessionId, Arc<Session>>>>,
    metrics: Arc<Metrics>,
}

/// A session's place in the registry. Dropping it takes the session out, counts its end by
/// reason, and writes the one line that says how it went.
#[derive(Debug)]
#[must_use = "a registration that is dropped takes the session out at once"]
pub struct Registration {
    registry: Registry,
    session: Arc<Session>,
}

impl Registry {
    /// A registry with nobody in it.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { sessions: Arc::default(), metrics }
    }

    /// Notes a new session.
    pub fn register(
        &self,
        transport: Transport,
        rendition: Arc<Rendition>,
        address: SocketAddr,
        user: Option<&Arc<str>>,
    ) -> Registration {
        let session = Arc::new(Session {
            id: SessionId::random(),
            transport,
            rendition,
            address,
            user: user.cloned(),
            started: Timestamp::now(),
            stats: Arc::default(),
            end: AtomicU8::new(0),
            ending: watch::Sender::new(false),
        });
        self.lock().insert(session.id.clone(), Arc::clone(&session));
        let labels = [&*session.rendition.camera, transport.as_str()];
        self.metrics.sessions.with_label_values(&labels).inc();
        tracing::info!(
            session = %session.id, camera = %session.rendition.camera,
            rendition = %session.rendition.name, transport = transport.as_str(),
            %address, user = session.user.as_deref(), "session starts"
        );
        Registration { registry: self.clone(), session }
    }

    /// The sessions there are now, in the order of their names.
    pub fn list(&self) -> Vec<Arc<Session>> {
        self.lock().values().cloned().collect()
    }

    /// The session called `id`.
    pub fn get(&self, id: &str) -> Option<Arc<Session>> {
        self.lock().get(&SessionId(id.into())).cloned()
    }

    /// Asks every session to end.
    pub fn end_all(&self, reason: End) {
        for session in self.list() {
            session.end(reason);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<SessionId, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registration {
    /// The session.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let session = &self.session;
        self.registry.lock().remove(&session.id);
        let (camera, transport) = (&*session.rendition.camera, session.transport.as_str());
        let end = session.end_reason().unwrap_or(End::Failed).as_str();
        let metrics = &self.registry.metrics;
        metrics.sessions.with_label_values(&[camera, transport]).dec();
        metrics.sessions_ended.with_label_values(&[camera, transport, end]).inc();
        // As 64 bits: a JSON log writes the 128 bits of `as_millis` as text.
        let age = Timestamp::now().since(session.started);
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(
            session = %session.id, camera, rendition = %session.rendition.name, transport,
            address = %session.address, user = session.user.as_deref(), end,
            age_ms,
            delivered = session.stats.delivered.get(), skipped = session.stats.skipped.get(),
            bytes = session.stats.bytes.get(), "session ends"
        );
    }
}
