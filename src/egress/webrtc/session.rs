//! One viewer from its offer to its end, as one task.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::candidate::Candidate;
use super::course::{self, Course, Heard, LOOK_EVERY, Step};
use super::engine::{Engine, Event, Listener, Settings};
use crate::admission::Permit;
use crate::clock::Timestamp;
use crate::distributor::Cause;
use crate::egress::feed::FeedEnd;
use crate::egress::session::{End, Registration, Session};
use crate::guard::Cleanup;
use crate::metrics::{self, Metrics};
use crate::shutdown::Stopping;

/// What an engine calls with every report.
pub fn listener(heard: &Arc<Heard>, session: &Arc<Session>, metrics: &Arc<Metrics>) -> Listener {
    let (heard, session) = (Arc::clone(heard), Arc::clone(session));
    let metrics = Arc::clone(metrics);
    Box::new(move |report| {
        if heard.hear(&session.stats, report, Timestamp::now()) {
            session.rendition.hub.request_key_frame(Cause::Viewer);
        } else if report.key_frame_requests > 0 {
            metrics.refused(metrics::WEBRTC_DOOR, "key-frame-requests");
        }
    })
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
        let heard = Arc::clone(&self.heard);
        let mut course = Course::new(session.started, &self.settings.config, heard);
        let mut feed: Option<Feed> = None;
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut more_candidates = true;
        for event in std::mem::take(&mut self.early) {
            if let Some(end) = self.event(Some(event), session, &mut course, &mut feed) {
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
                candidate = self.remote.recv(), if more_candidates => News::Remote(candidate),
                _ = tick.tick() => News::Tick,
            };
            let end = match news {
                News::Asked => Some(session.end_reason().unwrap_or(End::Failed)),
                News::Stopping => Some(End::Shutdown),
                News::Event(event) => self.event(event, session, &mut course, &mut feed),
                News::Fed(end) => Some(feed_end(session, end)),
                News::Remote(candidate) => {
                    match candidate {
                        Some(candidate) => self.engine.add_candidate(&candidate),
                        None => more_candidates = false,
                    }
                    None
                }
                News::Tick => self.obey(course.look(Timestamp::now()), session, &mut feed),
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
        course: &mut Course,
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
                tracing::debug!(session = %session.id, ?connection, "connection");
                self.obey(course.connection(connection, Timestamp::now()), session, feed)
            }
            Some(Event::Impostor) => {
                let address = session.address;
                tracing::warn!(
                    session = %session.id, %address,
                    "the peer's certificate is not the one in its offer; somebody may be in between"
                );
                self.settings.metrics.refused(metrics::WEBRTC_DOOR, "fingerprint-mismatch");
                Some(End::FingerprintMismatch)
            }
            Some(Event::Failed(error)) => {
                tracing::error!(session = %session.id, error, "the WebRTC engine failed");
                Some(End::Failed)
            }
            None => Some(End::Failed),
        }
    }

    /// Does what the course says; the session's end where that is it.
    fn obey(&mut self, step: Step, session: &Arc<Session>, feed: &mut Option<Feed>) -> Option<End> {
        match step {
            Step::Wait => None,
            Step::Feed => self.start(session, feed),
            Step::End(end) => Some(end),
        }
    }

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
}

async fn fed(feed: &mut Option<Feed>) -> FeedEnd {
    match feed {
        Some(feed) => feed.await,
        None => std::future::pending().await,
    }
}

fn feed_end(session: &Session, end: FeedEnd) -> End {
    if let FeedEnd::Refused(error) = end {
        tracing::error!(session = %session.id, %error, "the pipeline takes no more frames");
    }
    course::feed_end(session.end_reason(), end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Rendition;
    use crate::distributor::{self, Limits};
    use crate::egress::session::{Registry, Transport};
    use crate::egress::webrtc::rtcp::Report;

    #[test]
    fn a_flood_of_requests_asks_the_camera_once_and_the_rest_is_counted_as_refused() {
        let limits =
            Limits { ring_frames: 16, subscribers_max: 4, lag_frames_max: 12, join_frames_max: 8 };
        let (_publisher, hub) = distributor::channel(limits).unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let rendition = Rendition::new("cam".into(), "main".into(), hub);
        let registry = Registry::new(Arc::clone(&metrics));
        let address = ([127, 0, 0, 1], 9).into();
        let registration = registry.register(Transport::Webrtc, rendition, address, None);
        let session = registration.session();
        let listener = listener(&Arc::default(), session, &metrics);
        let labels = [metrics::WEBRTC_DOOR, "key-frame-requests"];
        for _ in 0..1_000 {
            listener(Report { key_frame_requests: 1, ..Report::default() });
            listener(Report::default());
        }
        let passed = session.rendition.hub.key_frame_requests(Cause::Viewer);
        let refused = metrics.requests_refused.with_label_values(&labels).get();
        assert!(passed >= 1 && refused >= 1, "{passed} {refused}");
        assert_eq!(passed + refused, 1_000);
        session.end(End::Left);
    }
}
