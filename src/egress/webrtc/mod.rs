//! WebRTC: from an offer to a session that ends well.
//!
//! [`WebrtcServer`] is what the HTTP side uses. An [`offer`] is read and matched here, an
//! [`engine`] takes it (str0m, or webrtcbin where the configuration needs it), the [`answer`] is
//! written here, and a `session` task keeps watch, by the decisions of [`course`], until the viewer
//! leaves, vanishes, or is asked to go.

pub mod answer;
pub mod candidate;
pub mod course;
pub mod engine;
pub mod liveness;
pub mod offer;
pub mod rtcp;
pub mod servers;

mod addresses;
mod fingerprint;
mod h264;
mod sdp;
mod session;
mod str0m;
mod webrtcbin;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::admission::Permit;
use crate::catalog::Rendition;
use crate::config;
use crate::descriptors::Guest;
use crate::egress::session::{End, Registry, Session, SessionId, Transport};
use crate::error::Error;
use crate::guard::{Cleanup, Teardowns};
use crate::metrics::Metrics;
use crate::shutdown::Stopping;
use candidate::{Candidate, Unusable};
use course::Heard;
use engine::{Accepted, Engine, EngineError, Event, Opening, Settings};
use offer::{Offer, OfferError};
use str0m::{Shared, Str0m};
use webrtcbin::Webrtcbin;

/// How long an answer waits for our candidates where it must carry them: host addresses take a
/// few milliseconds, STUN and TURN a round trip.
const GATHER_HOST_TIMEOUT: Duration = Duration::from_millis(300);
const GATHER_SERVER_TIMEOUT: Duration = Duration::from_secs(2);

/// News that may wait for a session's task: a viewer's worth of candidates and changes of state.
const EVENTS_MAX: usize = 128;

/// Every WebRTC session. Cheap to clone; all clones are one server.
#[derive(Clone, Debug)]
pub struct WebrtcServer {
    settings: Settings,
    registry: Registry,
    stopping: Stopping,
    sessions: Arc<Mutex<HashMap<SessionId, Place>>>,
}

/// How a session's candidates get to it.
#[derive(Debug)]
struct Place {
    sender: mpsc::Sender<Candidate>,
    /// How many more it takes.
    left: usize,
}

/// How candidates of ours reach the viewer.
#[derive(Debug)]
pub enum Trickle {
    /// In the answer, which waits for them, with a bound (WHEP).
    Gathered,
    /// One by one through this channel, which is closed after the last; the answer does not wait
    /// (WebSocket). A full channel loses candidates: give it 32 places.
    Trickle(mpsc::Sender<Candidate>),
}

/// A session that has begun.
#[derive(Debug)]
pub struct Opened {
    /// The session; `end(End::Left)` is how the viewer leaves.
    pub session: Arc<Session>,
    /// The answer.
    pub answer_sdp: String,
}

/// Why a session did not begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The offer cannot be answered; the viewer can mend it.
    #[error(transparent)]
    Offer(#[from] OfferError),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// This machine has no address on the configured interfaces.
    #[error("no network address to offer on the configured interfaces; see webrtc.interfaces")]
    NoAddress,
    /// The program stops.
    #[error("the server is stopping")]
    Stopping,
}

/// Why a candidate was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CandidateError {
    /// There is no such session (any more).
    #[error("there is no such session")]
    NoSession,
    /// It reads as no candidate.
    #[error(transparent)]
    Malformed(Unusable),
    /// It has as many as one session may have.
    #[error("these are more candidates than one session may have")]
    TooMany,
}

/// What is known of our candidates when the answer is written.
#[derive(Default)]
struct Gathering {
    candidates: Vec<Candidate>,
    complete: bool,
    /// Other news of the engine that came meanwhile.
    early: Vec<Event>,
    /// Where later candidates go.
    local: Option<mpsc::Sender<Candidate>>,
}

impl WebrtcServer {
    /// A server without sessions.
    pub fn new(
        config: config::Webrtc,
        metrics: Arc<Metrics>,
        registry: Registry,
        teardowns: Teardowns,
        stopping: Stopping,
    ) -> Self {
        let shared = Arc::new(Shared::new(&metrics));
        let settings = Settings { config: Arc::new(config), metrics, teardowns, shared };
        Self { settings, registry, stopping, sessions: Arc::default() }
    }

    /// Makes what is made once in a process, so that no viewer waits for it: a certificate, whose
    /// key takes webrtcbin up to seconds on a small Pi.
    ///
    /// # Errors
    /// Where it cannot be made, or one of webrtcbin's elements is missing.
    pub async fn warm_up(&self) -> Result<(), Error> {
        let settings = self.settings.clone();
        let made = tokio::task::spawn_blocking(move || {
            if settings.config.uses_webrtcbin() {
                return webrtcbin::warm_up();
            }
            settings.shared.warm_up().map_err(|error| Error::Internal(error.to_string()))
        });
        made.await.map_err(|panic| Error::Internal(format!("warm-up: {panic}")))?
    }

    /// Answers an offer, and runs the session in a task of its own.
    ///
    /// # Errors
    /// Where the offer cannot be answered, or the engine fails. Dropping the future ends it all.
    pub async fn open(
        &self,
        rendition: Arc<Rendition>,
        address: SocketAddr,
        permit: Permit,
        offer_sdp: &str,
        trickle: Trickle,
    ) -> Result<Opened, OpenError> {
        if self.settings.config.uses_webrtcbin() {
            self.open_with::<Webrtcbin>(rendition, address, permit, offer_sdp, trickle).await
        } else {
            self.open_with::<Str0m>(rendition, address, permit, offer_sdp, trickle).await
        }
    }

