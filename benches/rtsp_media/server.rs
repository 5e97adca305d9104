//! The two servers that are compared, fed from one loop of pictures encoded beforehand.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gst::prelude::*;
use gst_rtsp_server::prelude::*;
use lensline::admission::{Admission, Limits};
use lensline::auth::Auth;
use lensline::catalog::{Camera, Catalog, Format, Health, Rendition};
use lensline::clock::Timestamp;
use lensline::config::{Rtsp, RtspTransport};
use lensline::distributor::{self, Publisher};
use lensline::egress::rtsp::RtspServer;
use lensline::egress::session::Registry;
use lensline::frame::Frame;
use lensline::guard::Teardowns;
use lensline::metrics::Metrics;
use lensline::shutdown::Shutdown;

const FRAME: Duration = Duration::from_nanos(1_000_000_000 / 30);
const GOP: usize = 60;

/// Serves the pictures in the file `frames` until it is killed. Prints its address when ready.
pub fn serve(kind: &str, frames: &str) {
    gst::init().unwrap();
    let frames = read(&std::fs::read(frames).unwrap());
    match kind {
        "own" => own(&frames),
        "shared" => shared(&frames),
        other => panic!("{other}"),
    }
}

/// What [`encode`] wrote: for each frame its length in four bytes, then itself.
fn read(mut file: &[u8]) -> Vec<gst::Buffer> {
    let mut frames = Vec::new();
    while let Some((length, rest)) = file.split_first_chunk() {
        let (frame, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        let mut buffer = gst::Buffer::from_slice(frame.to_vec());
        if !frames.len().is_multiple_of(GOP) {
            buffer.get_mut().unwrap().set_flags(gst::BufferFlags::DELTA_UNIT);
        }
        frames.push(buffer);
        file = rest;
    }
    frames
}

/// Two GOPs of 720p30 at 2.5 Mbit/s, the first frame of each a key frame.
pub fn encode() -> Vec<u8> {
    gst::init().unwrap();
    let description = format!(
        "videotestsrc num-buffers={} pattern=smpte horizontal-speed=3 \
         ! video/x-raw,width=1280,height=720,framerate=30/1 \
         ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max={GOP} bitrate=2500 \
         ! video/x-h264,profile=constrained-baseline ! h264parse config-interval=-1 \
         ! video/x-h264,stream-format=byte-stream,alignment=au ! appsink name=sink sync=false",
        2 * GOP
    );
    let pipeline = gst::parse::launch(&description).unwrap().downcast::<gst::Pipeline>().unwrap();
    let pipeline = lensline::guard::Pipeline::new(pipeline);
    pipeline.start().unwrap();
    let sink = pipeline.by_name("sink").unwrap().downcast::<gst_app::AppSink>().unwrap();
    let mut file = Vec::new();
    let mut frames = 0;
    while let Ok(sample) = sink.pull_sample() {
        let buffer = sample.buffer().unwrap();
        let delta = buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        assert_eq!(delta, !usize::is_multiple_of(frames, GOP));
        let frame = buffer.map_readable().unwrap();
        file.extend(u32::try_from(frame.len()).unwrap().to_be_bytes());
        file.extend_from_slice(&frame);
        frames += 1;
    }
    let rate_mbps = file.len() as f64 * 8.0 * 30.0 / frames as f64 / 1e6;
    eprintln!("{frames} frames of 720p30, {rate_mbps:.2} Mbit/s");
    file
}

/// Hands out the frames of the loop at 30 a second, for ever; from a key frame again when one is
/// `wanted`.
fn pace(frames: &[gst::Buffer], wanted: &AtomicBool, mut each: impl FnMut(gst::Buffer, bool)) -> ! {
    let mut due = std::time::Instant::now();
    let mut index = 0;
    loop {
        due += FRAME;
        std::thread::sleep(due.saturating_duration_since(std::time::Instant::now()));
        if index == frames.len() || wanted.swap(false, Ordering::Relaxed) {
            index = 0;
        }
        let mut frame = frames[index].copy();
        let key = !frame.flags().contains(gst::BufferFlags::DELTA_UNIT);
        frame.get_mut().unwrap().set_pts(gst::ClockTime::from(Timestamp::now()));
        each(frame, key);
        index += 1;
    }
}

fn own(frames: &[gst::Buffer]) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let ring = distributor::Limits {
        ring_frames: 256,
        subscribers_max: 64,
        lag_frames_max: 90,
        join_frames_max: 60,
    };
    let (publisher, hub) = distributor::channel(ring).unwrap();
    let rendition = Rendition::new("cam".into(), "main".into(), hub);
    let (camera, _control) = Camera::new(
        "cam".into(),
        vec![Arc::clone(&rendition)],
        "bench".into(),
        Duration::from_secs(5),
    );
    camera.update_status(|status| status.health = Health::Running);
    let metrics = Arc::new(Metrics::new().unwrap());
    let limits = Limits {
        webrtc_sessions_max: 1,
        rtsp_sessions_max: 64,
        sessions_per_address_max: 64,
        sessions_per_user_max: 64,
        joins_per_second_max: 1000,
    };
    let shutdown = Shutdown::new();
    let server = RtspServer::bind(
        &Rtsp {
            listen: ([127, 0, 0, 1], 0).into(),
            transports: vec![RtspTransport::Tcp, RtspTransport::Udp],
            tls: None,
        },
        Arc::new(Catalog::new(vec![Arc::clone(&camera)])),
        Admission::new(limits),
        Auth::new(&lensline::config::Auth::default()),
        Registry::new(Arc::clone(&metrics)),
        Arc::clone(&metrics),
        Teardowns::new(metrics.teardowns_stuck.clone()),
        runtime.handle().clone(),
        shutdown.listen(),
    )
    .unwrap();
    println!("rtsp://{}/cam", server.address());
    let wanted = Arc::new(AtomicBool::new(false));
    let (asked, hub) = (Arc::clone(&wanted), rendition.hub.clone());
    runtime.spawn(async move {
        loop {
            hub.key_frame_requested().await;
            asked.store(true, Ordering::Relaxed);
        }
    });
    publish(frames, &wanted, &rendition, publisher)
}

