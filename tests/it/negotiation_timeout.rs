//! An offer is answered, and then nobody comes: the session ends by itself.

use std::time::{Duration, Instant};

use lensline_clients::{Look, WhepOffer};

use crate::common::{SMALL, SOON, beside_others, start};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_that_never_connects_is_let_go_at_the_negotiation_timeout() {
    let _machine = beside_others().await;
    let server = start(&format!("[webrtc]\nnegotiation_timeout_ms = 2000\n{SMALL}")).await;
    let offer = WhepOffer::new(Look::Packets { framerate: 30 }).await;
    let request = server.client.post(server.url("whep/sim"));
    let request = request.header("content-type", "application/sdp").body(offer.sdp.clone());
    // The offer's other half is gone before the answer comes: nobody will check connectivity.
    drop(offer);
    let asked = Instant::now();
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
    server.sessions_are(1, Duration::from_secs(2)).await;
    server.sessions_are(0, SOON).await;
    println!("let go {:?} after the offer, of 2 s", asked.elapsed());
    assert!(asked.elapsed() >= Duration::from_millis(1900), "{:?}", asked.elapsed());
    let metrics = server.metrics().await;
    let ends = metrics.by("lensline_sessions_total", "end");
    assert_eq!(ends.get("negotiation_timeout"), Some(&1.0), "{ends:?}\n{}", server.log());
    assert_eq!(server.stop().await.code, Some(0));
}
