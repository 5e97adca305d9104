//! The house is full: 503, when to come back, and room again when somebody leaves.

use lensline_clients::{JoinError, Look, Recorder, RecorderTransport, WhepReceiver};
use serde_json::Value;

use crate::common::{SMALL, SOON, assert_complete, beside_others, frames_come, start};

const LOOK: Look = Look::Packets { framerate: 30 };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_webrtc_viewer_too_many_is_told_when_to_come_back() {
    let _machine = beside_others().await;
    let server = start(&format!("[limits]\nwebrtc_sessions_max = 1\n{SMALL}")).await;
    let whep = server.url("whep/sim");
    let first = WhepReceiver::join(&server.client, &whep, LOOK).await.unwrap();
    frames_come("the first viewer", 5, || first.tally()).await;
    let refused = WhepReceiver::join(&server.client, &whep, LOOK).await.unwrap_err();
    let JoinError::Refused { status: 503, retry_after: Some(seconds), body } = refused else {
        panic!("{refused:?}");
    };
    assert!((1..=60).contains(&seconds), "{seconds}");
    let problem: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(problem["status"], 503, "{problem}");
    assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
    assert!(first.leave(&server.client).await.unwrap() < 300);
    server.sessions_are(0, SOON).await;
    let again = WhepReceiver::join(&server.client, &whep, LOOK).await.unwrap();
    frames_come("the viewer that came back", 5, || again.tally()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_rtsp_viewer_too_many_is_refused_and_the_first_does_not_notice() {
    let _machine = beside_others().await;
    let server = start(&format!("[limits]\nrtsp_sessions_max = 1\n{SMALL}")).await;
    let address = &server.rtsp[0];
    let mut first = Recorder::join(address, RecorderTransport::Tcp, 30).await.unwrap();
    first.take(10, SOON).await.unwrap();
    let second = Recorder::join(address, RecorderTransport::Tcp, 30).await;
    let refused = second.err().expect("the second is refused");
    assert!(matches!(refused, JoinError::Refused { status: 453 | 503, .. }), "{refused:?}");
    first.take(60, SOON).await.unwrap();
    assert_complete(&server, &first.tally);
}
