//! The figures an operator watches, in Prometheus' terms. Names and labels are the contract's.

mod process;
mod reload;
mod tls;

use process::Process;
pub use process::Usage;
use prometheus::core::Collector as _;
use prometheus::{
    CounterVec, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGaugeVec, Opts, Registry, TextEncoder,
};
use serde::Serialize;
use utoipa::ToSchema;

pub use reload::Reload;
pub use tls::Tls;

/// Bucket bounds in seconds for what a frame goes through: 100 µs to 1 s.
const STAGE_BUCKETS: &[f64] = &[
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.004, 0.006, 0.008, 0.010, 0.014, 0.020, 0.033, 0.050,
    0.1, 0.25, 1.0,
];

/// Bucket bounds in seconds for what a viewer waits for: 10 ms to 10 s.
const JOIN_BUCKETS: &[f64] =
    &[0.010, 0.025, 0.050, 0.075, 0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0];

/// The doors, as metrics name them.
pub const HTTP_DOOR: &str = "http";
/// The same.
pub const RTSP_DOOR: &str = "rtsp";
/// The same.
pub const WEBRTC_DOOR: &str = "webrtc";

/// Every metric of the program. Cheap to update from any thread.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// `lensline_frames_published_total{camera,rendition}`
    pub frames_published: IntCounterVec,
    /// `lensline_frames_delivered_total{camera,transport}`
    pub frames_delivered: IntCounterVec,
    /// `lensline_frames_skipped_total{camera,transport}`
    pub frames_skipped: IntCounterVec,
    /// `lensline_keyframe_requests_total{camera,cause}`
    pub keyframe_requests: IntCounterVec,
    /// `lensline_sessions{camera,transport}`
    pub sessions: IntGaugeVec,
    /// `lensline_sessions_total{camera,transport,end}`
    pub sessions_ended: IntCounterVec,
    /// `lensline_sessions_refused_total{transport,reason}`
    pub sessions_refused: IntCounterVec,
    /// `lensline_requests_refused_total{door,reason}`: what was not done for who asked, at the door
    /// `http`, `rtsp` or `webrtc`. Reasons are names from the program, never a stranger's text.
    pub requests_refused: IntCounterVec,
    /// `lensline_join_seconds`: request to first frame sent.
    pub join_seconds: Histogram,
    /// `lensline_stage_seconds{camera,stage}`
    pub stage_seconds: HistogramVec,
    /// `lensline_encoder_bitrate_bps{camera,rendition}`: what the encoder is told to produce.
    pub encoder_bitrate_bps: GaugeVec,
    /// `lensline_session_estimate_bps{session}`
    pub session_estimate_bps: GaugeVec,
    /// `lensline_camera_restarts_total{camera,cause}`
    pub camera_restarts: IntCounterVec,
    /// `lensline_snapshots_decoded_total{camera}`
    pub snapshots_decoded: IntCounterVec,
    /// `lensline_teardowns_stuck_total`
    pub teardowns_stuck: IntCounter,
    /// The configuration that is read again.
    pub reload: Reload,
    /// TLS at the doors.
    pub tls: Tls,
    /// `lensline_guards_live{kind}`
    pub guards_live: IntGaugeVec,
    process: Process,
}

/// Joins refused since the start for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Refused {
    /// `webrtc` or `rtsp`.
    pub transport: String,
    /// The limit that was reached.
    pub reason: String,
    /// How many.
    pub count: u64,
}

