//! A camera for tests: test pattern, x264, publisher.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gst::prelude::*;

use lensline::catalog::{Format, Rendition};
use lensline::clock::{self, Timestamp};
use lensline::distributor::{self, Limits};
use lensline::frame::Frame;
use lensline::guard::Pipeline;

/// Encodes 320x240 at 30 fps with a key frame only where one is asked for.
pub struct Source {
    pub rendition: Arc<Rendition>,
    pub key_frames: Arc<AtomicU64>,
    keys: tokio::task::JoinHandle<()>,
    _pipeline: Pipeline,
}

const DESCRIPTION: &str = "videotestsrc is-live=true ! \
    video/x-raw,width=320,height=240,framerate=30/1 ! x264enc tune=zerolatency \
    speed-preset=ultrafast bitrate=1000 key-int-max=1000 ! \
    video/x-h264,profile=constrained-baseline,stream-format=byte-stream,alignment=au ! \
    h264parse config-interval=-1 ! \
    video/x-h264,stream-format=byte-stream,alignment=au ! \
    appsink name=sink sync=false max-buffers=2";

impl Source {
    pub fn start() -> Self {
        gst::init().unwrap();
        let limits = Limits {
            ring_frames: 128,
            subscribers_max: 64,
            lag_frames_max: 30,
            join_frames_max: 8,
        };
        let (mut publisher, hub) = distributor::channel(limits).unwrap();
        let rendition = Rendition::new("cam".into(), "main".into(), hub);
        rendition.set_format(Format {
            width: 320,
            height: 240,
            framerate: (30, 1),
            sps: vec![0x67, 0x42, 0xc0, 0x0d],
            pps: Vec::new(),
        });
        let pipeline = gst::parse::launch(DESCRIPTION).unwrap().downcast::<gst::Pipeline>();
        let pipeline = pipeline.unwrap();
        clock::rule(&pipeline);
        let sink = pipeline.by_name("sink").unwrap().downcast::<gst_app::AppSink>().unwrap();
        let key_frames = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&key_frames);
        let take = move |sink: &gst_app::AppSink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            let buffer = sample.buffer().ok_or(gst::FlowError::Error)?;
            let segment = sample.segment().unwrap().downcast_ref::<gst::ClockTime>().unwrap();
            let captured = segment.to_running_time(buffer.pts().unwrap()).unwrap();
            let key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
            count.fetch_add(key.into(), Ordering::Relaxed);
            let mut payload = buffer.copy_deep().unwrap();
            let writable = payload.get_mut().unwrap();
            writable.set_pts(captured);
            writable.set_dts(gst::ClockTime::NONE);
            let frame = Frame::new(captured.into(), Timestamp::now(), key, payload);
            publisher.publish(key, frame);
            Ok(gst::FlowSuccess::Ok)
        };
        sink.set_callbacks(gst_app::AppSinkCallbacks::builder().new_sample(take).build());
        let pipeline = Pipeline::new(pipeline);
        pipeline.start().unwrap();
        let hub = rendition.hub.clone();
        let keys = tokio::spawn(async move {
            loop {
                hub.key_frame_requested().await;
                let event = gst::Structure::builder("GstForceKeyUnit").field("all-headers", true);
                sink.send_event(gst::event::CustomUpstream::new(event.build()));
            }
        });
        Self { rendition, key_frames, keys, _pipeline: pipeline }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.keys.abort();
    }
}