    async fn open_with<E: Engine>(
        &self,
        rendition: Arc<Rendition>,
        address: SocketAddr,
        permit: Permit,
        offer_sdp: &str,
        trickle: Trickle,
    ) -> Result<Opened, OpenError> {
        if self.stopping.is_stopping() {
            return Err(OpenError::Stopping);
        }
        let stream = rendition.format().and_then(|format| format.profile_level_id());
        let mut offer = Offer::parse(offer_sdp, stream.as_deref())?;
        let candidates_max = permit.session_limits().candidates_max;
        offer.candidates.truncate(candidates_max);
        let addresses = addresses::local(&self.settings.config.interfaces).unwrap_or_default();
        if addresses.is_empty() {
            return Err(OpenError::NoAddress);
        }
        let user = permit.user();
        let registration = self.registry.register(Transport::Webrtc, rendition, address, user);
        let session = Arc::clone(registration.session());
        let heard = Arc::new(Heard::default());
        let (sender, mut events) = mpsc::channel(EVENTS_MAX);
        let opening = Opening {
            offer: offer.clone(),
            addresses,
            name: session.id.to_string(),
            events: sender,
            listener: session::listener(&heard, &session, &self.settings.metrics),
        };
        // Runs where the caller gives up while the answer is being written.
        let abandoned = Cleanup::new({
            let session = Arc::clone(&session);
            move || session.end(End::Left)
        });
        let opened = E::open(opening, &self.settings).await;
        let (engine, accepted) = opened.inspect_err(|error| {
            tracing::error!(session = %session.id, %error, "no answer");
            session.end(End::Failed);
        })?;
        for candidate in &offer.candidates {
            engine.add_candidate(candidate);
        }
        let gathering = match trickle {
            Trickle::Gathered => self.gather(&mut events).await,
            Trickle::Trickle(local) => Gathering { local: Some(local), ..Gathering::default() },
        };
        let opened = self.opened(&session, &offer, &accepted, &gathering);
        let left = candidates_max.saturating_sub(offer.candidates.len());
        let (place, remote) = self.place(&session.id, left);
        let running = session::Running {
            engine,
            events,
            early: gathering.early,
            remote,
            local: gathering.local,
            heard,
            registration,
            permit,
            place,
            settings: self.settings.clone(),
            stopping: self.stopping.clone(),
        };
        tokio::spawn(running.run());
        abandoned.dismiss();
        Ok(opened)
    }

    /// Hands one of the viewer's candidates (`candidate:…`) to its session. Those of no use here
    /// are passed over: see [`Unusable::Useless`].
    ///
    /// # Errors
    /// Where there is no such session, or the text is no candidate.
    pub fn add_candidate(
        &self,
        session: &SessionId,
        candidate: &str,
    ) -> Result<(), CandidateError> {
        let mut sessions = self.lock();
        let place = sessions.get_mut(session).ok_or(CandidateError::NoSession)?;
        // An empty candidate, and `end-of-candidates`, say that there are no more.
        if candidate.trim().is_empty() || candidate.contains("end-of-candidates") {
            return Ok(());
        }
        // Those of no use count too: they come from the same flood.
        place.left = place.left.checked_sub(1).ok_or(CandidateError::TooMany)?;
        match Candidate::parse(candidate) {
            Ok(candidate) => place.sender.try_send(candidate).map_err(|_| CandidateError::TooMany),
            Err(Unusable::Useless) => Ok(()),
            Err(malformed) => Err(CandidateError::Malformed(malformed)),
        }
    }

    /// What a session with this configuration takes of the process's descriptors.
    pub fn guest_of(config: &config::Webrtc) -> Guest {
        if config.uses_webrtcbin() { Guest::Webrtcbin } else { Guest::Str0m }
    }

    /// What a session of this server takes of them.
    pub fn guest(&self) -> Guest {
        Self::guest_of(&self.settings.config)
    }

    /// Sessions that have begun and not ended.
    pub fn sessions(&self) -> usize {
        self.lock().len()
    }

    fn opened(
        &self,
        session: &Arc<Session>,
        offer: &Offer,
        accepted: &Accepted,
        gathering: &Gathering,
    ) -> Opened {
        let answer = answer::Answer {
            offer,
            transport: &accepted.transport,
            source: &accepted.source,
            candidates: &gathering.candidates,
            gathered: gathering.complete,
        };
        Opened { session: Arc::clone(session), answer_sdp: answer.sdp() }
    }

    /// Collects candidates until all are there, or the bound has passed.
    async fn gather(&self, events: &mut mpsc::Receiver<Event>) -> Gathering {
        let config = &self.settings.config;
        let servers = !config.stun_servers.is_empty() || !config.turn_servers.is_empty();
        let bound = if servers { GATHER_SERVER_TIMEOUT } else { GATHER_HOST_TIMEOUT };
        let deadline = Instant::now() + bound;
        let mut gathering = Gathering::default();
        while let Ok(event) = tokio::time::timeout_at(deadline, events.recv()).await {
            match event {
                Some(Event::Candidate(candidate)) => gathering.candidates.push(candidate),
                Some(Event::Gathered) => gathering.complete = true,
                Some(other) => gathering.early.push(other),
                None => break,
            }
            if gathering.complete {
                break;
            }
        }
        gathering
    }

    /// Puts a session into the map; dropping the guard takes it out.
    fn place(&self, id: &SessionId, left: usize) -> (Cleanup, mpsc::Receiver<Candidate>) {
        let (sender, receiver) = mpsc::channel(config::CANDIDATES_MAX);
        self.lock().insert(id.clone(), Place { sender, left });
        let (sessions, id) = (Arc::clone(&self.sessions), id.clone());
        let place = Cleanup::new(move || {
            sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        });
        (place, receiver)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SessionId, Place>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
