//! One viewer from its offer to its end, as one task.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use super::candidate::Candidate;
use super::engine::{Engine, Event, Listener, Settings};
use super::liveness::{Connection, Gone, Liveness};
use super::offer::CANDIDATES_MAX;
use super::rtcp;
use crate::admission::Permit;
use crate::clock::Timestamp;
use crate::distributor::Cause;
use crate::egress::feed::FeedEnd;
use crate::egress::session::{End, Registration, Session};
use crate::guard::Cleanup;
use crate::shutdown::Stopping;

/// How often a viewer's liveness is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Key frames that one viewer asks for are passed on at most this often; a flood costs the others
/// nothing.
const KEY_FRAME_EVERY: Duration = Duration::from_millis(500);

/// What the viewer's reports leave behind; written on the engine's threads.
#[derive(Debug, Default)]
pub struct Heard {
    /// Nanoseconds of the one clock; 0 where nothing was heard yet.
    at: AtomicU64,
    /// The same of the last key frame passed on.
    key_frame: AtomicU64,
    bye: std::sync::atomic::AtomicBool,
}

impl Heard {
    fn at(&self) -> Option<Timestamp> {
        let nanoseconds = self.at.load(Ordering::Relaxed);
        (nanoseconds > 0).then(|| Timestamp::from_nanos(nanoseconds))
    }

    /// What an engine calls with every report.
    pub fn listener(self: &Arc<Self>, session: &Arc<Session>) -> Listener {
        let (heard, session) = (Arc::clone(self), Arc::clone(session));
        Box::new(move |report| heard.hear(&session, report, Timestamp::now()))
    }

    fn hear(&self, session: &Session, report: rtcp::Report, now: Timestamp) {
        self.at.store(now.as_nanos(), Ordering::Relaxed);
        if let Some(lost) = report.packets_lost {
            session.stats.packets_lost.set(lost.into());
        }
        if let Some(round_trip) = report.round_trip {
            session.stats.rtt_us.set(u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX));
        }
        if report.bye {
            self.bye.store(true, Ordering::Relaxed);
        }
        if report.key_frame_requests > 0 {
            session.stats.keyframe_requests.add(report.key_frame_requests.into());
            let last = Timestamp::from_nanos(self.key_frame.load(Ordering::Relaxed));
            if last.as_nanos() == 0 || now.since(last) >= KEY_FRAME_EVERY {
                self.key_frame.store(now.as_nanos(), Ordering::Relaxed);
                session.rendition.hub.request_key_frame(Cause::Viewer);
            }
        }
    }
}

/// Everything that belongs to one viewer; dropping it gives all of it back.
pub struct Running<E: Engine> {
    /// The engine.
    pub engine: E,
    /// What the engine says.
    pub events: mpsc::Receiver<Event>,
    /// What it said while the answer was being written.
    pub early: Vec<Event>,
    /// The viewer's candidates that came after the offer.
    pub remote: mpsc::Receiver<Candidate>,
    /// Where our own candidates go, while the viewer takes them one by one.
    pub local: Option<mpsc::Sender<Candidate>>,
    /// What the viewer reported.
    pub heard: Arc<Heard>,
    /// Its place among the sessions.
    pub registration: Registration,
    /// Its right to be here.
    pub permit: Permit,
    /// Its place in the server's map.
    pub place: Cleanup,
    /// Common settings.
    pub settings: Settings,
    /// When the program stops.
    pub stopping: Stopping,
}

type Feed = Pin<Box<dyn Future<Output = FeedEnd> + Send>>;

/// What happened.
enum News {
    Asked,
    Stopping,
    Event(Option<Event>),
    Remote(Option<Candidate>),
    Fed(FeedEnd),
    Tick,
}

impl<E: Engine> Running<E> {
    /// Runs the session to its end, and gives back what it held.
    pub async fn run(mut self) {
        let session = Arc::clone(self.registration.session());
        let end = self.until_end(&session).await;
        session.end(end);
        let Self { engine, registration, permit, place, .. } = self;
        drop(place);
        engine.close().await;
        drop(registration);
        drop(permit);
    }

