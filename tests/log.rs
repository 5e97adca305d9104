//! What GStreamer, GLib and a panic say reaches the one log, and none of them can flood it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use std::process::{Command, Stdio};

use serde_json::Value;

/// Set for the copy of this program that is to talk.
const TALK: &str = "TEST_LOG_TALK";

/// A log takes over the process's stderr for good, so this test runs a copy of itself.
#[test]
fn everybody_s_words_reach_the_log_and_a_flood_is_cut() {
    if std::env::var_os(TALK).is_some() {
        return talk();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "everybody_s_words_reach_the_log_and_a_flood_is_cut", "--nocapture"])
        .env(TALK, "1")
        .env_remove("GST_DEBUG")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect();
    let said = |target: &str, level: &str, words: &str| {
        let fits = |line: &&Value| {
            line["target"] == target
                && line["level"] == level
                && line["fields"]["message"].as_str().unwrap().contains(words)
        };
        lines.iter().filter(fits).count()
    };
    assert_eq!(said("gstreamer", "WARN", "it failed"), 1, "{text}");
    assert_eq!(said("gstreamer", "DEBUG", "again"), 5, "of 1000 lines: {text}");
    assert_eq!(said("gstreamer", "DEBUG", "nobody"), 0, "{text}");
    assert_eq!(said("glib", "INFO", "glib warns"), 1, "{text}");
    assert_eq!(said("lensline::log", "ERROR", "panic: on purpose"), 1, "{text}");
    assert_eq!(said("log", "INFO", "refused"), 6, "five of 1000 refusals, and one more: {text}");
    let told = lines.iter().find(|line| line["fields"]["message"] == "refused later").unwrap();
    assert_eq!(told["fields"]["suppressed"], 0, "another place is heard: {text}");
    assert_eq!(said("log", "INFO", "the last word"), 1, "{text}");
}

fn talk() {
    let config =
        lensline::config::Log { format: lensline::config::LogFormat::Json, level: "debug".into() };
    let log = lensline::log::init(&config).unwrap();
    gst::init().unwrap();
    let category = gst::DebugCategory::new("test", gst::DebugColorFlags::empty(), None);
    gst::error!(category, "it failed");
    for count in 0..1_000 {
        gst::warning!(category, "again {count}");
    }
    gst::info!(category, "nobody listens to this");
    glib::g_warning!("test", "glib warns");
    let _ = std::thread::spawn(|| panic!("on purpose")).join();
    for _ in 0..1_000 {
        if let Some(suppressed) = lensline::log::heard() {
            tracing::info!(suppressed, "refused");
        }
    }
    if let Some(suppressed) = lensline::log::heard() {
        tracing::info!(suppressed, "refused later");
    }
    tracing::info!("the last word");
    drop(log);
}
