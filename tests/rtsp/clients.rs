//! The clients that people use: ffmpeg, GStreamer, retina.

use std::process::Command;
use std::time::Duration;

use futures_util::StreamExt;
use gst::prelude::*;
use retina::client::{
    PlayOptions, Session, SessionOptions, SetupOptions, TcpTransportOptions, Transport,
    UdpTransportOptions,
};
use retina::codec::CodecItem;

use super::house::{House, eventually};

/// Bound on any one client.
const PATIENCE: &str = "20";

#[test]
fn ffprobe_and_ffmpeg_see_the_stream_over_tcp_and_udp() {
    let house = House::open();
    for transport in ["tcp", "udp"] {
        let probe = Command::new("timeout")
            .args([PATIENCE, "ffprobe", "-v", "error", "-rtsp_transport", transport])
            .args(["-show_entries", "stream=codec_name,width,height", "-of", "csv=p=0"])
            .arg(house.url("/cam"))
            .output()
            .unwrap();
        let shown = String::from_utf8_lossy(&probe.stdout);
        assert_eq!(shown.trim(), "h264,320,180", "{transport}: {probe:?}");

        let decode = Command::new("timeout")
            .args([PATIENCE, "ffmpeg", "-v", "warning", "-xerror", "-rtsp_transport", transport])
            .args(["-i", &house.url("/cam/main"), "-frames:v", "45", "-f", "null", "-"])
            .output()
            .unwrap();
        let complaints = String::from_utf8_lossy(&decode.stderr);
        assert!(decode.status.success(), "{transport}: {complaints}");
        assert!(!complaints.to_lowercase().contains("error"), "{transport}: {complaints}");
        assert!(!complaints.contains("monoton"), "{transport}: {complaints}");
    }
    house.empties();
    assert!(house.ended("rtsp_udp", "left") >= 2 && house.ended("rtsp_tcp", "left") >= 2);
}

#[test]
fn gstreamer_s_source_begins_with_a_key_frame_over_tcp_and_udp() {
    let house = House::open();
    for transport in ["tcp", "udp"] {
        let description = format!(
            "rtspsrc location={} protocols={transport} latency=0 ! rtph264depay \
             ! video/x-h264,stream-format=byte-stream,alignment=au ! appsink name=sink sync=false",
            house.url("/cam")
        );
        let pipeline = gst::parse::launch(&description).unwrap();
        let pipeline = lensline::guard::Pipeline::new(pipeline.downcast().unwrap());
        pipeline.start().unwrap();
        let sink = pipeline.by_name("sink").unwrap().downcast::<gst_app::AppSink>().unwrap();
        let mut last = None;
        for index in 0..30 {
            let sample = sink.try_pull_sample(gst::ClockTime::from_seconds(10));
            let sample = sample.unwrap_or_else(|| panic!("{transport}: no frame {index}"));
            let buffer = sample.buffer().unwrap();
            let delta = buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
            assert!(index > 0 || !delta, "{transport}: begins with a delta unit");
            assert!(buffer.pts() > last, "{transport}: {:?} after {last:?}", buffer.pts());
            last = buffer.pts();
        }
        drop(pipeline);
        eventually("it has left", || house.registry.list().is_empty());
    }
    house.empties();
}

#[test]
fn retina_takes_every_frame_over_tcp_and_udp() {
    let house = House::open();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for transport in [
        Transport::Tcp(TcpTransportOptions::default()),
        Transport::Udp(UdpTransportOptions::default()),
    ] {
        let url = house.url("/cam").parse().unwrap();
        let watch = async {
            let mut session = Session::describe(url, SessionOptions::default()).await.unwrap();
            session.setup(0, SetupOptions::default().transport(transport)).await.unwrap();
            let session = session.play(PlayOptions::default()).await.unwrap();
            let mut frames = session.demuxed().unwrap();
            let mut last = i64::MIN;
            for index in 0..30 {
                let item = frames.next().await.unwrap().unwrap();
                let CodecItem::VideoFrame(frame) = item else { continue };
                assert!(index > 0 || frame.is_random_access_point());
                assert_eq!(frame.loss(), 0);
                assert!(frame.timestamp().timestamp() > last);
                last = frame.timestamp().timestamp();
            }
        };
        runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(20), watch).await.unwrap();
        });
    }
    // What says goodbye is a task of the runtime.
    drop(runtime);
    house.empties();
}
