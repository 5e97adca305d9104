//! The house is full: 503, when to come back, and room again when somebody leaves.

use std::collections::BTreeMap;

use lensline_clients::{
    JoinError, Lensline, Look, Recorder, RecorderTransport, WhepOffer, WhepReceiver, until, usage,
};
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
    assert_complete(&server, &first.tally).await;
}

/// Sends one offer a hundred times at once; how often each status came, and where who got in is.
async fn a_hundred_at_once(server: &Lensline, offer: &str) -> (BTreeMap<u16, usize>, Vec<String>) {
    let joins = (0..100).map(|_| {
        let request = server.client.post(server.url("whep/sim"));
        let request = request.header("content-type", "application/sdp").body(offer.to_owned());
        tokio::spawn(request.send())
    });
    let (mut statuses, mut inside) = (BTreeMap::new(), Vec::new());
    for join in joins.collect::<Vec<_>>() {
        // The client gives up after ten seconds: none hangs.
        let answer = join.await.unwrap().unwrap();
        let status = answer.status().as_u16();
        *statuses.entry(status).or_insert(0) += 1;
        if status == 201 {
            inside.push(answer.headers()["location"].to_str().unwrap().to_owned());
        } else {
            let seconds = answer.headers()["retry-after"].to_str().unwrap().parse::<u32>();
            assert!((1..=60).contains(&seconds.unwrap()));
        }
    }
    (statuses, inside)
}

async fn the_limit_holds_under_a_hundred_joins(engine: &str) {
    let _machine = beside_others().await;
    let config = format!(
        "[webrtc]\nengine = \"{engine}\"\n[limits]\nwebrtc_sessions_max = 10\n\
         sessions_per_address_max = 400\njoins_per_second_max = 1000\n{SMALL}"
    );
    let server = start(&config).await;
    let offer = WhepOffer::new(LOOK).await;
    let mut baseline = None;
    for round in 0..3 {
        let (statuses, inside) = a_hundred_at_once(&server, &offer.sdp).await;
        assert_eq!(statuses, BTreeMap::from([(201, 10), (503, 90)]), "{}", server.log());
        assert_eq!(server.sessions().await.len(), 10);
        for location in inside {
            let left = server.client.delete(server.url(location.trim_start_matches('/'))).send();
            assert_eq!(left.await.unwrap().status(), 200);
        }
        server.sessions_are(0, SOON).await;
        // The first round makes what is made once.
        let before = baseline.unwrap_or(u64::MAX - 8);
        let fds = until("descriptors are back", 3 * SOON, async || {
            let fds = usage(server.pid)?.open_fds;
            (fds <= before + 4).then_some(fds)
        });
        let fds = fds.await;
        println!("{engine}, round {round}: {fds} descriptors");
        if round == 0 {
            tokio::time::sleep(std::time::Duration::from_secs(2)).await;
            baseline = usage(server.pid).map(|usage| usage.open_fds);
        }
    }
    let metrics = server.metrics().await;
    let refused = metrics.by("lensline_requests_refused_total", "reason");
    assert_eq!(refused.get("limit-reached"), Some(&270.0), "{refused:?}");
    assert_eq!(server.stop().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_hundred_who_join_at_once_as_many_get_in_as_may_with_str0m() {
    the_limit_holds_under_a_hundred_joins("str0m").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_hundred_who_join_at_once_as_many_get_in_as_may_with_webrtcbin() {
    the_limit_holds_under_a_hundred_joins("webrtcbin").await;
}
