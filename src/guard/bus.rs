//! What a pipeline says of itself.

use gst::prelude::*;

use super::{Count, Kind};

/// A handler of a pipeline's messages that is taken off the bus when dropped.
///
/// It is called on the thread that posts, so it must not block: look, and hand on.
#[derive(Debug)]
#[must_use = "a watch that is dropped is taken off at once"]
pub struct BusWatch {
    bus: gst::Bus,
    _count: Count,
}

impl BusWatch {
    /// Hands every message on the bus of `pipeline` to `handle`, and keeps none for a later poll.
    pub fn add<F>(pipeline: &gst::Pipeline, handle: F) -> Option<Self>
    where
        F: Fn(&gst::Message) + Send + Sync + 'static,
    {
        let bus = pipeline.bus()?;
        bus.set_sync_handler(move |_, message| {
            handle(message);
            gst::BusSyncReply::Drop
        });
        Some(Self { bus, _count: Count::new(Kind::BusWatch) })
    }
}

impl Drop for BusWatch {
    fn drop(&mut self) {
        self.bus.unset_sync_handler();
        self.bus.set_flushing(true);
    }
}
