//! One connection's requests: what gst-rtsp-server leaves to us to decide.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use gst_rtsp::RTSPStatusCode;
use gst_rtsp_server::prelude::*;
use gst_rtsp_server::subclass::prelude::*;
use gst_rtsp_server::{RTSPContext, RTSPMedia, RTSPSession};

use super::SESSION_TIMEOUT_SECONDS;
use super::address::Place;
use super::connection::Connection;
use super::media::Media;
use super::server::Shared;
use crate::clock::Timestamp;
use crate::distributor::Cause;
use crate::guard::Cleanup;
use crate::metrics;

glib::wrapper! {
    /// One connection as gst-rtsp-server sees it.
    pub struct Client(ObjectSubclass<imp::Client>) @extends gst_rtsp_server::RTSPClient;
}

impl Client {
    pub(super) fn new(shared: &Arc<Shared>, connection: Arc<Connection>) -> Self {
        let client: Self = glib::Object::new();
        // The library's own timeout after a session stays off: its timer can come to be while the
        // connection is going, and then its finalizer aborts the process (1.22, `rtsp-client.c:768`,
        // `rtsp_ctrl_timeout == NULL`; once in some 20,000 joins here). `idle` closes who stays.
        let imp = client.imp();
        // A new object's cell is empty.
        let _ = imp.shared.set(Arc::clone(shared));
        *imp.connection.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
        client
    }

    /// The connection, until it is closed.
    pub(super) fn connection(&self) -> Option<Arc<Connection>> {
        self.imp().connection()
    }
}

mod imp {
    use super::*;

    #[derive(Default)]
    pub struct Client {
        pub(super) shared: OnceLock<Arc<Shared>>,
        pub(super) connection: Mutex<Option<Arc<Connection>>>,
    }

    #[glib::object_subclass]
    impl ObjectSubclass for Client {
        const NAME: &'static str = "LenslineRtspClient";
        type Type = super::Client;
        type ParentType = gst_rtsp_server::RTSPClient;
    }

    impl ObjectImpl for Client {}

    impl RTSPClientImpl for Client {
        fn create_sdp(&self, media: &RTSPMedia) -> Option<gst_sdp::SDPMessage> {
            let mut sdp = self.parent_create_sdp(media)?;
            if let Some(rendition) = media.downcast_ref::<Media>().and_then(Media::rendition) {
                super::super::sdp::dress(&mut sdp, rendition);
            }
            Some(sdp)
        }

        fn new_session(&self, session: &RTSPSession) {
            session.set_timeout(SESSION_TIMEOUT_SECONDS);
            self.parent_new_session(session);
        }

        fn closed(&self) {
            self.parent_closed();
            self.close();
        }

        fn pre_options_request(&self, ctx: &RTSPContext) -> RTSPStatusCode {
            self.touch();
            self.parent_pre_options_request(ctx)
        }

        fn pre_describe_request(&self, ctx: &RTSPContext) -> RTSPStatusCode {
            self.touch();
            match self.place_to_watch(ctx) {
                Ok(place) => {
                    // Who asks for the description will watch in a moment: the key frame it will
                    // begin with is on its way by then.
                    place.rendition.hub.request_key_frame(Cause::Join);
                    self.parent_pre_describe_request(ctx)
                }
                Err(refusal) => refusal,
            }
        }

        fn pre_setup_request(&self, ctx: &RTSPContext) -> RTSPStatusCode {
            self.touch();
            match self.place_to_watch(ctx) {
                Ok(_) => self.parent_pre_setup_request(ctx),
                Err(refusal) => refusal,
            }
        }

        fn pre_play_request(&self, ctx: &RTSPContext) -> RTSPStatusCode {
            self.touch();
            match self.place(ctx).map(|place| self.readiness(ctx, &place)) {
                Some(Ok(())) => self.parent_pre_play_request(ctx),
                Some(Err(refusal)) => refusal,
                None => RTSPStatusCode::NotFound,
            }
        }