fn publish(
    frames: &[gst::Buffer],
    wanted: &AtomicBool,
    rendition: &Rendition,
    mut publisher: Publisher<Frame>,
) {
    let mut first = Vec::new();
    pace(frames, wanted, |payload, key| {
        if key && first.is_empty() {
            first = payload.map_readable().unwrap().to_vec();
            rendition.set_format(format_of(&first));
        }
        let now = Timestamp::now();
        rendition.saw_frame(now);
        publisher.publish(key, Frame::new(now, now, key, payload));
    })
}

fn shared(frames: &[gst::Buffer]) {
    let server = gst_rtsp_server::RTSPServer::new();
    server.set_address("127.0.0.1");
    server.set_service("0");
    let factory = gst_rtsp_server::RTSPMediaFactory::new();
    factory.set_launch(
        "( appsrc name=feed is-live=true format=time do-timestamp=true \
         caps=video/x-h264,stream-format=byte-stream,alignment=au ! rtph264pay name=pay0 pt=96 )",
    );
    factory.set_shared(true);
    factory.set_suspend_mode(gst_rtsp_server::RTSPSuspendMode::None);
    let source = Arc::new(Mutex::new(None::<gst_app::AppSrc>));
    let configured = Arc::clone(&source);
    factory.connect_media_configure(move |_, media| {
        let bin = media.element().downcast::<gst::Bin>().unwrap();
        *configured.lock().unwrap() = bin.by_name("feed").and_then(|feed| feed.downcast().ok());
    });
    server.mount_points().unwrap().add_factory("/cam", factory);
    server.attach(None).unwrap();
    println!("rtsp://127.0.0.1:{}/cam", server.bound_port());
    let frames = frames.to_vec();
    std::thread::spawn(move || {
        pace(&frames, &AtomicBool::new(false), |mut frame, _| {
            frame.get_mut().unwrap().set_pts(None);
            if let Some(source) = &*source.lock().unwrap() {
                let _ = source.push_buffer(frame);
            }
        })
    });
    glib::MainLoop::new(None, false).run();
}

/// The parameter sets of a key frame.
fn format_of(access_unit: &[u8]) -> Format {
    let starts: Vec<usize> = access_unit
        .windows(3)
        .enumerate()
        .filter(|(_, window)| *window == [0, 0, 1])
        .map(|(at, _)| at + 3)
        .collect();
    let unit = |kind: u8| {
        let index = starts.iter().position(|start| access_unit[*start] & 31 == kind).unwrap();
        let end = starts.get(index + 1).map_or(access_unit.len(), |next| next - 3);
        let unit = &access_unit[starts[index]..end];
        unit[..unit.iter().rposition(|byte| *byte != 0).unwrap() + 1].to_vec()
    };
    Format { width: 1280, height: 720, framerate: (30, 1), sps: unit(7), pps: unit(8) }
}
