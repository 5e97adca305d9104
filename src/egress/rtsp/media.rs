//! One viewer's media: a pipeline of gst-rtsp-server's making, fed from PLAY to PAUSE.
//!
//! The methods are called on gst-rtsp-server's threads, several of them with its locks held. They
//! do not wait.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use gst_rtsp_server::RTSPMedia;
use gst_rtsp_server::prelude::*;
use gst_rtsp_server::subclass::prelude::*;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::batch;
use super::connection::Connection;
use super::server::Shared;
use crate::catalog::{Format, Rendition};
use crate::clock::Timestamp;
use crate::distributor::Subscriber;
use crate::egress::feed::{self, FeedEnd};
use crate::egress::session::{End, Registration, Session, Transport};
use crate::frame::Frame;
use crate::guard::{Probe, Signal, Stack};

/// A viewer that takes nothing for this long is in arrears and is closed.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(2);

/// Bound on the time from PLAY to the first picture: longer than the GOP of a camera that cannot be
/// asked for key frames, shorter than the patience of clients. gst-rtsp-server itself waits 20 s.
const FIRST_FRAME_TIMEOUT: Duration = Duration::from_secs(3);

glib::wrapper! {
    /// One viewer's media.
    pub struct Media(ObjectSubclass<imp::Media>) @extends RTSPMedia;
}

impl Media {
    /// Begins the life of a media that was just built for `connection`.
    pub(super) fn begin(
        &self,
        shared: &Arc<Shared>,
        rendition: &Arc<Rendition>,
        connection: &Arc<Connection>,
    ) {
        let Some((source, packets)) = ends(self.element()) else { return };
        if let Some(format) = rendition.format() {
            describe(&source, &format);
        }
        let link = Link {
            shared: Arc::clone(shared),
            rendition: Arc::clone(rendition),
            connection: Arc::downgrade(connection),
            source,
            packets,
        };
        // A media is configured once.
        let _ = self.imp().link.set(link);
        connection.adopt(self);
    }

    /// What it shows.
    pub(super) fn rendition(&self) -> Option<&Arc<Rendition>> {
        self.imp().link.get().map(|link| &link.rendition)
    }

    /// Whether its pipeline is gone, or about to go.
    pub(super) fn is_torn_down(&self) -> bool {
        self.imp().torn_down.load(Ordering::Acquire)
    }

    /// Whether it failed, so that gst-rtsp-server may not tear it down.
    pub(super) fn has_failed(&self) -> bool {
        self.imp().failed.load(Ordering::Acquire) && !self.is_torn_down()
    }

    /// Ends its session, if it has one, for this reason.
    pub(super) fn end(&self, reason: End) {
        if let Some(playing) = &*self.imp().playing() {
            playing.registration.session().end(reason);
        }
    }

    /// Tears it down where gst-rtsp-server has not. May take as long as a pipeline takes to stop.
    pub(super) fn tear_down(&self) {
        let _ = self.unprepare();
        self.imp().finish();
    }

    /// Sees to the elements that gst-rtsp-server will add to `pipeline`.
    pub(super) fn watch(&self, pipeline: &gst::Pipeline) {
        let media = self.downgrade();
        let id = pipeline.connect_deep_element_added(move |_, _, element| {
            if let Some(media) = media.upgrade() {
                media.imp().see(element);
            }
        });
        self.imp().keep(Signal::new(pipeline, id));
    }
}

struct Link {
    shared: Arc<Shared>,
    rendition: Arc<Rendition>,
    connection: Weak<Connection>,
    source: gst_app::AppSrc,
    packets: gst::Pad,
}

/// Where a media's frames go in and where its packets come out.
fn ends(element: gst::Element) -> Option<(gst_app::AppSrc, gst::Pad)> {
    let bin = element.downcast::<gst::Bin>().ok()?;
    let source = bin.by_name("feed")?.downcast::<gst_app::AppSrc>().ok()?;
    Some((source, bin.by_name("pay0")?.static_pad("src")?))
}

struct Playing {
    registration: Registration,
    feed: Option<AbortHandle>,
    batch: Option<Probe>,
}

mod imp {
    use super::*;

    #[derive(Default)]
    pub struct Media {
        pub(super) link: OnceLock<Link>,
        playing: Mutex<Option<Playing>>,
        guards: Mutex<Stack>,
        over_udp: AtomicBool,
        pub(super) torn_down: AtomicBool,
        pub(super) failed: AtomicBool,
    }

