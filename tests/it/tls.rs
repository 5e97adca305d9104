//! RTSPS: what others see inside TLS, what is refused, and that a new certificate disturbs nobody.
//!
//! HTTPS is in `viewer_page`, and in the library's own tests.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use lensline_clients::{
    Credentials, Finished, Launch, Lensline, Look, Recorder, RecorderTransport, RtspConversation,
    RtspReceiver, Tunnel, free_port, run, send_signal, until,
};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

use crate::common::{
    BINARY, SMALL, SOON, alone, assert_complete, assert_missed_nothing, beside_others, frames_come,
    skipped, start,
};

/// How long what takes its time by design may take: a handshake 10 s, a change of files 4 s, the
/// end of one who does not read some seconds more than its buffers last.
const PATIENCE: Duration = Duration::from_secs(60);

async fn secure(credentials: &Credentials) -> Lensline {
    start(&format!("[rtsp]\n{}{SMALL}", credentials.toml())).await
}

fn address(server: &Lensline) -> SocketAddr {
    let host = server.rtsp[0].strip_prefix("rtsps://").expect("the ready line says rtsps://");
    host.split('/').next().unwrap().parse().unwrap()
}

/// A viewer without TLS of its own.
async fn recorder(tunnel: &Tunnel) -> Recorder {
    let url = format!("rtsp://{}/sim", tunnel.address);
    Recorder::join(&url, RecorderTransport::Tcp, 30).await.unwrap()
}