    async fn until_end(&mut self, session: &Arc<Session>) -> End {
        let config = &self.settings.config;
        let mut liveness = Liveness::new(
            session.started,
            Duration::from_millis(config.negotiation_timeout_ms),
            Duration::from_millis(config.silence_timeout_ms),
        );
        let mut feed: Option<Feed> = None;
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut candidates_left = CANDIDATES_MAX;
        for event in std::mem::take(&mut self.early) {
            if let Some(end) = self.event(Some(event), session, &mut liveness, &mut feed) {
                return end;
            }
        }
        let ending = session.ending();
        tokio::pin!(ending);
        loop {
            let news = tokio::select! {
                biased;
                () = &mut ending => News::Asked,
                () = self.stopping.wait() => News::Stopping,
                event = self.events.recv() => News::Event(event),
                end = fed(&mut feed) => News::Fed(end),
                candidate = self.remote.recv(), if candidates_left > 0 => News::Remote(candidate),
                _ = tick.tick() => News::Tick,
            };
            let end = match news {
                News::Asked => Some(session.end_reason().unwrap_or(End::Failed)),
                News::Stopping => Some(End::Shutdown),
                News::Event(event) => self.event(event, session, &mut liveness, &mut feed),
                News::Fed(end) => Some(feed_end(session, end)),
                News::Remote(candidate) => {
                    candidates_left = candidate.map_or(0, |candidate| {
                        self.engine.add_candidate(&candidate);
                        candidates_left - 1
                    });
                    None
                }
                News::Tick => self.look(&liveness),
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    fn event(
        &mut self,
        event: Option<Event>,
        session: &Arc<Session>,
        liveness: &mut Liveness,
        feed: &mut Option<Feed>,
    ) -> Option<End> {
        match event {
            Some(Event::Candidate(candidate)) => {
                if let Some(local) = &self.local
                    && local.try_send(candidate).is_err()
                {
                    tracing::debug!(session = %session.id, "the viewer takes no more candidates");
                }
                None
            }
            Some(Event::Gathered) => {
                // Closing the channel is what says that there are no more.
                self.local = None;
                None
            }
            Some(Event::Connection(connection)) => {
                liveness.connection(connection, Timestamp::now());
                tracing::debug!(session = %session.id, ?connection, "connection");
                if connection == Connection::Connected && feed.is_none() {
                    return self.start(session, feed);
                }
                self.look(liveness)
            }
            Some(Event::Failed(error)) => {
                tracing::error!(session = %session.id, error, "the WebRTC engine failed");
                Some(End::Failed)
            }
            None => Some(End::Failed),
        }
    }

    /// Frames are asked for only now, so that the first is an IDR that gets through.
    fn start(&mut self, session: &Arc<Session>, feed: &mut Option<Feed>) -> Option<End> {
        match session.rendition.hub.subscribe() {
            Ok(subscriber) => {
                let metrics = Arc::clone(&self.settings.metrics);
                *feed = Some(Box::pin(self.engine.feed(subscriber, Arc::clone(session), metrics)));
                None
            }
            Err(error) => {
                tracing::error!(session = %session.id, %error, "no seat at the distributor");
                Some(End::Failed)
            }
        }
    }

    fn look(&self, liveness: &Liveness) -> Option<End> {
        if self.heard.bye.load(Ordering::Relaxed) {
            return Some(End::Left);
        }
        liveness.check(Timestamp::now(), self.heard.at()).map(|gone| match gone {
            Gone::NotConnected => End::NegotiationTimeout,
            Gone::Vanished => End::Vanished,
            Gone::Left => End::Left,
        })
    }
}

async fn fed(feed: &mut Option<Feed>) -> FeedEnd {
    match feed {
        Some(feed) => feed.await,
        None => std::future::pending().await,
    }
}

fn feed_end(session: &Session, end: FeedEnd) -> End {
    match end {
        FeedEnd::Asked => session.end_reason().unwrap_or(End::Failed),
        FeedEnd::Finished => End::Shutdown,
        FeedEnd::Stalled => End::Backlog,
        FeedEnd::Refused(error) => {
            tracing::error!(session = %session.id, %error, "the pipeline takes no more frames");
            End::Failed
        }
    }
}
