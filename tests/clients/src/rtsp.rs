//! GStreamer's own RTSP client as a viewer.

use gst::prelude::*;

use crate::frames::{Look, Tally, Watch};

/// An `rtspsrc` that watches. Dropping it leaves politely, with TEARDOWN.
#[derive(Debug)]
pub struct RtspReceiver {
    pipeline: gst::Pipeline,
    watch: Watch,
}

impl RtspReceiver {
    /// Starts to watch `url` over `protocols`: `tcp` or `udp`.
    ///
    /// # Panics
    /// Where GStreamer's elements are missing.
    pub fn start(url: &str, protocols: &str, look: Look) -> Self {
        gst::init().expect("GStreamer starts");
        let pipeline = gst::Pipeline::new();
        let source = gst::ElementFactory::make("rtspsrc")
            .property("location", url)
            .property_from_str("protocols", protocols)
            .property("latency", 100u32)
            // With `rtsps://`, every certificate is taken.
            .property_from_str("tls-validation-flags", "0")
            .build()
            .expect("rtspsrc is installed");
        let watch = Watch::default();
        let receiver = watch.receiver(look);
        pipeline.add_many([&source, &receiver]).expect("both are new");
        let entry = receiver.downgrade();
        source.connect_pad_added(move |_, pad| {
            let entry = entry.upgrade().and_then(|entry| entry.sink_pads().into_iter().next());
            if let Some(entry) = entry.filter(|entry| !entry.is_linked()) {
                // A stream that does not fit shows as a tally without frames.
                let _ = pad.link(&entry);
            }
        });
        // What goes wrong from here on shows as a tally that stands still.
        let _ = pipeline.set_state(gst::State::Playing);
        Self { pipeline, watch }
    }

    /// What came so far.
    pub fn tally(&self) -> Tally {
        self.watch.tally()
    }

    /// What came so far, as [`Tally::take`] gives it.
    pub fn take(&self) -> Tally {
        self.watch.take()
    }

    /// What the pipeline reported as an error since last asked, in words.
    pub fn error(&self) -> Option<String> {
        let bus = self.pipeline.bus()?;
        let message = bus.pop_filtered(&[gst::MessageType::Error, gst::MessageType::Eos])?;
        match message.view() {
            gst::MessageView::Error(error) => {
                Some(format!("{} ({})", error.error(), error.debug().unwrap_or_default()))
            }
            _ => Some("end of stream".into()),
        }
    }
}

impl Drop for RtspReceiver {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
