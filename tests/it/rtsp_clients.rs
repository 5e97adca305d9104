//! RTSP as others speak it: ffmpeg, GStreamer and retina.
//!
//! Not VLC: Debian builds it without live555 (3.0.24: `--disable-live555`), its RTSP client.

use std::time::Duration;

use lensline_clients::{
    Finished, Lensline, Look, Recorder, RecorderTransport, RtspReceiver, quantile, run,
};
use serde_json::Value;
use tokio::process::Command;

use crate::common::{SMALL, SOON, alone, assert_complete, frames_come, start};

/// How long a player of somebody else may take, with its own buffering, for a few seconds of it.
const PLAYER: Duration = Duration::from_secs(40);

async fn ffprobe(server: &Lensline, transport: &str) -> Value {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-rtsp_transport", transport, "-timeout", "10000000"]);
    command.args(["-show_streams", "-show_packets", "-read_intervals", "%+3", "-of", "json"]);
    let finished = run(command.arg(&server.rtsp[0]), PLAYER).await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(!finished.stderr.contains("error"), "{}", finished.stderr);
    serde_json::from_str(&finished.stdout).unwrap()
}

fn assert_is_our_stream(probed: &Value) {
    let streams = probed["streams"].as_array().unwrap();
    assert_eq!(streams.len(), 1, "{probed}");
    let stream = &streams[0];
    assert_eq!(stream["codec_name"], "h264", "{stream}");
    assert_eq!((&stream["width"], &stream["height"]), (&1280.into(), &720.into()), "{stream}");
    assert_eq!(stream["has_b_frames"], 0, "{stream}");
    let packets = probed["packets"].as_array().unwrap();
    assert!(packets.len() >= 60, "{} packets in 3 s", packets.len());
    let flags = packets[0]["flags"].as_str().unwrap();
    assert!(flags.starts_with('K'), "the first packet is a key frame: {flags}");
    let times: Vec<i64> = packets.iter().filter_map(|packet| packet["pts"].as_i64()).collect();
    assert!(times.len() + 2 >= packets.len(), "time stamps are there: {times:?}");
    assert!(times.is_sorted_by(|a, b| a < b), "time stamps rise strictly: {times:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ffprobe_sees_the_stream_over_tcp_and_over_udp() {
    let _machine = alone().await;
    let server = start("").await;
    for transport in ["tcp", "udp"] {
        assert_is_our_stream(&ffprobe(&server, transport).await);
    }
    server.sessions_are(0, SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ffmpeg_decodes_without_a_complaint() {
    let _machine = alone().await;
    let server = start("").await;
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-v", "warning", "-rtsp_transport", "tcp", "-i"]);
    command.args([&server.rtsp[0], "-t", "3", "-f", "framecrc", "-"]);
    let Finished { code, stdout, stderr } = run(&mut command, PLAYER).await;
    assert_eq!(code, Some(0), "{stderr}");
    let frames = stdout.lines().filter(|line| !line.starts_with('#')).count();
    assert!(frames >= 60, "{frames} frames\n{stderr}");
    for complaint in ["error", "corrupt", "non-monoton", "missing", "concealing"] {
        assert!(!stderr.to_lowercase().contains(complaint), "{stderr}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rtspsrc_sees_every_picture_over_tcp_and_over_udp() {
    let _machine = alone().await;
    let server = start(SMALL).await;
    for protocol in ["tcp", "udp"] {
        let viewer = RtspReceiver::start(&server.rtsp[0], protocol, Look::Stamps);
        let tally = frames_come(protocol, 90, || viewer.tally()).await;
        let median = quantile(&tally.latency_ms(), 0.5);
        println!("rtspsrc over {protocol}: capture to decoded p50 {median:.1} ms");
        assert_complete(&server, &tally).await;
    }
    server.sessions_are(0, SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retina_records_from_a_key_frame_on_and_finds_the_same_sdp_again() {
    let _machine = alone().await;
    let server = start(SMALL).await;
    let mut seen = Vec::new();
    for transport in [RecorderTransport::Tcp, RecorderTransport::Udp, RecorderTransport::Tcp] {
        let mut recorder = Recorder::join(&server.rtsp[0], transport, 30).await.unwrap();
        recorder.take(60, SOON).await.unwrap();
        assert_eq!(recorder.first_is_key, Some(true), "{transport:?}");
        assert_complete(&server, &recorder.tally).await;
        assert!(recorder.sdp.contains("sprop-parameter-sets="), "{}", recorder.sdp);
        // The session's own line (`o=`) may name another session.
        let lines = recorder.sdp.lines().filter(|line| !line.starts_with("o="));
        seen.push(lines.collect::<Vec<_>>().join("\n"));
    }
    assert_eq!(seen[0], seen[2], "the SDP is the same across reconnects");
}
