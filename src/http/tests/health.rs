use super::*;
use crate::distributor::Cause;

#[tokio::test]
async fn every_metric_of_the_contract_that_this_side_can_know_is_there_from_the_start() {
    let site = Site::open().await;
    let response = site.get("/metrics").await;
    let content_type = response.headers()["content-type"].to_str().unwrap();
    assert!(content_type.starts_with("text/plain; version=0.0.4"), "{content_type}");
    let text = response.text().await.unwrap();
    for name in [
        "lensline_frames_published_total{camera=\"sim\",rendition=\"main\"}",
        "lensline_frames_delivered_total{camera=\"sim\",transport=\"webrtc\"}",
        "lensline_frames_skipped_total{camera=\"sim\",transport=\"rtsp_tcp\"}",
        "lensline_keyframe_requests_total{camera=\"sim\",cause=\"join\"}",
        "lensline_sessions{camera=\"sim\",transport=\"webrtc\"}",
        "lensline_sessions_total{camera=\"sim\",end=\"vanished\",transport=\"webrtc\"}",
        "lensline_join_seconds_count",
        "lensline_teardowns_stuck_total",
        "lensline_guards_live{kind=\"pipeline\"}",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_threads",
    ] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name} is missing in\n{text}");
    }
}

#[tokio::test]
async fn key_frame_requests_are_counted_once_however_often_they_are_scraped() {
    let site = Site::open().await;
    for rendition in &site.sim.renditions {
        rendition.hub.request_key_frame(Cause::Viewer);
    }
    let line = "lensline_keyframe_requests_total{camera=\"sim\",cause=\"viewer\"} 2";
    let scrapes = (0..8).map(|_| async { site.get("/metrics").await.text().await.unwrap() });
    for text in futures_util::future::join_all(scrapes).await {
        assert!(text.contains(line), "{text}");
    }
}

#[tokio::test]
async fn alive_is_alive_and_ready_names_the_camera_that_is_not() {
    let site = Site::open().await;
    assert_eq!(site.get("/healthz").await.status(), 200);
    let not_ready = problem(site.get("/readyz").await, 503, "not-ready").await;
    assert_eq!(not_ready["ready"], false);
    assert_eq!(not_ready["cameras"][0]["ready"], true);
    assert!(not_ready["cameras"][1]["reason"].as_str().unwrap().contains("no frame"));
    assert!(not_ready["detail"].as_str().unwrap().starts_with("dead: "));
}