    #[glib::object_subclass]
    impl ObjectSubclass for Media {
        const NAME: &'static str = "LenslineRtspMedia";
        type Type = super::Media;
        type ParentType = RTSPMedia;
    }

    impl ObjectImpl for Media {}

    impl RTSPMediaImpl for Media {
        fn setup_rtpbin(&self, rtpbin: &gst::Element) -> Result<(), gst::LoggableError> {
            // Sender reports give the time of capture, not of sending.
            rtpbin.set_property("rtcp-sync-send-time", false);
            // The default CNAME is the user's and the host's name.
            let name = uuid::Uuid::new_v4().simple().to_string();
            let sdes = gst::Structure::builder("application/x-rtp-source-sdes");
            rtpbin.set_property("sdes", sdes.field("cname", name).build());
            self.parent_setup_rtpbin(rtpbin)
        }

        fn suspend(&self) -> Result<(), gst::LoggableError> {
            self.stop_feed();
            self.parent_suspend()
        }

        fn unsuspend(&self) -> Result<(), gst::LoggableError> {
            if let Err(reason) = self.start_feed() {
                tracing::warn!(reason, "RTSP session not started");
                return Err(gst::loggable_error!(gst::CAT_RUST, "{reason}"));
            }
            let prerolled = self.parent_unsuspend();
            match &prerolled {
                Ok(()) => self.note_playing(),
                Err(_) => {
                    self.failed.store(true, Ordering::Release);
                    self.stop_feed();
                }
            }
            prerolled
        }

        fn unprepare(&self) -> Result<(), gst::LoggableError> {
            self.stop_feed();
            self.parent_unprepare()
        }

        fn unprepared(&self) {
            self.parent_unprepared();
            self.finish();
        }

        fn handle_message(&self, message: &gst::MessageRef) -> bool {
            if let gst::MessageView::Error(error) = message.view() {
                self.fail(&error.error(), error.debug().as_deref());
            }
            self.parent_handle_message(message)
        }
    }

    impl Media {
        pub(super) fn playing(&self) -> MutexGuard<'_, Option<Playing>> {
            self.playing.lock().unwrap_or_else(PoisonError::into_inner)
        }

        pub(super) fn keep(&self, guard: Signal) {
            self.guards.lock().unwrap_or_else(PoisonError::into_inner).push(guard);
        }

        /// Sends each packet when it comes. gst-rtsp-server makes the sink for TCP wait until a
        /// packet's time plus 20 ms, and says so again for every PLAY.
        pub(super) fn see(&self, element: &gst::Element) {
            let factory = element.factory().map(|factory| factory.name());
            match factory.as_deref() {
                Some("appsink") => {
                    element.set_property("sync", false);
                    let id = element.connect_notify(Some("sync"), |sink, _| {
                        if sink.property("sync") {
                            sink.set_property("sync", false);
                        }
                    });
                    self.keep(Signal::new(element, id));
                }
                Some("multiudpsink") => self.over_udp.store(true, Ordering::Relaxed),
                _ => {}
            }
        }

