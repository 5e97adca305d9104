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
