use gst::prelude::*;

use super::*;

/// A key frame from the encoder that is at hand.
fn key_frame() -> Frame {
    let description = "videotestsrc num-buffers=1 ! video/x-raw,width=320,height=240 \
        ! x264enc tune=zerolatency ! video/x-h264,stream-format=byte-stream,alignment=au \
        ! appsink name=sink sync=false";
    let pipeline = gst::parse::launch(description).unwrap().downcast::<gst::Pipeline>().unwrap();
    let sink = pipeline.by_name("sink").unwrap().downcast::<gst_app::AppSink>().unwrap();
    let pipeline = crate::guard::Pipeline::new(pipeline);
    pipeline.start().unwrap();
    let sample = sink.try_pull_sample(gst::ClockTime::from_seconds(5)).unwrap();
    let (payload, now) = (sample.buffer_owned().unwrap(), Timestamp::now());
    Frame::new(now, now, true, payload)
}

#[tokio::test]
async fn the_newest_key_frame_is_decoded_once_for_all_who_ask() {
    let mut site = Site::open().await;
    let frame = tokio::task::spawn_blocking(key_frame).await.unwrap();
    site.publisher.publish(true, frame);
    let asked = (0..5).map(|_| site.get("/snapshot/sim.jpg"));
    let mut pictures = Vec::new();
    for response in futures_util::future::join_all(asked).await {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "image/jpeg");
        assert!(response.headers().contains_key("lensline-captured-unix-ms"));
        pictures.push(response.bytes().await.unwrap());
    }
    assert_eq!(pictures[0][..2], [0xff, 0xd8], "a JPEG begins so");
    assert!(pictures.iter().all(|picture| *picture == pictures[0]));
}

#[tokio::test]
async fn there_is_no_picture_of_a_camera_that_gives_none() {
    let site = Site::open().await;
    problem(site.get("/snapshot/dead.jpg").await, 409, "camera-away").await;
    problem(site.get("/snapshot/nosuch.jpg").await, 404, "unknown-camera").await;
    problem(site.get("/snapshot/sim").await, 404, "unknown-camera").await;
    problem(site.get("/snapshot/sim.jpg").await, 503, "busy").await;
}

/// How often a key frame was decoded.
async fn decodes(site: &Site) -> String {
    let text = site.get("/metrics").await.text().await.unwrap();
    let name = "lensline_snapshots_decoded_total{camera=\"sim\"} ";
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned()
}

#[tokio::test]
async fn a_burst_of_a_hundred_costs_one_decode() {
    let mut site = Site::open().await;
    let frame = tokio::task::spawn_blocking(key_frame).await.unwrap();
    // Still the newest for as long as the test may take: none of the hundred asks for another.
    let now = Timestamp::now().plus(Duration::from_secs(3600));
    site.publisher.publish(true, Frame::new(now, now, true, frame.payload));
    let asked = (0..100).map(|_| async { site.get("/snapshot/sim.jpg").await.status() });
    let statuses = futures_util::future::join_all(asked).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(decodes(&site).await, "1");
}

#[tokio::test]
async fn who_has_the_picture_is_not_sent_it_again_and_who_asks_for_the_head_gets_that() {
    let mut site = Site::open().await;
    let frame = tokio::task::spawn_blocking(key_frame).await.unwrap();
    let now = Timestamp::now().plus(Duration::from_secs(3600));
    site.publisher.publish(true, Frame::new(now, now, true, frame.payload));
    let first = site.get("/snapshot/sim.jpg").await;
    let header =
        |response: &Response, name: &str| response.headers()[name].to_str().unwrap().to_owned();
    let (etag, length) = (header(&first, "etag"), header(&first, "content-length"));
    assert_eq!(header(&first, "cache-control"), "private, no-cache");
    assert!(header(&first, "last-modified").ends_with(" GMT"));
    for (known, status) in [
        (etag.clone(), 304),
        (format!("W/{etag}"), 304),
        (format!("\"other\", {etag}"), 304),
        ("*".to_owned(), 304),
        ("\"other\"".to_owned(), 200),
    ] {
        let request = site.request("GET", "/snapshot/sim.jpg").header("if-none-match", &known);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{known}");
        assert_eq!(header(&answer, "etag"), etag);
        assert_eq!(answer.bytes().await.unwrap().is_empty(), status == 304, "{known}");
    }
    let head = site.request("HEAD", "/snapshot/sim.jpg").send().await.unwrap();
    assert_eq!((head.status().as_u16(), header(&head, "content-length")), (200, length));
    assert!(head.bytes().await.unwrap().is_empty());
    assert_eq!(decodes(&site).await, "1");
}

#[tokio::test]
async fn a_picture_that_cannot_be_decoded_is_said_to_be_so_and_tried_once() {
    let mut site = Site::open().await;
    let frame = tokio::task::spawn_blocking(key_frame).await.unwrap();
    // Parameter sets as they should be, and a slice that is none.
    let mut bytes = frame.payload.map_readable().unwrap().to_vec();
    let slice = bytes.windows(4).position(|at| at[..3] == [0, 0, 1] && at[3] & 31 == 5).unwrap();
    bytes[slice + 4..].fill(0xff);
    let now = Timestamp::now().plus(Duration::from_secs(3600));
    let broken = gst::Buffer::from_slice(bytes);
    site.publisher.publish(true, Frame::new(now, now, true, broken));
    for _ in 0..3 {
        problem(site.get("/snapshot/sim.jpg").await, 502, "undecodable-picture").await;
    }
    assert_eq!(decodes(&site).await, "1");
}

#[tokio::test]
async fn who_asks_while_no_newer_key_frame_comes_is_not_kept_waiting_in_turn() {
    let mut site = Site::open().await;
    let mut frame = tokio::task::spawn_blocking(key_frame).await.unwrap();
    frame.captured = Timestamp::default();
    site.publisher.publish(true, frame);
    let asked = (0..100).map(|_| async { site.get("/snapshot/sim.jpg").await.status() });
    let statuses = futures_util::future::join_all(asked).await;
    // One second each, and the gate's bound of 15 s would have turned most of them away.
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(decodes(&site).await, "1");
    let asked = site.sim.renditions[0].hub.key_frame_requests(crate::distributor::Cause::Operator);
    // One, and a few more where the machine took seconds for the hundred.
    assert!((1..=10).contains(&asked), "{asked} key frames were asked for");
}