impl Metrics {
    /// All metrics at zero.
    ///
    /// # Errors
    /// Where two metrics bear one name, which a test excludes.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let family = Family { registry: &registry };
        Ok(Self {
            frames_published: family.counter(
                "lensline_frames_published_total",
                "Encoded frames handed to the distributor",
                &["camera", "rendition"],
            )?,
            frames_delivered: family.counter(
                "lensline_frames_delivered_total",
                "Frames handed to sessions",
                &["camera", "transport"],
            )?,
            frames_skipped: family.counter(
                "lensline_frames_skipped_total",
                "Frames that sessions did not get because they lagged or had just joined",
                &["camera", "transport"],
            )?,
            keyframe_requests: family.counter(
                "lensline_keyframe_requests_total",
                "Key frames asked for, before requests are coalesced",
                &["camera", "cause"],
            )?,
            sessions: family.gauge(
                "lensline_sessions",
                "Sessions now",
                &["camera", "transport"],
            )?,
            sessions_ended: family.counter(
                "lensline_sessions_total",
                "Sessions that ended, by why",
                &["camera", "transport", "end"],
            )?,
            sessions_refused: family.sessions_refused()?,
            requests_refused: family.requests_refused()?,
            join_seconds: family.join()?,
            stage_seconds: family.stage()?,
            encoder_bitrate_bps: family.float(
                "lensline_encoder_bitrate_bps",
                "Target bitrate of the encoder",
                &["camera", "rendition"],
            )?,
            session_estimate_bps: family.float(
                "lensline_session_estimate_bps",
                "Bandwidth estimated for a session",
                &["session"],
            )?,
            camera_restarts: family.restarts()?,
            snapshots_decoded: family.snapshots()?,
            teardowns_stuck: family.single(
                "lensline_teardowns_stuck_total",
                "Session pipelines that did not stop in time",
            )?,
            reload: Reload::new(&family)?,
            tls: Tls::new(&family)?,
            guards_live: family.gauge(
                "lensline_guards_live",
                "GStreamer resources that are held and will be given back",
                &["kind"],
            )?,
            process: Process::new(&family)?,
            registry,
        })
    }

    /// The joins refused since the start, by kind and reason.
    pub fn joins_refused(&self) -> Vec<Refused> {
        let families = self.sessions_refused.collect();
        let counters = families.iter().flat_map(|family| family.get_metric());
        let refused = counters.map(|counter| {
            let label = |name: &str| {
                let label = counter.get_label().iter().find(|label| label.name() == name);
                label.map(|label| label.value().to_owned()).unwrap_or_default()
            };
            let count = counter.get_counter().get_value();
            Refused { transport: label("transport"), reason: label("reason"), count: count as u64 }
        });
        let mut refused: Vec<Refused> = refused.filter(|one| one.count > 0).collect();
        refused.sort_by(|a, b| (&a.transport, &a.reason).cmp(&(&b.transport, &b.reason)));
        refused
    }

    /// What the process uses now.
    pub fn usage(&self) -> Usage {
        self.process.read();
        self.process.usage()
    }

    /// Counts something that was refused at a door.
    pub fn refused(&self, door: &'static str, reason: &'static str) {
        self.requests_refused.with_label_values(&[door, reason]).inc();
    }

    /// The exposition in Prometheus' text format.
    ///
    /// # Errors
    /// Where the encoder refuses a family, which would be a bug in it.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        self.process.read();
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

struct Family<'a> {
    registry: &'a Registry,
}

impl Family<'_> {
    fn counter(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn single(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        let metric = IntCounter::new(name, help)?;
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn gauge(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        let metric = IntGaugeVec::new(Opts::new(name, help), labels)?;
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn plain(&self, name: &str, help: &str) -> prometheus::Result<prometheus::IntGauge> {
        let metric = prometheus::IntGauge::new(name, help)?;
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn float(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
        let metric = GaugeVec::new(Opts::new(name, help), labels)?;
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn seconds(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<CounterVec> {
        let metric = CounterVec::new(Opts::new(name, help), labels)?;
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn snapshots(&self) -> prometheus::Result<IntCounterVec> {
        self.counter(
            "lensline_snapshots_decoded_total",
            "Key frames decoded for snapshots, also in vain",
            &["camera"],
        )
    }

    fn restarts(&self) -> prometheus::Result<IntCounterVec> {
        self.counter(
            "lensline_camera_restarts_total",
            "Times a camera was rebuilt, by why",
            &["camera", "cause"],
        )
    }

    fn sessions_refused(&self) -> prometheus::Result<IntCounterVec> {
        self.counter(
            "lensline_sessions_refused_total",
            "Joins refused, by why",
            &["transport", "reason"],
        )
    }

    fn requests_refused(&self) -> prometheus::Result<IntCounterVec> {
        self.counter(
            "lensline_requests_refused_total",
            "Requests, messages and packets that were refused, by why",
            &["door", "reason"],
        )
    }

    fn join(&self) -> prometheus::Result<Histogram> {
        let options = HistogramOpts::new("lensline_join_seconds", "Request to first frame sent")
            .buckets(JOIN_BUCKETS.to_vec());
        let metric = Histogram::with_opts(options)?;
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn stage(&self) -> prometheus::Result<HistogramVec> {
        let options = HistogramOpts::new(
            "lensline_stage_seconds",
            "Time a frame spends in a stage: encode, distribute, send",
        )
        .buckets(STAGE_BUCKETS.to_vec());
        let metric = HistogramVec::new(options, &["camera", "stage"])?;
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}
