//! A network camera, played by gst-rtsp-server in this process.

use std::thread::JoinHandle as Thread;

use gst_rtsp_server::prelude::*;

use super::*;
use crate::catalog::{Control, ControlError};
use crate::nal;

/// An RTSP server on a main loop of its own, until dropped.
struct NetworkCamera {
    main_loop: glib::MainLoop,
    thread: Option<Thread<()>>,
    port: u16,
}

impl NetworkCamera {
    fn start(launch: &'static str) -> Self {
        gst::init().unwrap();
        let context = glib::MainContext::new();
        let main_loop = glib::MainLoop::new(Some(&context), false);
        let (sender, port) = std::sync::mpsc::channel();
        let looped = main_loop.clone();
        let thread = std::thread::spawn(move || {
            let server = gst_rtsp_server::RTSPServer::new();
            server.set_address("127.0.0.1");
            server.set_service("0");
            let factory = gst_rtsp_server::RTSPMediaFactory::new();
            factory.set_launch(launch);
            factory.set_shared(true);
            server.mount_points().unwrap().add_factory("/stream", factory);
            // The source goes with its context.
            let _attached = server.attach(Some(&context)).unwrap();
            sender.send(u16::try_from(server.bound_port()).unwrap()).unwrap();
            looped.run();
        });
        let port = port.recv_timeout(PATIENCE).unwrap();
        Self { main_loop, thread: Some(thread), port }
    }

    fn config(&self) -> config::Camera {
        config::Camera {
            id: "gate".into(),
            source: config::Source::Rtsp { url: format!("rtsp://127.0.0.1:{}/stream", self.port) },
            ..config::Camera::default()
        }
    }
}

impl Drop for NetworkCamera {
    fn drop(&mut self) {
        // On the loop itself: a quit before it runs would be lost.
        let main_loop = self.main_loop.clone();
        self.main_loop.context().invoke(move || main_loop.quit());
        self.thread.take().unwrap().join().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_camera_s_h264_is_passed_through() {
    let server = NetworkCamera::start(
        "( videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=30/1 \
           ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 \
           ! rtph264pay name=pay0 pt=96 )",
    );
    let bench = Bench::start(&server.config());
    let mut subscriber = bench.subscribe("main");
    let frames = collect(&mut subscriber, 45).await;
    for frame in frames.iter().filter(|frame| frame.key) {
        let map = frame.payload.map_readable().unwrap();
        let unit = nal::inspect(&map).unwrap();
        assert!(unit.sps.is_some() && unit.pps.is_some());
    }
    assert!(frames.windows(2).all(|pair| pair[0].captured < pair[1].captured));
    let now = crate::clock::Timestamp::now();
    let age = now.since(frames[44].captured);
    assert!(age < Duration::from_secs(5), "captured is near now: {age:?}");
    assert_eq!(decode(&frames, "avdec_h264").len(), 45);
    assert_eq!(bench.camera.status().encoder, "none");
    let change = Control::Bitrate { rendition: "main".into(), bitrate_bps: 500_000 };
    let refused = bench.camera.control(change).await.unwrap_err();
    assert!(matches!(refused, ControlError::Refused(words) if words.contains("passed through")));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_camera_that_sends_something_else_is_refused_in_words() {
    let server = NetworkCamera::start(
        "( videotestsrc is-live=true \
           ! video/x-raw,format=I420,width=320,height=240,framerate=10/1 \
           ! jpegenc ! rtpjpegpay name=pay0 pt=26 )",
    );
    let bench = Bench::start(&server.config());
    let reason = bench.lost().await;
    assert!(reason.contains("only H.264 can be passed through"), "{reason}");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_camera_that_is_away_is_waited_for() {
    let server = NetworkCamera::start("( videotestsrc ! fakesink )");
    let config = server.config();
    drop(server);
    let bench = Bench::start(&config);
    assert!(!bench.lost().await.is_empty());
    bench.stop().await;
}
