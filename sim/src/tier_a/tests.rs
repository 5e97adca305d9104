#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;

use super::{Keep, Options, Run, run};
use crate::plan::Plan;

const HEAD: &str = r#"
title = "a test"
duration_s = 20
[link.access.down]
rate_kbps = 10000
delay_ms = 20
loss = 0.02
jitter_ms = 3
[link.access.up]
delay_ms = 20
[[viewer]]
name = "anna"
kind = "light"
via = ["access"]
[[viewer]]
name = "otto"
kind = "recorder"
at_s = 1
via = ["access"]
[[viewer]]
name = "udo"
kind = "ffmpeg-udp"
at_s = 2
via = ["access"]
"#;

fn plan(text: &str) -> Plan {
    Plan::parse("test", text, Path::new(".")).unwrap()
}

fn carry_out(plan: &Plan, seed: u64) -> Run {
    run(plan, seed, Options { keep: Keep::All, stop_at_violation: false }).unwrap()
}

#[test]
fn everybody_sees_pictures_and_nothing_is_broken() {
    let run = carry_out(&plan(HEAD), 1);
    assert_eq!(run.violations, []);
    assert_eq!(run.record.rows.len(), 19);
    for (name, share) in [("anna", 0.95), ("otto", 0.95), ("udo", 0.05)] {
        let account = &run.record.viewers[name];
        let seen = account.frames as f64 / account.published as f64;
        assert!((share..=1.0).contains(&seen), "{name}: {seen}");
        let first = account.first_frame_s.unwrap() - account.joined_s;
        // Over UDP without retransmission the first key frame may be spoilt.
        assert!((0.2..4.5).contains(&first), "{name}: {first}");
    }
}

#[test]
fn the_same_seed_is_the_same_run_byte_for_byte_and_another_is_another() {
    let plan = plan(HEAD);
    let record = |run: &Run| serde_json::to_string(&run.record).unwrap();
    let (one, again, other) = (carry_out(&plan, 5), carry_out(&plan, 5), carry_out(&plan, 6));
    assert!(one.trace.len() > 10_000);
    assert_eq!(one.trace, again.trace);
    assert_eq!(record(&one), record(&again));
    assert_ne!(one.trace, other.trace);
}

#[test]
fn on_a_link_of_half_the_stream_s_rate_packets_are_dropped_in_its_queue() {
    let narrow = HEAD.replace("rate_kbps = 10000", "rate_kbps = 1000");
    let run = carry_out(&plan(&format!("{narrow}[camera]\nbitrate_kbps = 2000\n")), 1);
    assert_eq!(run.violations, []);
    let later = &run.record.rows[5..];
    let dropped: u64 = later.iter().map(|row| row.links["access"].dropped).sum();
    assert!(dropped > 1_000, "{dropped}");
    for row in later {
        let link = &row.links["access"];
        assert!((800.0..=1_020.0).contains(&link.delivered_kbps), "{link:?}");
        assert!((150.0..=330.0).contains(&link.queue_ms), "{link:?}");
    }
}
