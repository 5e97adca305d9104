//! What is shown survives the encoder: the stamp is read back from decoded pictures.

use super::*;
use crate::config::{Crop, Flip, Pattern, Simulated};

async fn stamps_of(config: &config::Camera, decoder: &str, count: usize) -> Vec<(u64, u16)> {
    let bench = Bench::start(config);
    let mut subscriber = bench.subscribe("main");
    let frames = collect(&mut subscriber, count).await;
    let pictures = decode(&frames, decoder);
    assert_eq!(pictures.len(), count, "every frame decodes");
    let read = stamps(&pictures, config.width as usize);
    for (frame, stamp) in frames.iter().zip(&read) {
        let (unix_ms, _) = stamp.expect("a stamp cannot be read");
        let truth = u64::try_from(frame.captured.to_unix().as_millis()).unwrap();
        assert!(unix_ms.abs_diff(truth) <= 1, "the stamp is the time of capture");
    }
    bench.stop().await;
    read.into_iter().flatten().collect()
}

fn hard(width: u32, height: u32, bitrate_kbps: u32) -> config::Camera {
    let mut config = simulated(width, height);
    config.source = config::Source::Simulated(Simulated { noise: 0.2, ..Simulated::default() });
    config.encoder.bitrate_kbps = bitrate_kbps;
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn every_stamp_is_read_at_2500_kbps() {
    let stamps = stamps_of(&hard(1280, 720, 2_500), "avdec_h264", 45).await;
    let numbers: Vec<u16> = stamps.iter().map(|(_, number)| *number).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_stamp_is_read_at_600_kbps_in_a_small_picture() {
    stamps_of(&hard(640, 360, 600), "openh264dec", 60).await;
    stamps_of(&hard(640, 360, 600), "avdec_h264", 60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stamp_lies_upright_in_the_corner_whatever_is_done_to_the_picture() {
    for flip in [Flip::Clockwise, Flip::Rotate180, Flip::UpperLeftDiagonal] {
        let mut config = simulated(320, 240);
        config.flip = flip;
        config.crop = Crop { left: 32, top: 16, ..Crop::default() };
        stamps_of(&config, "avdec_h264", 10).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pattern_carries_a_stamp() {
    for pattern in [Pattern::Bars, Pattern::Solid] {
        let mut config = simulated(320, 240);
        config.source = config::Source::Simulated(Simulated { pattern, ..Simulated::default() });
        stamps_of(&config, "avdec_h264", 10).await;
    }
}
