//! File descriptors run short: newcomers hear 503, who is here stays, and it passes.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use lensline_clients::{
    JoinError, Launch, Lensline, Look, Recorder, RecorderTransport, WhepReceiver, until, usage,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::{BINARY, SMALL, SOON, assert_complete, beside_others, frames_come};

const LOOK: Look = Look::Packets { framerate: 30 };

/// The program with `files` descriptors at most, soft and hard.
async fn start_with(files: u32, config: &str) -> Lensline {
    let directory = tempfile::tempdir().unwrap();
    let wrapper = directory.path().join("lensline");
    let script = format!("#!/bin/sh\nulimit -n {files}\nexec {BINARY} \"$@\"\n");
    std::fs::write(&wrapper, script).unwrap();
    std::fs::set_permissions(&wrapper, PermissionsExt::from_mode(0o755)).unwrap();
    Lensline::launch(&Launch::new(wrapper, config)).await
}

/// What a newcomer over HTTP hears first: the status line, or nothing.
async fn knock(address: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let mut heard = vec![0; 256];
    let read = tokio::time::timeout(SOON, stream.read(&mut heard)).await;
    let count = read.expect("an answer or an end").unwrap_or(0);
    (stream, String::from_utf8_lossy(&heard[..count]).lines().next().unwrap_or_default().into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_that_takes_every_descriptor_ends_nothing_and_passes() {
    let _machine = beside_others().await;
    let limits = "[limits]\nrtsp_sessions_max = 200\nsessions_per_address_max = 400\n\
                  joins_per_second_max = 1000\n";
    let mut server = start_with(160, &format!("{limits}{SMALL}")).await;
    let address = server.http.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let whep = server.url("whep/sim");
    let (whep, rtsp) = (whep.as_str(), server.rtsp[0].clone());
    let mut steady = Recorder::join(&rtsp, RecorderTransport::Tcp, 30).await.unwrap();
    steady.take(10, SOON).await.unwrap();
    let before = usage(server.pid).unwrap().open_fds;

    let (mut recorders, mut refused) = (Vec::new(), 0);
    for _ in 0..40 {
        match Recorder::join(&rtsp, RecorderTransport::Udp, 30).await {
            Ok(recorder) => recorders.push(recorder),
            Err(JoinError::Refused { status: 503, .. }) => refused += 1,
            // Of a crowd of those, some are closed without a word.
            Err(JoinError::Failed(_)) => {}
            Err(other) => panic!("{other:?}\n{}", server.log()),
        }
        // Who came is counted with what it opened a second later.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let of_recorders = usage(server.pid).unwrap().open_fds;
    let mut connections = Vec::new();
    let mut turned_away = 0;
    for _ in 0..300 {
        let (stream, line) = knock(&address).await;
        match &*line {
            "HTTP/1.1 200 OK" => connections.push(stream),
            "HTTP/1.1 503 Service Unavailable" | "" => turned_away += 1,
            other => panic!("{other}"),
        }
    }
    let most = usage(server.pid).unwrap().open_fds;
    println!(
        "{before} descriptors, {of_recorders} with {} recorders, {most} with {} connections; \
         refused {refused} and {turned_away}",
        recorders.len(),
        connections.len()
    );
    assert!(refused > 0 && turned_away > 0 && !connections.is_empty());
    assert!(most <= 160, "{most}");
    assert_eq!(server.ended(), None, "{}", server.log());
    steady.take(60, SOON).await.unwrap();

    drop((recorders, connections));
    until("descriptors are back", 3 * SOON, async || {
        (usage(server.pid)?.open_fds <= before + 4).then_some(())
    })
    .await;
    assert_complete(&server, &steady.tally).await;
    let viewer = WhepReceiver::join(&server.client, whep, LOOK).await.unwrap();
    frames_come("a viewer who came afterwards", 5, || viewer.tally()).await;
    let metrics = server.metrics().await;
    let reasons = metrics.by("lensline_requests_refused_total", "reason");
    assert!(reasons["no-descriptors"] >= 1.0 && reasons["descriptors_reserve"] >= 1.0);
    assert!(server.log().contains("let in more than there are file descriptors for"));
    drop(viewer);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(server.stop().await.code, Some(0));
}
