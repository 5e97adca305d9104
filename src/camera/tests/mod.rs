//! Cameras from end to end, through what the rest of the program sees of them.

mod camera;
mod faults;
mod network;
mod picture;

use std::sync::Arc;
use std::time::Duration;

use gst::prelude::*;
use tokio::task::JoinHandle;

use super::simulated::stamp;
use crate::catalog::{self, Health};
use crate::config;
use crate::distributor::{Delivery, Subscriber};
use crate::frame::Frame;
use crate::guard::{self, Teardowns};
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;

/// Bound on every wait for something that takes a fraction of it.
const PATIENCE: Duration = Duration::from_secs(20);

/// A camera that runs, with all it takes to stop it.
struct Bench {
    camera: Arc<catalog::Camera>,
    metrics: Arc<Metrics>,
    teardowns: Teardowns,
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

impl Bench {
    fn start(config: &config::Camera) -> Self {
        gst::init().unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let teardowns = Teardowns::new(metrics.teardowns_stuck.clone());
        let shutdown = Shutdown::new();
        let (camera, runner) = super::open(
            config,
            &config::Limits::default(),
            Arc::clone(&metrics),
            teardowns.clone(),
            shutdown.listen(),
        )
        .unwrap();
        let task = tokio::spawn(runner.run());
        Self { camera, metrics, teardowns, shutdown, task }
    }

    fn subscribe(&self, rendition: &str) -> Subscriber<Frame> {
        self.camera.rendition(Some(rendition)).unwrap().hub.subscribe().unwrap()
    }

    /// Waits until the camera is lost, and says why.
    async fn lost(&self) -> String {
        let lost = async {
            loop {
                if let Health::Lost { reason } = self.camera.status().health {
                    return reason;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, lost).await.expect("the camera is not lost")
    }

    fn restarts(&self, cause: &str) -> u64 {
        self.metrics.camera_restarts.with_label_values(&[&*self.camera.id, cause]).get()
    }

    async fn stop(self) {
        self.shutdown.stop();
        tokio::time::timeout(PATIENCE, self.task).await.expect("the camera does not stop").unwrap();
        assert!(self.teardowns.finished(PATIENCE).await, "a pipeline is not torn down");
        assert_eq!(self.metrics.teardowns_stuck.get(), 0);
    }
}

/// A simulated camera that is cheap to encode.
fn simulated(width: u32, height: u32) -> config::Camera {
    config::Camera {
        id: "sim".into(),
        source: config::Source::Simulated(config::Simulated::default()),
        width,
        height,
        ..config::Camera::default()
    }
}

async fn next(subscriber: &mut Subscriber<Frame>) -> Delivery<Frame> {
    let next = tokio::time::timeout(PATIENCE, subscriber.next()).await;
    next.expect("no frame comes").expect("the publisher is gone")
}

async fn collect(subscriber: &mut Subscriber<Frame>, count: usize) -> Vec<Frame> {
    let mut frames = Vec::new();
    while frames.len() < count {
        frames.push(next(subscriber).await.item);
    }
    frames
}

/// Decodes access units; every picture as its luma plane with its stride.
fn decode(frames: &[Frame], decoder: &str) -> Vec<(Vec<u8>, usize)> {
    let pipeline = guard::Pipeline::new(gst::Pipeline::new());
    let make = |factory: &str| gst::ElementFactory::make(factory).build().unwrap();
    let caps = gst::Caps::builder("video/x-h264")
        .field("stream-format", "byte-stream")
        .field("alignment", "au")
        .build();
    let source = gst_app::AppSrc::builder().caps(&caps).format(gst::Format::Time).build();
    source.set_max_bytes(0);
    let wanted = gst_video::VideoCapsBuilder::new().format(gst_video::VideoFormat::I420).build();
    let sink = gst_app::AppSink::builder().sync(false).caps(&wanted).build();
    let (parse, decode, convert) = (make("h264parse"), make(decoder), make("videoconvert"));
    let elements = [source.upcast_ref(), &parse, &decode, &convert, sink.upcast_ref()];
    pipeline.add_many(elements).unwrap();
    gst::Element::link_many(elements).unwrap();
    pipeline.start().unwrap();
    for frame in frames {
        source.push_buffer(frame.payload.clone()).unwrap();
    }
    source.end_of_stream().unwrap();
    let mut pictures = Vec::new();
    let limit = gst::ClockTime::from_seconds(PATIENCE.as_secs());
    while let Some(sample) = sink.try_pull_sample(limit) {
        let info = gst_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
        let buffer = sample.buffer().unwrap();
        let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info).unwrap();
        use gst_video::prelude::*;
        let stride = usize::try_from(frame.plane_stride()[0]).unwrap();
        pictures.push((frame.plane_data(0).unwrap().to_vec(), stride));
    }
    pictures
}

/// The stamps in the pictures; `None` for one that cannot be read.
fn stamps(pictures: &[(Vec<u8>, usize)], width: usize) -> Vec<Option<(u64, u16)>> {
    pictures.iter().map(|(luma, stride)| stamp::read(luma, *stride, width)).collect()
}
