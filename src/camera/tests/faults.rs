//! Cameras that fail: the session stays, nothing that cannot be decoded is published, and the
//! picture comes back.

use super::*;
use crate::config::{Fault, FaultKind};

fn faulty(kind: FaultKind, at_ms: u64, for_ms: u64) -> config::Camera {
    let mut config = simulated(320, 240);
    config.source = config::Source::Simulated(config::Simulated {
        faults: vec![Fault { at_ms, kind, for_ms }],
        ..config::Simulated::default()
    });
    config.watchdog.timeout_ms = 1_000;
    config
}

/// Frames until `count` have come that were captured after the fault's end.
async fn through(bench: &Bench, until_ms: u64, count: usize) -> Vec<Frame> {
    let mut subscriber = bench.subscribe("main");
    let first = next(&mut subscriber).await.item;
    let end = first.captured.plus(Duration::from_millis(until_ms));
    let mut frames = vec![first];
    while frames.iter().filter(|frame| frame.captured > end).count() < count {
        frames.push(next(&mut subscriber).await.item);
    }
    let rises = frames.windows(2).all(|pair| pair[0].captured < pair[1].captured);
    assert!(rises, "captured goes back");
    assert!(
        frames.iter().all(|frame| frame.captured <= frame.encoded.plus(Duration::from_millis(1)))
    );
    assert_eq!(subscriber.counts().skipped, 0);
    frames
}

/// Every published access unit decodes to a picture whose stamp can be read.
fn assert_all_decode(frames: &[Frame]) {
    let pictures = decode(frames, "avdec_h264");
    assert_eq!(pictures.len(), frames.len());
    assert!(stamps(&pictures, 320).iter().all(Option::is_some));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_camera_is_rebuilt_and_comes_back() {
    let bench = Bench::start(&faulty(FaultKind::Freeze, 1_000, 2_500));
    let frames = through(&bench, 3_600, 20).await;
    assert!(bench.restarts("stall") >= 1);
    assert_all_decode(&frames);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unplugged_camera_cannot_be_opened_until_it_is_back() {
    let bench = Bench::start(&faulty(FaultKind::Unplug, 800, 1_500));
    let mut subscriber = bench.subscribe("main");
    next(&mut subscriber).await;
    assert!(bench.lost().await.contains("unplugged"));
    assert_eq!(bench.camera.renditions[0].hub.subscribers(), 1);
    let frames = through(&bench, 2_400, 20).await;
    assert!(bench.restarts("error") == 1 && bench.restarts("open") >= 1);
    assert_all_decode(&frames);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stamps_that_jump_do_not_reach_the_viewer() {
    let bench = Bench::start(&faulty(FaultKind::PtsJump, 700, 700));
    let frames = through(&bench, 1_500, 20).await;
    assert_all_decode(&frames);
    assert_eq!(bench.camera.status().restarts, 0);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_camera_is_not_a_lost_one() {
    let bench = Bench::start(&faulty(FaultKind::Slow, 500, 1_500));
    let frames = through(&bench, 2_100, 10).await;
    let slow = frames.windows(2).filter(|pair| {
        let gap = pair[1].captured.since(pair[0].captured);
        (Duration::from_millis(150)..Duration::from_millis(400)).contains(&gap)
    });
    assert!(slow.count() >= 3, "a fifth of 30 pictures a second");
    assert_eq!(bench.camera.status().restarts, 0);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_never_published_and_the_camera_is_rebuilt() {
    let bench = Bench::start(&faulty(FaultKind::Garbage, 800, 2_500));
    let frames = through(&bench, 3_400, 20).await;
    assert!(bench.restarts("garbage") >= 1, "{:?}", bench.camera.status());
    assert_all_decode(&frames);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_device_is_lost_with_its_reason_and_tried_again() {
    let config = config::Camera {
        id: "front".into(),
        source: config::Source::V4l2 { device: "/dev/video99".into() },
        ..config::Camera::default()
    };
    let bench = Bench::start(&config);
    assert!(bench.lost().await.contains("there is no /dev/video99"));
    let again = async {
        while bench.restarts("open") < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("it is not tried again");
    assert!(bench.camera.unready_reason(crate::clock::Timestamp::now()).is_some());
    bench.stop().await;
}