        /// From PLAY on: a session in the registry, and frames from the next key frame.
        fn start_feed(&self) -> Result<(), &'static str> {
            let link = self.link.get().ok_or("the media has no viewer")?;
            let connection = link.connection.upgrade().ok_or("the viewer has gone")?;
            let subscriber =
                link.rendition.hub.subscribe().map_err(|_| "the rendition has all its viewers")?;
            let mut playing = self.playing();
            let playing = playing.get_or_insert_with(|| {
                let transport = match self.over_udp.load(Ordering::Relaxed) {
                    true => Transport::RtspUdp,
                    false => Transport::RtspTcp,
                };
                let rendition = Arc::clone(&link.rendition);
                let registry = &link.shared.registry;
                let registration = registry.register(
                    transport,
                    rendition,
                    connection.address(),
                    connection.user(),
                );
                Playing { registration, feed: None, batch: None }
            });
            // A new one each time: nothing of what was under way before a pause goes on after it.
            playing.batch = batch::gather(&link.packets);
            let session = playing.registration.session();
            let started = started(&link.source);
            let task = supply(
                Arc::clone(&link.shared),
                subscriber,
                link.source.clone(),
                Arc::clone(session),
                started,
            );
            if let Some(old) = playing.feed.replace(link.shared.runtime.spawn(task).abort_handle())
            {
                old.abort();
            }
            Ok(())
        }

        /// Tells the connection of its session, so that the end of the one is that of the other.
        /// Not before PLAY is sure to be answered.
        fn note_playing(&self) {
            let connection = self.link.get().and_then(|link| link.connection.upgrade());
            if let (Some(connection), Some(playing)) = (connection, &*self.playing()) {
                connection.plays(Some(playing.registration.session()));
            }
        }

        fn stop_feed(&self) {
            let Some(feed) = self.playing().as_mut().and_then(|playing| playing.feed.take()) else {
                return;
            };
            feed.abort();
            let connection = self.link.get().and_then(|link| link.connection.upgrade());
            if let Some(connection) = connection {
                connection.plays(None);
            }
        }

        /// The end: whoever ended it for a reason has said so before.
        pub(super) fn finish(&self) {
            self.torn_down.store(true, Ordering::Release);
            self.stop_feed();
            let playing = self.playing().take();
            if let Some(playing) = playing {
                playing.registration.session().end(End::Left);
            }
            let guards =
                std::mem::take(&mut *self.guards.lock().unwrap_or_else(PoisonError::into_inner));
            drop(guards);
        }

        fn fail(&self, error: &glib::Error, details: Option<&str>) {
            self.failed.store(true, Ordering::Release);
            let playing = self.playing();
            let session = playing.as_ref().map(|playing| playing.registration.session());
            let name = session.map(|session| session.id.to_string());
            tracing::warn!(session = name, %error, details, "RTSP media failed");
            if let Some(session) = session {
                session.end(End::Failed);
            }
        }
    }
}

/// Gives `source` the parameter sets as soon as it asks: all that DESCRIBE needs of a stream.
fn describe(source: &gst_app::AppSrc, format: &Format) {
    let start_code = [0, 0, 0, 1];
    let access_unit = [&start_code[..], &format.sps, &start_code, &format.pps].concat();
    let pending = Mutex::new(Some(access_unit));
    let callbacks = gst_app::AppSrcCallbacks::builder().need_data(move |source, _| {
        let access_unit = pending.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(access_unit) = access_unit else { return };
        let mut buffer = gst::Buffer::from_slice(access_unit);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(gst::ClockTime::from(Timestamp::now_at(source)));
        }
        // A refusal means that the pipeline stops already.
        let _ = source.push_buffer(buffer);
    });
    source.set_callbacks(callbacks.build());
}

/// Says when `source` runs. Before, it refuses what it is given.
fn started(source: &gst_app::AppSrc) -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    let sender = Mutex::new(Some(sender));
    let callbacks = gst_app::AppSrcCallbacks::builder().need_data(move |_, _| {
        if let Some(sender) = sender.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Nobody listens any more where the viewer has gone.
            let _ = sender.send(());
        }
    });
    source.set_callbacks(callbacks.build());
    receiver
}

/// Feeds a viewer until its session or its pipeline ends, and gives the session its reason.
async fn supply(
    shared: Arc<Shared>,
    subscriber: Subscriber<Frame>,
    source: gst_app::AppSrc,
    session: Arc<Session>,
    started: oneshot::Receiver<()>,
) {
    let before = session.stats.delivered.get();
    let fed = || session.stats.delivered.get() > before;
    let feeding = async {
        // Refused: the pipeline has let go of its source before it ran.
        if started.await.is_err() {
            return FeedEnd::Refused(gst::FlowError::Flushing);
        }
        feed::run(subscriber, source.clone(), Arc::clone(&session), &shared.metrics, STALL_TIMEOUT)
            .await
    };
    tokio::pin!(feeding);
    let end = match tokio::time::timeout(FIRST_FRAME_TIMEOUT, &mut feeding).await {
        Ok(end) => Some(end),
        Err(_) if fed() => Some(feeding.await),
        Err(_) => None,
    };
    if !fed() {
        // PLAY waits for a picture: this is its answer.
        gst::element_error!(source, gst::ResourceError::Read, ["no picture came in time"]);
    }
    match end {
        Some(FeedEnd::Asked | FeedEnd::Refused(gst::FlowError::Flushing)) => {}
        Some(FeedEnd::Stalled) => session.end(End::Backlog),
        Some(FeedEnd::Finished) => session.end(End::Shutdown),
        None => session.end(End::Failed),
        Some(FeedEnd::Refused(error)) => {
            tracing::warn!(session = %session.id, %error, "RTSP pipeline takes no more");
            session.end(End::Failed);
        }
    }
}

#[cfg(test)]
mod harness;
