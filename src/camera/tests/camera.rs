//! A healthy camera: order, key frames, bitrate, renditions, restarts.

use std::time::{Duration, Instant};

use super::*;
use crate::catalog::{Control, ControlError};
use crate::config::{EncoderKind, RenditionConfig};
use crate::distributor::Cause;
use crate::nal;

#[tokio::test(flavor = "multi_thread")]
async fn frames_flow_in_order_and_start_with_a_complete_key_frame() {
    let bench = Bench::start(&simulated(320, 240));
    let mut subscriber = bench.subscribe("main");
    let first = next(&mut subscriber).await;
    assert!(first.key && first.item.key);
    let map = first.item.payload.map_readable().unwrap();
    let unit = nal::inspect(&map).unwrap();
    assert!(unit.idr && unit.sps.is_some() && unit.pps.is_some());
    let (mut seq, mut captured) = (first.seq, first.item.captured);
    for _ in 0..40 {
        let delivery = next(&mut subscriber).await;
        assert_eq!(delivery.seq, seq + 1);
        assert!(delivery.item.captured > captured);
        assert!(delivery.item.captured <= delivery.item.encoded);
        assert!(delivery.item.encoded.since(delivery.item.captured) < Duration::from_secs(1));
        assert_eq!(
            delivery.item.payload.pts().unwrap().nseconds(),
            delivery.item.captured.as_nanos()
        );
        (seq, captured) = (delivery.seq, delivery.item.captured);
    }
    let format = bench.camera.renditions[0].format().unwrap();
    assert_eq!((format.width, format.height, format.framerate), (320, 240, (30, 1)));
    assert!(format.profile_level_id().unwrap().starts_with("42c0"), "constrained baseline");
    let status = bench.camera.status();
    assert_eq!((status.health, status.encoder.as_str()), (Health::Running, "x264enc"));
    assert!(bench.metrics.frames_published.with_label_values(&["sim", "main"]).get() >= 41);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_frame_asked_for_comes_soon_with_either_software_encoder() {
    for kind in [EncoderKind::X264, EncoderKind::Openh264] {
        let mut config = simulated(320, 240);
        config.encoder.kind = kind;
        config.encoder.keyframe_interval = 10_000;
        let bench = Bench::start(&config);
        let mut subscriber = bench.subscribe("main");
        assert!(next(&mut subscriber).await.key);
        for _ in 0..20 {
            next(&mut subscriber).await;
        }
        // Ten who ask at once are served by one.
        let hub = &bench.camera.renditions[0].hub;
        (0..10).for_each(|_| hub.request_key_frame(Cause::Viewer));
        let frames = collect(&mut subscriber, 60).await;
        let keys: Vec<usize> = (0..60).filter(|&index| frames[index].key).collect();
        assert_eq!(keys.len(), 1, "{kind:?}: {keys:?}");
        assert_eq!(hub.key_frame_requests(Cause::Viewer), 10);
        bench.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_bitrate_takes_effect_and_is_kept_within_bounds() {
    let mut config = simulated(640, 360);
    config.source =
        config::Source::Simulated(config::Simulated { noise: 0.3, ..config::Simulated::default() });
    config.encoder.bitrate_kbps = 4_000;
    let bench = Bench::start(&config);
    let mut subscriber = bench.subscribe("main");
    let change = |bitrate_bps| Control::Bitrate { rendition: "main".into(), bitrate_bps };
    let rate =
        |frames: &[Frame]| frames.iter().map(Frame::size_bytes).sum::<usize>() / frames.len();
    collect(&mut subscriber, 30).await;
    let before = rate(&collect(&mut subscriber, 60).await);
    bench.camera.control(change(500_000)).await.unwrap();
    collect(&mut subscriber, 30).await;
    let after = rate(&collect(&mut subscriber, 60).await);
    assert!(before > 3 * after, "{before} bytes a frame before, {after} after");
    let gauge = bench.metrics.encoder_bitrate_bps.with_label_values(&["sim", "main"]);
    assert!((gauge.get() - 500_000.0).abs() < 1.0);
    for wrong in [1, 90_000_000] {
        let refused = bench.camera.control(change(wrong)).await.unwrap_err();
        assert!(matches!(refused, ControlError::Refused(words) if words.contains("bit/s")));
    }
    let other = Control::Bitrate { rendition: "none".into(), bitrate_bps: 500_000 };
    assert!(bench.camera.control(other).await.is_err());
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_renditions_show_the_same_pictures_at_their_own_size_and_rate() {
    let mut config = simulated(640, 360);
    config.rendition.push(RenditionConfig {
        name: "small".into(),
        width: 320,
        height: 180,
        framerate: Some(15),
        bitrate_kbps: 400,
    });
    let bench = Bench::start(&config);
    let (mut main, mut small) = (bench.subscribe("main"), bench.subscribe("small"));
    let (small_frames, main_frames) = tokio::join!(collect(&mut small, 20), collect(&mut main, 50));
    let format = bench.camera.renditions[1].format().unwrap();
    assert_eq!((format.width, format.height, format.framerate), (320, 180, (15, 1)));
    let (first, last) = (small_frames[0].captured, small_frames[19].captured);
    let between = main_frames.iter().filter(|f| f.captured >= first && f.captured <= last).count();
    assert!((35..=41).contains(&between), "every second picture: {between} of main to 20");
    let small_stamps = stamps(&decode(&small_frames, "avdec_h264"), 320);
    assert!(small_stamps.iter().all(Option::is_some), "{small_stamps:?}");
    let main_stamps = stamps(&decode(&main_frames, "avdec_h264"), 640);
    let shared = small_stamps.iter().filter(|stamp| main_stamps.contains(stamp)).count();
    assert!(shared >= 18, "{shared} of 20 are also in main: {small_stamps:?} {main_stamps:?}");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_restarts_leave_no_thread_no_descriptor_and_no_session_behind() {
    let bench = Bench::start(&simulated(320, 240));
    let mut subscriber = bench.subscribe("main");
    collect(&mut subscriber, 5).await;
    let mut baseline = None;
    for round in 0..10 {
        bench.camera.control(Control::Restart).await.unwrap();
        let started = Instant::now();
        while bench.restarts("restart") <= round || bench.camera.status().health != Health::Running
        {
            assert!(started.elapsed() < PATIENCE, "restart {round} does not end");
            let _ = tokio::time::timeout(Duration::from_millis(20), subscriber.next()).await;
        }
        assert!(bench.teardowns.finished(PATIENCE).await);
        if round == 2 {
            baseline = Some(held());
        }
    }
    let (threads, fds) = baseline.unwrap();
    // Other tests of this process come and go; what a restart leaves behind would count seven.
    let quiet = async {
        while held().0 > threads + 3 || held().1 > fds + 3 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let quiet = tokio::time::timeout(PATIENCE, quiet).await;
    assert!(quiet.is_ok(), "{:?} threads and fds, {:?} before", held(), (threads, fds));
    assert_eq!(subscriber.counts().skipped, 0, "the session stayed and lost nothing");
    bench.stop().await;
}

/// Threads and descriptors of this process.
fn held() -> (usize, usize) {
    let process = procfs::process::Process::myself().unwrap();
    (process.tasks().unwrap().count(), process.fd_count().unwrap())
}
