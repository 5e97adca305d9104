//! Both tiers carry out the same plan, and what they measure agrees within stated bounds: what tier
//! A finds is worth something. Needs what tier B needs, and Lensline's binary beside that of `sim`.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const TIERS: [&str; 2] = ["a", "b"];

/// What is compared of a run.
struct Figures {
    frames_share: f64,
    /// Packets lost at random of those offered to the link.
    lost_share: f64,
    /// What the link was offered towards the viewer, from the fifth second on.
    offered_kbps: f64,
    queue_max_ms: f64,
    rejoins: f64,
    first_frame_ms: f64,
}

impl Figures {
    fn read(report: &Path) -> Result<Self> {
        let report: Value = serde_json::from_slice(&std::fs::read(report)?)?;
        let record = &report["record"];
        let viewer = &record["viewers"]["viewer"];
        let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
        let rows: Vec<_> = record["rows"].as_array().into_iter().flatten().collect();
        let of = |row: &Value, key: &str| number(&row["links"]["access"][key]);
        let later: Vec<_> = rows.iter().filter(|row| number(&row["at_s"]) > 5.5).collect();
        let kbps = |key| later.iter().map(|row| of(row, key)).sum::<f64>() / later.len() as f64;
        let lost: f64 = rows.iter().map(|row| of(row, "lost")).sum();
        let bytes: f64 = rows.iter().map(|row| of(row, "offered_kbps") * 125.0).sum();
        Ok(Self {
            frames_share: number(&viewer["frames"]) / number(&viewer["published"]),
            // Packets of about 1,000 bytes: frames of 33 kbit in packets of at most 1,200.
            lost_share: lost / (bytes / 1_000.0),
            offered_kbps: kbps("offered_kbps"),
            queue_max_ms: rows.iter().map(|row| of(row, "queue_ms")).fold(0.0, f64::max),
            rejoins: number(&viewer["rejoins"]),
            first_frame_ms: 1e3 * (number(&viewer["first_frame_s"]) - number(&viewer["joined_s"])),
        })
    }
}

#[test]
fn the_tiers_agree_on_one_viewer_behind_2_mbit_50_ms_and_1_percent_loss() -> Result<()> {
    let out = tempfile::tempdir()?;
    let plan = Path::new(env!("CARGO_MANIFEST_DIR")).join("plans/tier-agreement.toml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    command.arg("run").arg(&plan).arg("--out").arg(out.path()).stdin(Stdio::null());
    let said = command.output()?;
    let said = String::from_utf8_lossy(&said.stderr);
    assert!(said.contains("2 holds"), "{said}");
    let [a, b] = TIERS
        .map(|tier| Figures::read(&out.path().join(format!("tier-agreement-{tier}/report.json"))));
    let (a, b) = (a?, b?);
    let near = |what: &str, a: f64, b: f64, bound: f64| {
        assert!((a - b).abs() <= bound, "{what}: tier A {a:.3}, tier B {b:.3}, bound {bound}");
    };
    near("share of the frames", a.frames_share, b.frames_share, 0.02);
    near("share of packets lost", a.lost_share, b.lost_share, 0.01);
    near("rejoins", a.rejoins, b.rejoins, 0.0);
    // The real encoder has a rate control of its own.
    near("rate offered, of 1", a.offered_kbps / b.offered_kbps, 1.0, 0.25);
    // Key frames are the queue's peaks; seen once a second, not every one is.
    near("longest queue in ms", a.queue_max_ms, b.queue_max_ms, 60.0);
    // Tier A has no processor that is busy.
    near("first picture in ms", a.first_frame_ms, b.first_frame_ms, 400.0);
    Ok(())
}
