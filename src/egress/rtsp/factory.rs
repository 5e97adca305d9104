//! What a viewer's media is built of.

use std::sync::{Arc, OnceLock};

use gst_rtsp_server::prelude::*;
use gst_rtsp_server::subclass::prelude::*;
use gst_rtsp_server::{
    RTSPContext, RTSPMedia, RTSPPublishClockMode, RTSPSuspendMode, RTSPTransportMode,
};

use super::client::Client;
use super::media::Media;
use super::server::Shared;
use crate::catalog::Rendition;
use crate::egress::feed;

glib::wrapper! {
    /// Builds the media of each viewer of one rendition.
    pub struct Factory(ObjectSubclass<imp::Factory>) @extends gst_rtsp_server::RTSPMediaFactory;
}

impl Factory {
    pub(super) fn new(shared: &Arc<Shared>, rendition: &Arc<Rendition>) -> Self {
        let factory: Self = glib::Object::new();
        // A new object's cell is empty.
        let _ = factory.imp().link.set((Arc::clone(shared), Arc::clone(rendition)));
        factory.set_media_gtype(Media::static_type());
        factory.set_shared(false);
        factory.set_suspend_mode(RTSPSuspendMode::Reset);
        factory.set_transport_mode(RTSPTransportMode::PLAY);
        factory.set_protocols(shared.transports);
        factory.set_publish_clock_mode(RTSPPublishClockMode::None);
        // What gst-rtsp-server calls latency is that of a receiver's jitter buffer.
        factory.set_latency(0);
        factory
    }
}

mod imp {
    use super::*;

    #[derive(Default)]
    pub struct Factory {
        pub(super) link: OnceLock<(Arc<Shared>, Arc<Rendition>)>,
    }

    #[glib::object_subclass]
    impl ObjectSubclass for Factory {
        const NAME: &'static str = "LenslineRtspFactory";
        type Type = super::Factory;
        type ParentType = gst_rtsp_server::RTSPMediaFactory;
    }

    impl ObjectImpl for Factory {}

    impl RTSPMediaFactoryImpl for Factory {
        fn create_element(&self, _url: &gst_rtsp::RTSPUrl) -> Option<gst::Element> {
            element().inspect_err(|error| tracing::error!(%error, "no RTSP media")).ok()
        }

        fn create_pipeline(&self, media: &RTSPMedia) -> Option<gst::Pipeline> {
            let pipeline = self.parent_create_pipeline(media)?;
            crate::clock::rule(&pipeline);
            if let Some(media) = media.downcast_ref::<Media>() {
                media.watch(&pipeline);
            }
            Some(pipeline)
        }

        fn media_configure(&self, media: &RTSPMedia) {
            self.parent_media_configure(media);
            let connection = RTSPContext::with_current_context(|context| {
                context.client()?.downcast_ref::<Client>()?.connection()
            });
            let Some(media) = media.downcast_ref::<Media>() else { return };
            if let (Some((shared, rendition)), Some(Some(connection))) =
                (self.link.get(), connection)
            {
                media.begin(shared, rendition, &connection);
            }
        }
    }
}

/// `appsrc ! rtph264pay`. The access units carry their parameter sets, so the payloader adds none.
fn element() -> Result<gst::Element, glib::BoolError> {
    let bin = gst::Bin::new();
    let source = feed::appsrc();
    let payloader = gst::ElementFactory::make("rtph264pay")
        .name("pay0")
        .property("pt", 96u32)
        .property("config-interval", 0i32)
        .build()?;
    bin.add_many([source.upcast_ref(), &payloader])?;
    source.link(&payloader)?;
    Ok(bin.upcast())
}