        fn pre_pause_request(&self, ctx: &RTSPContext) -> RTSPStatusCode {
            self.touch();
            self.parent_pre_pause_request(ctx)
        }

        fn pre_teardown_request(&self, ctx: &RTSPContext) -> RTSPStatusCode {
            self.touch();
            self.parent_pre_teardown_request(ctx)
        }

        fn pre_set_parameter_request(&self, ctx: &RTSPContext) -> RTSPStatusCode {
            self.touch();
            self.parent_pre_set_parameter_request(ctx)
        }

        fn pre_get_parameter_request(&self, ctx: &RTSPContext) -> RTSPStatusCode {
            self.touch();
            self.parent_pre_get_parameter_request(ctx)
        }

        /// gst-rtsp-server has no implementation of its own, and the binding (0.25) answers 200 for
        /// one that is not there.
        fn adjust_error_code(&self, _ctx: &RTSPContext, status: RTSPStatusCode) -> RTSPStatusCode {
            status
        }

        fn pre_announce_request(&self, _ctx: &RTSPContext) -> RTSPStatusCode {
            RTSPStatusCode::MethodNotAllowed
        }

        fn pre_record_request(&self, _ctx: &RTSPContext) -> RTSPStatusCode {
            RTSPStatusCode::MethodNotAllowed
        }
    }

    impl Client {
        pub(super) fn connection(&self) -> Option<Arc<Connection>> {
            self.connection.lock().unwrap_or_else(PoisonError::into_inner).clone()
        }

        fn touch(&self) {
            if let Some(connection) = self.connection() {
                connection.touch();
            }
        }

        fn place(&self, ctx: &RTSPContext) -> Option<Place> {
            let path = ctx.uri()?.decode_path_components();
            Place::find(&self.shared.get()?.catalog, path.iter().map(glib::GString::as_str))
        }

        /// The place asked for, if it can be watched now and by this connection.
        fn place_to_watch(&self, ctx: &RTSPContext) -> Result<Place, RTSPStatusCode> {
            let place = self.place(ctx).ok_or_else(|| {
                self.refused(ctx, "unknown-camera", "there is no such camera or rendition");
                RTSPStatusCode::NotFound
            })?;
            self.readiness(ctx, &place)?;
            let Some(connection) = self.connection() else {
                return Err(RTSPStatusCode::ServiceUnavailable);
            };
            // Who has a session for this media asks on for it, and gets no other.
            if ctx.session().is_none() && connection.is_full() {
                let reason = "the connection has as many medias as it may have";
                self.refused(ctx, "medias-per-connection", reason);
                return Err(RTSPStatusCode::ServiceUnavailable);
            }
            Ok(place)
        }

        /// Answers at once, so that nobody waits for a camera that does not deliver.
        fn readiness(&self, ctx: &RTSPContext, place: &Place) -> Result<(), RTSPStatusCode> {
            let Some(reason) = place.unready_reason(Timestamp::now()) else { return Ok(()) };
            self.refused(ctx, "camera-away", &reason);
            Err(RTSPStatusCode::ServiceUnavailable)
        }

        fn refused(&self, ctx: &RTSPContext, kind: &'static str, reason: &str) {
            if let Some(shared) = self.shared.get() {
                shared.metrics.refused(metrics::RTSP_DOOR, kind);
            }
            let address = self.connection().map(|connection| connection.address().to_string());
            let path = ctx.uri().map(|uri| uri.decode_path_components().join("/"));
            tracing::info!(address, path, reason, "RTSP request refused");
        }

        /// Gives the connection's place back. Medias that have failed are not torn down by
        /// gst-rtsp-server before 1.24 (commit bd4a9fde89), so they are here.
        fn close(&self) {
            let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner).take();
            let (Some(connection), Some(shared)) = (connection, self.shared.get()) else { return };
            for media in connection.medias().into_iter().filter(Media::has_failed) {
                let name = connection.address().to_string();
                shared.teardowns.take(&name, Cleanup::new(move || media.tear_down()));
            }
        }
    }
}
