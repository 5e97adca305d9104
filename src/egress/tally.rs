//! What a session's frames add to the figures, whichever way they go out.

use std::sync::Arc;

use prometheus::{Histogram, IntCounter};

use super::session::Session;
use crate::clock::Timestamp;
use crate::distributor::Delivery;
use crate::frame::Frame;
use crate::metrics::Metrics;

/// Counts one session's frames; label look-ups are made once.
#[derive(Debug)]
pub struct Tally {
    session: Arc<Session>,
    delivered: IntCounter,
    skipped: IntCounter,
    distribute: Histogram,
    send: Histogram,
    join: Option<Histogram>,
    since: Timestamp,
}

impl Tally {
    /// Counts from now on.
    pub fn new(session: Arc<Session>, metrics: &Metrics) -> Self {
        let camera = &*session.rendition.camera;
        let labels = [camera, session.transport.as_str()];
        Self {
            delivered: metrics.frames_delivered.with_label_values(&labels),
            skipped: metrics.frames_skipped.with_label_values(&labels),
            distribute: metrics.stage_seconds.with_label_values(&[camera, "distribute"]),
            send: metrics.stage_seconds.with_label_values(&[camera, "send"]),
            join: Some(metrics.join_seconds.clone()),
            since: Timestamp::now(),
            session,
        }
    }

    /// A frame was handed to the session.
    pub fn delivered(&mut self, delivery: &Delivery<Frame>) {
        let now = Timestamp::now();
        if let Some(join) = self.join.take() {
            join.observe(now.since(self.session.started).as_secs_f64());
        }
        if self.is_current(&delivery.item) {
            self.distribute.observe(now.since(delivery.item.encoded).as_secs_f64());
        }
        let size_bytes = u64::try_from(delivery.item.size_bytes()).unwrap_or(u64::MAX);
        self.session.stats.delivered.add(1);
        self.session.stats.skipped.add(delivery.skipped);
        self.session.stats.bytes.add(size_bytes);
        self.delivered.inc();
        self.skipped.inc_by(delivery.skipped);
    }

    /// The last packet of a frame was handed to the socket.
    pub fn sent(&self, frame: &Frame) {
        if self.is_current(frame) {
            self.send.observe(Timestamp::now().since(frame.encoded).as_secs_f64());
        }
    }

    /// Frames of the GOP that a viewer joins on are older than the viewer: their age says nothing
    /// of the way they took.
    fn is_current(&self, frame: &Frame) -> bool {
        frame.encoded >= self.since
    }
}
