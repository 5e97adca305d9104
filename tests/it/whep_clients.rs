//! WHEP as others speak it: aiortc and GStreamer.

use std::time::Duration;

use lensline_clients::{
    LightOffer, LightReceiver, Look, Tally, WhepReceiver, aiortc, own_address, quantile, until,
};
use serde_json::Value;

use crate::common::{SMALL, SOON, alone, assert_complete, beside_others, frames_come, start};

/// pion-based clients need one of the two to know the packets as this medium's.
fn assert_declares_what_it_sends(answer: &str) {
    let ssrc = answer.lines().any(|line| line.starts_with("a=ssrc:"));
    let mid = answer.lines().any(|line| {
        line.starts_with("a=extmap:") && line.contains("urn:ietf:params:rtp-hdrext:sdes:mid")
    });
    assert!(ssrc || mid, "the answer declares neither ssrc nor mid:\n{answer}");
}

/// What aiortc's lines say of the frames that came.
pub fn note(tally: &mut Tally, frame: &Value) {
    match frame["number"].as_u64() {
        Some(number) => tally.saw_number(number as u16, std::time::Instant::now()),
        None => tally.unreadable += 1,
    }
    frame["latency_ms"].as_f64().into_iter().for_each(|ms| tally.saw_latency(ms));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aiortc_watches_over_whep_and_says_goodbye() {
    let _machine = alone().await;
    let server = start(SMALL).await;
    let mut viewer = aiortc(&server.url("whep/sim"), &["--seconds", "5"]);
    let answer = viewer.event("answer", SOON).await;
    assert_declares_what_it_sends(answer["sdp"].as_str().unwrap());
    viewer.event("connected", SOON).await;
    server.sessions_are(1, SOON).await;
    let mut tally = Tally::default();
    let done = loop {
        let line = viewer.next(SOON).await.expect("aiortc ends with `done`");
        match line["event"].as_str() {
            Some("frame") => note(&mut tally, &line),
            Some("done") => break line,
            _ => panic!("{line}"),
        }
    };
    let median = quantile(&tally.latency_ms(), 0.5);
    println!("aiortc: {} frames, capture to decoded p50 {median} ms", tally.frames);
    assert!(tally.frames >= 60, "{tally:?}");
    assert_complete(&server, &tally).await;
    assert_eq!(done["delete_status"], 200, "{done}");
    server.sessions_are(0, SOON).await;
    let ends = server.metrics().await.by("lensline_sessions_total", "end");
    assert_eq!(ends.get("left"), Some(&1.0), "{ends:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gstreamer_watches_over_whep_from_the_first_picture_on() {
    let _machine = alone().await;
    let server = start(SMALL).await;
    let whep = server.url("whep/sim");
    let viewer = WhepReceiver::join(&server.client, &whep, Look::Stamps).await.unwrap();
    assert_declares_what_it_sends(&viewer.answer);
    frames_come("webrtcbin", 90, || viewer.tally()).await;
    let tally = viewer.tally();
    let first = tally.first.unwrap().duration_since(viewer.asked);
    println!("webrtcbin: first picture decoded {first:?} after the request");
    assert_complete(&server, &tally).await;
    assert!(tally.latency_ms().iter().all(|ms| (0.0..5_000.0).contains(ms)), "{tally:?}");
    let location = viewer.location.clone();
    assert_eq!(viewer.leave(&server.client).await.unwrap(), 200);
    server.sessions_are(0, SOON).await;
    let gone = server.client.delete(location).send().await.unwrap();
    assert_eq!(gone.status(), 404, "a session that has ended is not there any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_that_vanishes_is_let_go_after_the_silence_timeout() {
    let _machine = alone().await;
    let server = start(&format!("[webrtc]\nsilence_timeout_ms = 2000\n{SMALL}")).await;
    let mut viewer = aiortc(&server.url("whep/sim"), &["--seconds", "60"]);
    viewer.event("frame", SOON).await;
    server.sessions_are(1, SOON).await;
    drop(viewer);
    server.sessions_are(0, Duration::from_secs(30)).await;
    let ends = server.metrics().await.by("lensline_sessions_total", "end");
    assert_eq!(ends.get("vanished"), Some(&1.0), "{ends:?}\n{}", server.log());
}

/// NAT rebinding: found by the review of the engine, when such a viewer was sent nothing, and counted
/// as there, until its own ICE gave up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_whose_address_changes_sees_on_or_is_let_go() {
    let _machine = alone().await;
    let config = format!("[webrtc]\nsilence_timeout_ms = 3000\ninterfaces = [\"lo\"]\n{SMALL}");
    let server = start(&config).await;
    let from = std::net::Ipv4Addr::LOCALHOST.into();
    let whep = server.url("whep/sim");
    let viewer = LightReceiver::join(&server.client, &whep, from, 30).await.unwrap();
    frames_come("the light viewer", 30, || viewer.tally()).await;
    viewer.rebind();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = viewer.tally().frames;
    until("it sees on, or is let go", Duration::from_secs(12), async || {
        let sees_on = viewer.tally().frames > before + 10;
        (sees_on || server.sessions().await.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_who_signals_by_websocket_sees_and_ends_with_its_socket() {
    let _machine = alone().await;
    let server = start(SMALL).await;
    let from = own_address(std::net::Ipv4Addr::LOCALHOST.into());
    let socket = server.url("ws/sim").replacen("http", "ws", 1);
    for polite in [true, false] {
        let offer = LightOffer::new(from).await;
        let viewer = offer.websocket(&socket, 30).await.unwrap();
        frames_come("the viewer", 30, || viewer.tally()).await;
        match polite {
            true => viewer.leave(&server.client).await.unwrap(),
            false => drop(viewer),
        }
        server.sessions_are(0, SOON).await;
    }
    let ends = server.metrics().await.by("lensline_sessions_total", "end");
    assert_eq!(ends.get("left"), Some(&1.0), "{ends:?}\n{}", server.log());
    assert_eq!(ends.get("vanished"), Some(&1.0), "{ends:?}\n{}", server.log());
}

/// Found by an endurance run: a healthy GStreamer viewer was let go, as its reports are up to 6.2 s
/// apart (RFC 3550 section 6.3.1), and more where one is lost. Its answers to our checks count too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_whose_reports_are_far_apart_is_not_taken_for_gone() {
    let _machine = beside_others().await;
    let server = start(&format!("[webrtc]\nsilence_timeout_ms = 4000\n{SMALL}")).await;
    let look = Look::Packets { framerate: 30 };
    let whep = server.url("whep/sim");
    let viewer = WhepReceiver::join(&server.client, &whep, look).await.unwrap();
    frames_come("the viewer", 30 * 17, || viewer.tally()).await;
    let ends = server.metrics().await.by("lensline_sessions_total", "end");
    assert_eq!(ends.get("vanished"), Some(&0.0), "{ends:?}\n{}", server.log());
}
