//! One viewer stopped, one vanished, one flooding key-frame requests: the others miss no frame.

use std::collections::BTreeMap;
use std::time::Duration;

use lensline_clients::{Lensline, Look, RtspReceiver, WhepReceiver, aiortc, send_signal, until};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::process::Command;

use crate::common::{SMALL, SOON, alone, assert_missed_nothing, frames_come, skipped, start};

const LOOK: Look = Look::Packets { framerate: 30 };

/// How long the trouble lasts.
const TROUBLE: Duration = Duration::from_secs(12);

/// Those who do nothing wrong.
struct Innocent {
    whep: WhepReceiver,
    tcp: RtspReceiver,
    udp: RtspReceiver,
    /// What their sessions had skipped when they had all come in.
    skipped: BTreeMap<String, u64>,
}

impl Innocent {
    async fn join(server: &Lensline) -> Self {
        let others = skipped(server).await;
        let whep = server.url("whep/sim");
        let mut innocent = Self {
            whep: WhepReceiver::join(&server.client, &whep, Look::Stamps).await.unwrap(),
            tcp: RtspReceiver::start(&server.rtsp[0], "tcp", Look::Stamps),
            udp: RtspReceiver::start(&server.rtsp[0], "udp", LOOK),
            skipped: BTreeMap::new(),
        };
        frames_come("WHEP", 10, || innocent.whep.tally()).await;
        frames_come("RTSP over TCP", 10, || innocent.tcp.tally()).await;
        frames_come("RTSP over UDP", 10, || innocent.udp.tally()).await;
        innocent.skipped = skipped(server).await;
        innocent.skipped.retain(|session, _| !others.contains_key(session));
        assert_eq!(innocent.skipped.len(), 3, "{:?} beside {others:?}", innocent.skipped);
        innocent
    }

