//! One connection's requests, once the [`super::warden`] has let them pass.

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
use crate::distributor::Cause;
use crate::guard::Cleanup;

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
                let local = self.connection().and_then(|connection| connection.local());
                super::super::sdp::dress(&mut sdp, rendition, local);
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

        fn pre_describe_request(&self, ctx: &RTSPContext) -> RTSPStatusCode {
            // Who asks for the description will watch in a moment: the key frame it will begin with
            // is on its way by then.
            if let Some(place) = self.place(ctx) {
                place.rendition.hub.request_key_frame(Cause::Join);
            }
            self.parent_pre_describe_request(ctx)
        }

        /// gst-rtsp-server has no implementation of its own, and the binding (0.25) answers 200 for
        /// one that is not there.
        fn adjust_error_code(&self, _ctx: &RTSPContext, status: RTSPStatusCode) -> RTSPStatusCode {
            status
        }
    }

    impl Client {
        pub(super) fn connection(&self) -> Option<Arc<Connection>> {
            self.connection.lock().unwrap_or_else(PoisonError::into_inner).clone()
        }

        fn place(&self, ctx: &RTSPContext) -> Option<Place> {
            let path = ctx.uri()?.decode_path_components();
            Place::find(&self.shared.get()?.catalog, path.iter().map(glib::GString::as_str))
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