/// How handshakes of RTSPS ended so far.
async fn handshakes(server: &Lensline, outcome: &str) -> f64 {
    let labels = [("door", "rtsp"), ("outcome", outcome)];
    server.metrics().await.sum("lensline_tls_handshakes_total", &labels)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ffmpeg_rtspsrc_and_retina_see_every_picture_inside_tls() {
    let _machine = alone().await;
    let server = secure(&Credentials::new()).await;
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-v", "warning", "-i", &server.rtsp[0]]);
    let Finished { code, stdout, stderr } =
        run(command.args(["-t", "3", "-f", "framecrc", "-"]), PATIENCE).await;
    assert_eq!(code, Some(0), "{stderr}");
    let frames = stdout.lines().filter(|line| !line.starts_with('#')).count();
    assert!(frames >= 60, "{frames} frames\n{stderr}");
    for complaint in ["error", "corrupt", "non-monoton", "missing", "concealing"] {
        assert!(!stderr.to_lowercase().contains(complaint), "{stderr}");
    }

    // It asks for UDP first, and is sent to TCP.
    let viewer = RtspReceiver::start(&server.rtsp[0], "udp+tcp", Look::Stamps);
    assert_complete(&server, &frames_come("rtspsrc", 90, || viewer.tally()).await).await;
    drop(viewer);

    let tunnel = Tunnel::open(address(&server)).await;
    let mut recorder = recorder(&tunnel).await;
    recorder.take(60, SOON).await.unwrap();
    assert_eq!(recorder.first_is_key, Some(true));
    assert_complete(&server, &recorder.tally).await;
    let sessions = server.sessions_are(1, SOON).await;
    assert_eq!(sessions[0]["transport"], "rtsp_tcp", "{sessions:?}");
    recorder.leave().await.unwrap();
    server.sessions_are(0, SOON).await;
    assert!(!server.log().contains("glib"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_description_names_the_address_that_was_reached_and_media_stays_in_the_connection() {
    let _machine = beside_others().await;
    let credentials = Credentials::new();
    let mut launch = Launch::new(BINARY, format!("[rtsp]\n{}{SMALL}", credentials.toml()));
    launch.rtsp_listen = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), free_port()));
    let server = Lensline::launch(&launch).await;
    let tunnel = Tunnel::open(address(&server)).await;
    let conversation = tokio::task::spawn_blocking(move || {
        let mut viewer = RtspConversation::connect(tunnel.address, "/sim");
        let described = viewer.ask("DESCRIBE", "", &[("Accept", "application/sdp")]);
        assert_eq!(described.status, 200);
        assert!(described.body.contains(" 1 IN IP4 127.0.0.2\r\n"), "{}", described.body);
        for transport in ["RTP/AVP;unicast;client_port=5000-5001", "RTP/AVP;multicast"] {
            let refused = viewer.ask("SETUP", "/stream=0", &[("Transport", transport)]);
            assert_eq!(refused.status, 461, "{transport}");
        }
        let (mut viewer, _) = RtspConversation::play(tunnel.address, "/sim");
        assert!(viewer.picture().is_some());
    });
    conversation.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_older_than_tls_1_2_is_refused_at_both_doors() {
    let _machine = beside_others().await;
    let credentials = Credentials::new();
    let tls = credentials.toml();
    let server = start(&format!("[server]\n{tls}[rtsp]\n{tls}{SMALL}")).await;
    let http = server.http.strip_prefix("https://").expect("the ready line says https://");
    let doors = [http.trim_end_matches('/').to_owned(), address(&server).to_string()];
    for door in &doors {
        for (options, welcome) in [
            (&["-tls1"][..], false),
            (&["-tls1_1"], false),
            (&["-tls1_2", "-cipher", "AES128-GCM-SHA256:AES256-SHA256:AES128-SHA"], false),
            (&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"], false),
            (&["-tls1_2"], true),
            (&["-tls1_3"], true),
        ] {
            let mut command = Command::new("openssl");
            command.args(["s_client", "-connect", door]).args(options);
            if !options.contains(&"-cipher") {
                command.args(["-cipher", "ALL:@SECLEVEL=0"]);
            }
            let finished = run(&mut command, SOON).await;
            let agreed = !finished.stdout.contains("Cipher is (NONE)");
            assert_eq!(agreed, welcome, "{door} {options:?}: {finished:?}");
            assert!(welcome || finished.stderr.contains("alert"), "{options:?}: {finished:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_and_half_handshakes_keep_nobody_out_and_leave_nothing() {
    let _machine = alone().await;
    let server = secure(&Credentials::new()).await;
    let tunnel = Tunnel::open(address(&server)).await;
    recorder(&tunnel).await.take(5, SOON).await.unwrap();
    server.sessions_are(0, SOON).await;
    let before = server.usage();

    let mut plain = TcpStream::connect(address(&server)).await.unwrap();
    plain.write_all(b"OPTIONS * RTSP/1.0\r\nCSeq: 7\r\n\r\n").await.unwrap();
    let answer = rest(plain).await;
    assert!(answer.starts_with("RTSP/1.0 400 This Is RTSPS"), "{answer}");
    assert!(answer.contains("CSeq: 7\r\n") && answer.contains("rtsps://"), "{answer}");

    let began = Instant::now();
    let mut held = Vec::new();
    for said in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"DESCRIBE"] {
        for _ in 0..8 {
            let mut stream = TcpStream::connect(address(&server)).await.unwrap();
            stream.write_all(said).await.unwrap();
            held.push(stream);
        }
    }
    for garbage in [&b"\x16\x03\x01\xff\xff"[..], b"\x16garbage, and more of it", &[0x16; 70_000]] {
        let mut stream = TcpStream::connect(address(&server)).await.unwrap();
        // It may be closed before everything is written.
        let _ = stream.write_all(garbage).await;
        rest(stream).await;
    }
    let mut honest = recorder(&tunnel).await;
    honest.take(30, SOON).await.unwrap();
    assert_complete(&server, &honest.tally).await;
    for stream in held {
        rest(stream).await;
    }
    println!("the last half handshake was closed after {:?}", began.elapsed());
    honest.take(honest.tally.frames + 30, SOON).await.unwrap();
    honest.leave().await.unwrap();
    server.sessions_are(0, SOON).await;
    until("all descriptors are given back", PATIENCE, async || {
        (server.usage().open_fds <= before.open_fds).then_some(())
    })
    .await;
    assert!(handshakes(&server, "failed").await >= 3.0);
    assert!(handshakes(&server, "plain").await >= 1.0);
}

/// All that comes until the connection is closed.
async fn rest(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut text)).await;
    // A reset ends it too.
    let _ = read.expect("the connection is closed");
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_certificate_is_shown_to_newcomers_and_who_watches_loses_nothing() {
    let _machine = alone().await;
    let credentials = Credentials::new();
    let server = secure(&credentials).await;
    let viewer = RtspReceiver::start(&server.rtsp[0], "tcp", Look::Stamps);
    frames_come("rtspsrc", 30, || viewer.tally()).await;
    let held = skipped(&server).await;
    let tunnel = Tunnel::open(address(&server)).await;
    let shown = async || {
        recorder(&tunnel).await.leave().await.unwrap();
        tunnel.certificate().expect("a certificate")
    };
    let expires = async || {
        server.metrics().await.sum("lensline_tls_certificate_expires_seconds", &[("door", "rtsp")])
    };
    let (old, old_expiry) = (shown().await, expires().await);

    credentials.replace(&credentials.certificate, "broken");
    until("what is broken is in the log", PATIENCE, async || {
        server.log().contains("the certificate from before stays in use").then_some(())
    })
    .await;
    assert!(server.log().contains("no BEGIN CERTIFICATE"), "{}", server.log());
    assert_eq!(shown().await, old);

    credentials.renew(2020, 2080);
    let new = until("the new certificate is shown", PATIENCE, async || {
        Some(shown().await).filter(|shown| *shown != old)
    })
    .await;
    until("its expiry is known", SOON, async || (expires().await < old_expiry).then_some(())).await;

    credentials.renew(2020, 2070);
    server.signal(Signal::HUP);
    until("another is shown after SIGHUP", PATIENCE, async || {
        Some(shown().await).filter(|shown| *shown != new)
    })
    .await;
    let tallies = [("rtspsrc", viewer.tally())];
    assert_missed_nothing(&server, &held, &tallies).await;
    assert_complete(&server, &tallies[0].1).await;
    let said = server.log().matches("stays in use").count();
    assert_eq!(said, 1, "it is said once:\n{}", server.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_that_reads_nothing_is_closed_and_the_others_do_not_notice() {
    let _machine = alone().await;
    let server = secure(&Credentials::new()).await;
    let innocent = RtspReceiver::start(&server.rtsp[0], "tcp", Look::Stamps);
    frames_come("the innocent", 10, || innocent.tally()).await;
    let held = skipped(&server).await;
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "quiet", "-i", &server.rtsp[0], "-f", "null", "-"]);
    let mut deaf = command.kill_on_drop(true).spawn().unwrap();
    server.sessions_are(2, SOON).await;
    send_signal(deaf.id().unwrap(), Signal::STOP);
    let ends = until("the deaf viewer is closed", PATIENCE, async || {
        let ends = server.metrics().await.by("lensline_sessions_total", "end");
        (ends.values().sum::<f64>() > 0.0).then_some(ends)
    })
    .await;
    assert_eq!(ends.get("backlog"), Some(&1.0), "{ends:?}\n{}", server.log());
    server.sessions_are(1, SOON).await;
    assert_missed_nothing(&server, &held, &[("the innocent", innocent.tally())]).await;
    deaf.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_and_leaves_inside_tls_leave_nothing_and_a_stop_is_clean() {
    let _machine = alone().await;
    let credentials = Credentials::new();
    let server = start(&format!(
        "[limits]\nrtsp_sessions_max = 4\njoins_per_second_max = 1000\n[rtsp]\n{}{SMALL}",
        credentials.toml()
    ))
    .await;
    let tunnel = Tunnel::open(address(&server)).await;
    visit(&tunnel, 4).await;
    server.sessions_are(0, SOON).await;
    let before = server.usage();
    visit(&tunnel, 40).await;
    server.sessions_are(0, SOON).await;

    let mut inside = Vec::new();
    for _ in 0..4 {
        inside.push(recorder(&tunnel).await);
    }
    let url = format!("rtsp://{}/sim", tunnel.address);
    let refused = Recorder::join(&url, RecorderTransport::Tcp, 30).await.err().unwrap();
    assert!(format!("{refused:?}").contains("status: 503"), "{refused:?}");
    drop(inside);
    server.sessions_are(0, SOON).await;
    until("all descriptors are given back", PATIENCE, async || {
        (server.usage().open_fds <= before.open_fds).then_some(())
    })
    .await;
    let _watching = recorder(&tunnel).await;
    assert_eq!(server.stop().await.code, Some(0));
}

/// Comes and goes, one after the other, at four stages and without a word.
async fn visit(tunnel: &Tunnel, visits: usize) {
    let address = tunnel.address;
    let visits = tokio::task::spawn_blocking(move || {
        for visit in 0..visits {
            let mut viewer = RtspConversation::connect(address, "/sim");
            match visit % 4 {
                0 => drop(viewer.ask("OPTIONS", "", &[])),
                1 => drop(viewer.set_up()),
                _ => {
                    let (mut viewer, _) = RtspConversation::play(address, "/sim");
                    assert!(viewer.picture().is_some());
                }
            }
        }
    });
    visits.await.unwrap();
}
