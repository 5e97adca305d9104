//! What a media asks of its appsrc, in a harness: parameter sets for DESCRIBE, news that it runs.
//!
//! Frames come by way of the feed, which has tests of its own.

use gst_check::Harness;

use super::*;
use crate::frame::testing::{IDR, PPS, SPS, START, buffer, harness, instant};

/// Bound on every wait for something that takes a fraction of it.
const PATIENCE: Duration = Duration::from_secs(20);

fn format() -> Format {
    Format {
        width: 640,
        height: 360,
        framerate: (30, 1),
        sps: SPS[4..].to_vec(),
        pps: PPS[4..].to_vec(),
    }
}

/// How long a source has to ask again; one that would is quicker by far.
const ASKING_AGAIN: Duration = Duration::from_millis(200);

/// The source of a media that does not run yet.
fn rig() -> (Harness, gst_app::AppSrc) {
    gst::init().unwrap();
    let source = feed::appsrc();
    (harness(&source, None, Some("src")), source)
}

#[test]
fn a_described_source_gives_its_parameter_sets_once_and_no_more_after_a_flush() {
    let (mut harness, source) = rig();
    describe(&source, &format());
    harness.play();
    let described = harness.pull().unwrap();
    assert_eq!(described.map_readable().unwrap().as_slice(), [SPS, PPS].concat());
    assert_eq!(described.pts(), Some(START.into()), "by the clock of its pipeline");
    // It asks for more as soon as it has handed that on, on a thread of its own.
    std::thread::sleep(ASKING_AGAIN);
    assert_eq!(harness.buffers_received(), 1);

    source.push_buffer(buffer(IDR, instant(1))).unwrap();
    assert_eq!(harness.pull().unwrap().pts(), Some(instant(1).into()));
    assert!(source.send_event(gst::event::FlushStart::new()));
    assert!(source.send_event(gst::event::FlushStop::new(true)));
    source.push_buffer(buffer(IDR, instant(2))).unwrap();
    assert_eq!(harness.pull().unwrap().pts(), Some(instant(2).into()));
    assert_eq!(harness.buffers_received(), 3);
}

#[tokio::test]
async fn a_source_says_that_it_runs_when_it_does_and_not_before() {
    let (mut harness, source) = rig();
    describe(&source, &format());
    let mut receiver = started(&source);
    assert_eq!(receiver.try_recv(), Err(oneshot::error::TryRecvError::Empty));
    harness.play();
    tokio::time::timeout(PATIENCE, receiver).await.unwrap().unwrap();
    source.push_buffer(buffer(IDR, instant(1))).unwrap();
    let first = harness.pull().unwrap();
    assert_eq!(first.pts(), Some(instant(1).into()), "PLAY is not answered with a description");
}

#[tokio::test]
async fn a_source_that_goes_before_it_runs_says_so() {
    let (harness, source) = rig();
    let receiver = started(&source);
    drop((harness, source));
    assert!(tokio::time::timeout(PATIENCE, receiver).await.unwrap().is_err());
}