    async fn assert_missed_nothing(&self, server: &Lensline) {
        let Self { whep, tcp, udp, skipped } = self;
        let tallies =
            [("WHEP", whep.tally()), ("RTSP/TCP", tcp.tally()), ("RTSP/UDP", udp.tally())];
        assert_missed_nothing(server, skipped, &tallies).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_viewer_costs_the_others_nothing_and_is_let_go() {
    let _machine = alone().await;
    let server = start(SMALL).await;
    let mut stopped_whep = aiortc(&server.url("whep/sim"), &["--seconds", "120"]);
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "quiet", "-rtsp_transport", "tcp", "-i", &server.rtsp[0]]);
    let mut stopped_rtsp = ffmpeg.args(["-f", "null", "-"]).kill_on_drop(true).spawn().unwrap();
    stopped_whep.event("frame", SOON).await;
    server.sessions_are(2, SOON).await;
    let innocent = Innocent::join(&server).await;
    let stopped = [stopped_whep.pid().unwrap(), stopped_rtsp.id().unwrap()];
    stopped.iter().for_each(|pid| send_signal(*pid, Signal::STOP));
    tokio::time::sleep(TROUBLE).await;
    innocent.assert_missed_nothing(&server).await;
    let ends = server.metrics().await.by("lensline_sessions_total", "end");
    println!("ends while stopped: {ends:?}");
    assert_eq!(ends.get("vanished"), Some(&1.0), "silent for longer than 8 s: {ends:?}");
    stopped.iter().for_each(|pid| send_signal(*pid, Signal::KILL));
    stopped_rtsp.wait().await.unwrap();
    server.sessions_are(3, SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_rtsp_viewer_that_reads_nothing_is_closed_for_its_backlog() {
    let _machine = alone().await;
    let server = start(SMALL).await;
    let innocent = Innocent::join(&server).await;
    let mut deaf = play_and_stop_reading(&server.rtsp[0]).await;
    server.sessions_are(4, SOON).await;
    let bound = Duration::from_secs(60);
    let ends = until("the deaf viewer is closed", bound, async || {
        let ends = server.metrics().await.by("lensline_sessions_total", "end");
        (ends.values().sum::<f64>() > 0.0).then_some(ends)
    })
    .await;
    assert_eq!(ends.get("backlog"), Some(&1.0), "{ends:?}\n{}", server.log());
    server.sessions_are(3, SOON).await;
    innocent.assert_missed_nothing(&server).await;
    let _ = deaf.shutdown().await;
}

/// An RTSP session over TCP with the smallest receive buffer there is, of which nothing is read.
async fn play_and_stop_reading(address: &str) -> tokio::net::TcpStream {
    let host = address.trim_start_matches("rtsp://").split('/').next().unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(host.parse().unwrap()).await.unwrap();
    let described = ask(&mut stream, &format!("DESCRIBE {address} RTSP/1.0\r\nCSeq: 1"), "").await;
    let header = |name: &str| {
        let line = described.lines().find(|line| line.to_lowercase().starts_with(name));
        line.map(|line| line[name.len()..].trim().to_owned())
    };
    let base = header("content-base:").unwrap_or_else(|| format!("{address}/"));
    let control = described.lines().rev().find_map(|line| line.strip_prefix("a=control:")).unwrap();
    let track =
        if control.contains("://") { control.to_owned() } else { format!("{base}{control}") };
    let transport = "\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1";
    let set_up = ask(&mut stream, &format!("SETUP {track} RTSP/1.0\r\nCSeq: 2"), transport).await;
    let session = set_up.lines().find(|line| line.to_lowercase().starts_with("session:")).unwrap();
    let session = session.split(';').next().unwrap();
    let play = format!("PLAY {address} RTSP/1.0\r\nCSeq: 3\r\n{session}\r\n\r\n");
    stream.write_all(play.as_bytes()).await.unwrap();
    stream
}

async fn ask(stream: &mut tokio::net::TcpStream, request: &str, header: &str) -> String {
    stream.write_all(format!("{request}{header}\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let read = tokio::time::timeout(SOON, stream.read(&mut piece)).await.unwrap().unwrap();
        assert!(read > 0, "closed: {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let lower = head.to_lowercase();
        let length = lower.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length = length.map_or(0, |length| length.trim().parse::<usize>().unwrap());
        if body.len() >= length {
            assert!(head.starts_with("RTSP/1.0 200"), "{head}");
            return text.into_owned();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn viewers_that_are_killed_cost_the_others_nothing() {
    let _machine = alone().await;
    let server = start(SMALL).await;
    let mut killed_whep = aiortc(&server.url("whep/sim"), &["--seconds", "120"]);
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "quiet", "-rtsp_transport", "udp", "-i", &server.rtsp[0]]);
    let mut killed_rtsp = ffmpeg.args(["-f", "null", "-"]).kill_on_drop(true).spawn().unwrap();
    killed_whep.event("frame", SOON).await;
    server.sessions_are(2, SOON).await;
    let innocent = Innocent::join(&server).await;
    drop(killed_whep);
    killed_rtsp.kill().await.unwrap();
    tokio::time::sleep(TROUBLE).await;
    innocent.assert_missed_nothing(&server).await;
    server.sessions_are(3, Duration::from_secs(90)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_key_frame_requests_costs_the_others_nothing_and_few_key_frames() {
    let _machine = alone().await;
    let server = start(SMALL).await;
    let innocent = Innocent::join(&server).await;
    let options = ["--seconds", "12", "--pli-per-second", "100"];
    let mut flood = aiortc(&server.url("whep/sim"), &options);
    flood.event("frame", SOON).await;
    let before = innocent.whep.tally().key_frames;
    flood.event("done", TROUBLE + SOON).await;
    innocent.assert_missed_nothing(&server).await;
    let key_frames = innocent.whep.tally().key_frames - before;
    let metrics = server.metrics().await;
    let causes = metrics.by("lensline_keyframe_requests_total", "cause");
    println!("{key_frames} key frames in 12 s of 100 PLI a second; requests by cause: {causes:?}");
    // One in 2 s comes by itself; the coalescing window lets few more through.
    assert!(key_frames <= 30, "{key_frames} key frames in 12 s: {causes:?}");
}
