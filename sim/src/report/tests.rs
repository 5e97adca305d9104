use std::collections::BTreeMap;
use std::path::Path;

use super::compare::{Change, change};
use super::page::page;
use super::*;
use crate::plan::{Measure, Plan, PlanError, Tier};
use crate::record::{Account, Event, Held, LinkRow, Row, StreamerRow, ViewerRow};

const PLAN: &str = r#"
title = "Anna & a <bad> line"
duration_s = 20
viewer = [
  { name = "anna", kind = "webrtcbin", via = ["home"] },
  { name = "bert", kind = "recorder", via = ["home"], at_s = 5, leave_s = 15 },
  { name = "carl", kind = "light", via = ["home"] },
]
fault = [{ at_s = 10, for_s = 1.5, kind = "blackout", link = "home" }]

[link.home]
down = { rate_kbps = 2000, delay_ms = 20 }
up = { rate_kbps = 2000, delay_ms = 20 }
change = [{ at_s = 15, down = { rate_kbps = 500 } }]
"#;

/// Twenty seconds of 30 frames: Anna sees nothing from 10 to 11.5 s, and less of the last five
/// seconds; Bert is there from 5 to 15 s and measures nothing; Carl is not let in.
fn record(expects: &[&str]) -> Result<Record, PlanError> {
    let expects = expects.iter().map(|line| format!("\n[[expect]]\n{}", line.replace(", ", "\n")));
    let plan = format!("{PLAN}{}", expects.collect::<String>());
    let plan = Plan::parse("plan", &plan, Path::new("."))?;
    let anna = Account {
        joined_s: 0.0,
        first_frame_s: Some(0.2),
        frames: 460,
        published: 594,
        latencies: (1..=400_u16).map(|n| (f32::from(n) / 20.0, f32::from(n))).collect(),
        gaps: vec![(6.0, 300.0), (11.5, 1500.0)],
        ..Account::default()
    };
    let bert = Account {
        joined_s: 5.0,
        first_frame_s: Some(5.0),
        frames: 300,
        published: 300,
        rejoins: 1,
        ..Account::default()
    };
    let carl = Account { said: Some("429 <too many>".into()), ..Account::default() };
    let viewers = [("anna", anna), ("bert", bert), ("carl", carl)];
    Ok(Record {
        plan,
        tier: Tier::B,
        seed: 7,
        version: "v1".into(),
        began_unix_s: 1_800_000_000,
        conditions: "2 cores".into(),
        rows: (1..=20).map(row).collect(),
        events: vec![Event { at_s: 5.0, what: "bert joins <here>".into() }],
        viewers: viewers.map(|(name, account)| (name.to_owned(), account)).into(),
        before: Some(Held { sessions: 0, threads: 9, descriptors: 20, guards: 3 }),
        after: Some(Held { sessions: 1, threads: 12, descriptors: 19, guards: 3 }),
        crashes: 0,
        health: (1, 20),
        undone: Vec::new(),
        violations: Vec::new(),
    })
}

fn row(second: u32) -> Row {
    let at_s = f64::from(second);
    let anna = ViewerRow {
        published: None,
        frames: [30, 0, 15][usize::from(second == 11) + 2 * usize::from(second > 15)],
        kbps: if second > 15 { 400.0 } else { 1000.0 },
        latency_ms: Some(40.0),
        latency_max_ms: Some(60.0 + at_s),
        lost: 1,
        damaged: u64::from(second == 12),
    };
    let mut viewers = BTreeMap::from([("anna".to_owned(), anna)]);
    if (6..=15).contains(&second) {
        viewers.insert("bert".into(), ViewerRow { frames: 30, ..ViewerRow::default() });
    }
    let link = LinkRow {
        capacity_kbps: if second > 15 { 500.0 } else { 2000.0 },
        offered_kbps: 1000.0,
        delivered_kbps: 900.0,
        queue_ms: 5.0 * at_s,
        lost: 2,
        dropped: 0,
    };
    let streamer = StreamerRow {
        published: 30,
        sessions: 2,
        cpu: 0.25,
        rss_mib: 50.0 + at_s,
        ..StreamerRow::default()
    };
    let links = BTreeMap::from([("home".to_owned(), link), ("home up".to_owned(), link)]);
    Row { at_s, links, viewers, traffic_kbps: BTreeMap::new(), streamer }
}

fn judged(expect: &str) -> Result<Vec<Finding>, PlanError> {
    Ok(judge(&record(&[expect])?).findings)
}

#[track_caller]
fn assert_judged(expect: &str, value: Option<f64>, outcome: Outcome) {
    let findings = judged(expect).unwrap_or_default();
    assert_eq!(findings.len(), 1, "{expect}: {findings:?}");
    let close = match (findings[0].value, value) {
        (Some(one), Some(other)) => (one - other).abs() < 1e-9,
        (one, other) => one == other,
    };
    assert!(close && findings[0].outcome == outcome, "{expect}: {findings:?}");
}

#[test]
fn every_measure_is_judged_by_its_bound() {
    use Outcome::{Broken, Holds, Missing, Unclear};
    let share = 460.0 / 594.0;
    let cases = [
        ("what = \"frames_share\", of = \"anna\", min = 0.99", Some(share), Broken),
        (
            "what = \"frames_share\", of = \"anna\", min = 0.99, missing = \"x\"",
            Some(share),
            Missing,
        ),
        ("what = \"frames_share\", of = \"anna\", min = 0.99, to_s = 10", Some(1.0), Holds),
        (
            "what = \"frames_share\", of = \"anna\", min = 0.6, from_s = 15",
            Some(75.0 / 144.0),
            Broken,
        ),
        ("what = \"frames_share\", of = \"bert\", min = 1.0, from_s = 3", Some(1.0), Holds),
        ("what = \"longest_gap_ms\", of = \"anna\", max = 1000", Some(1500.0), Broken),
        ("what = \"longest_gap_ms\", of = \"anna\", max = 500, from_s = 11", Some(500.0), Holds),
        ("what = \"longest_gap_ms\", of = \"bert\", max = 250", Some(200.0), Holds),
        ("what = \"first_frame_ms\", of = \"anna\", max = 250", Some(200.0), Holds),
        ("what = \"first_frame_ms\", of = \"carl\", max = 250", None, Broken),
        ("what = \"latency_p50_ms\", of = \"anna\", max = 200", Some(200.0), Holds),
        ("what = \"latency_p95_ms\", of = \"anna\", max = 200", Some(380.0), Broken),
        ("what = \"latency_p95_ms\", of = \"anna\", max = 200, to_s = 5", Some(95.0), Holds),
        ("what = \"latency_p95_ms\", of = \"bert\", max = 200", None, Unclear),
        ("what = \"goodput_kbps\", of = \"anna\", min = 900, to_s = 15", Some(1000.0), Holds),
        ("what = \"goodput_kbps\", of = \"anna\", min = 500, from_s = 15", Some(400.0), Broken),
        ("what = \"goodput_kbps\", of = \"bert\", min = 500", None, Unclear),
        ("what = \"freezes\", of = \"anna\", max = 0", Some(1.0), Broken),
        ("what = \"freezes\", of = \"anna\", max = 0, to_s = 9", Some(0.0), Holds),
        ("what = \"damaged\", of = \"anna\", max = 0", Some(1.0), Broken),
        ("what = \"damaged\", of = \"bert\", max = 0", None, Unclear),
        ("what = \"queue_p95_ms\", of = \"home\", max = 90", Some(95.0), Broken),
        ("what = \"queue_p95_ms\", max = 50, to_s = 10", Some(50.0), Holds),
        ("what = \"fairness\", of = \"anna\", min = 1.0", Some(1.0), Holds),
        ("what = \"fairness\", of = \"*\", min = 0.3", None, Unclear),
        ("what = \"rejoins\", of = \"bert\", max = 0", Some(1.0), Broken),
        ("what = \"sessions_left\", max = 0", Some(1.0), Broken),
        ("what = \"threads_left\", max = 3", Some(3.0), Holds),
        ("what = \"descriptors_left\", max = 0", Some(-1.0), Holds),
        ("what = \"guards_left\", max = 0", Some(0.0), Holds),
        ("what = \"crashes\", max = 0", Some(0.0), Holds),
        ("what = \"rss_mib\", max = 64", Some(70.0), Broken),
        ("what = \"health_failures\", max = 0", Some(1.0), Broken),
        ("what = \"rejoins\", of = \"dora\", max = 0", None, Unclear),
    ];
    for (expect, value, outcome) in cases {
        assert_judged(expect, value, outcome);
    }
}

#[test]
fn an_expectation_is_of_each_whom_it_names_and_of_its_tier_only() -> Result<(), PlanError> {
    let findings = judged("what = \"frames_share\", min = 0.99")?;
    let said: Vec<_> = findings.iter().map(|f| (f.whose.as_deref(), f.outcome)).collect();
    let expected = [
        (Some("anna"), Outcome::Broken),
        (Some("bert"), Outcome::Holds),
        (Some("carl"), Outcome::Broken),
    ];
    assert_eq!(said, expected);
    assert!(findings[2].why.as_ref().is_some_and(|why| why.contains("429")), "{findings:?}");
    assert_eq!(judged("what = \"frames_share\", min = 0.99, tier = \"a\"")?, []);
    Ok(())
}

#[test]
fn crashes_and_violations_are_broken_and_what_was_not_carried_out_is_unclear()
-> Result<(), PlanError> {
    let mut record = record(&["what = \"guards_left\", max = 0"])?;
    assert_eq!(judge(&record).outcome, Outcome::Holds);
    record.undone = vec!["cpu: there is no cgroup".into()];
    assert_eq!(judge(&record).outcome, Outcome::Unclear);
    record.violations = vec!["a frame was delivered twice".into()];
    assert_eq!(judge(&record).outcome, Outcome::Broken);
    record.violations.clear();
    record.crashes = 2;
    let verdict = judge(&record);
    let crashed = |f: &Finding| f.why.as_ref().is_some_and(|why| why.contains("2 times"));
    assert!(verdict.outcome == Outcome::Broken && verdict.findings.iter().any(crashed));
    Ok(())
}

#[test]
fn a_page_says_what_came_of_it_and_escapes_what_others_wrote() -> Result<(), PlanError> {
    let record = record(&[
        "what = \"frames_share\", of = \"anna\", min = 0.99",
        "what = \"longest_gap_ms\", of = \"bert\", max = 300",
    ])?;
    let page = page(&record, &judge(&record));
    for part in [
        "Anna &amp; a &lt;bad&gt; line",
        "<span class=\"broken\">broken</span>",
        "77.44 %",
        "≥ 99.00 %",
        "≤ 200 ms",
        "tier B · seed 7",
        "blackout, link home: over",
        "link home down: rate_kbps 500",
        "bert joins &lt;here&gt;",
        "429 &lt;too many&gt;",
        "capture to decoded, ms: the longest of each second",
        "home: kbit/s",
        "time without a new picture, ms (where over 200)",
        "memory (RSS), MiB",
    ] {
        assert!(page.contains(part), "{part} is not in the page");
    }
    assert!(!page.contains("<bad>") && !page.contains("<here>") && !page.contains("<too many>"));
    Ok(())
}

type Outcomes = Result<(), Box<dyn std::error::Error>>;

#[test]
fn a_summary_has_a_row_for_each_report_and_the_broken_first() -> Outcomes {
    let folder = tempfile::tempdir()?;
    assert!(matches!(summary(folder.path()), Err(ReportError::Nothing(_))));
    let mut good = record(&["what = \"guards_left\", max = 0"])?;
    good.plan.name = "a-good".into();
    let mut bad = record(&["what = \"rejoins\", of = \"bert\", max = 0"])?;
    bad.plan.name = "b-bad".into();
    for record in [&good, &bad] {
        write(record, &judge(record), &folder.path().join("run").join(&record.plan.name))?;
    }
    let summary = summary(folder.path())?;
    let said: Vec<_> = summary.rows.iter().map(|row| (&*row.plan, row.outcome)).collect();
    assert_eq!(said, [("b-bad", Outcome::Broken), ("a-good", Outcome::Holds)]);
    let expected = BTreeMap::from(
        [
            ("frames_share_worst", 0.0),
            ("frames_share_median", 460.0 / 594.0),
            ("goodput_kbps_median", 0.0),
            ("longest_gap_ms", 1500.0),
            ("first_frame_p95_ms", 200.0),
            ("latency_p50_ms", 200.0),
            ("latency_p95_ms", 380.0),
            ("queue_p95_ms", 95.0),
            ("rss_mib_max", 70.0),
            ("cpu_cores", 0.25),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    // Carl, who got nothing, is the median of those two whose client tells.
    assert_eq!(summary.rows[0].figures, expected);
    let page = std::fs::read_to_string(folder.path().join("summary.html"))?;
    assert!(page.contains("<a href=\"run/b-bad/report.html\">b-bad</a>"), "{page}");
    assert!(page.contains("times joined again of bert: 1, not ≤ 0"), "{page}");
    assert!(folder.path().join("run/b-bad/report.html").is_file());
    let read: Summary = read_json(&folder.path().join("summary.json"))?;
    assert_eq!(read, summary);
    Ok(())
}

fn summary_row(plan: &str, outcome: Outcome, gap_ms: f64) -> SummaryRow {
    SummaryRow {
        plan: plan.into(),
        title: plan.into(),
        tier: Tier::A,
        seed: 1,
        version: "<v>".into(),
        outcome,
        findings: vec![(outcome, "what it says".into())],
        figures: BTreeMap::from([("longest_gap_ms".to_owned(), gap_ms)]),
        report: "report.html".into(),
    }
}

#[test]
fn a_comparison_says_what_is_worse_better_new_and_gone() {
    use Outcome::{Broken, Holds, Missing};
    let before = [
        ("falls", Holds, 200.0),
        ("rises", Broken, 900.0),
        ("stays", Holds, 300.0),
        ("goes", Holds, 1.0),
    ];
    let after = [
        ("falls", Broken, 800.0),
        ("rises", Missing, 300.0),
        ("stays", Holds, 310.0),
        ("comes", Holds, 1.0),
    ];
    let summary = |rows: [(&str, Outcome, f64); 4]| Summary {
        rows: rows.map(|(plan, outcome, gap_ms)| summary_row(plan, outcome, gap_ms)).into(),
    };
    let page = compare(&summary(before), &summary(after));
    let places = [
        "Worse outcome: 1 · Better outcome: 1 · New: 1 · Gone: 1 · The same outcome: 1",
        "1 better</span>",
        "1 worse</span>",
        "<h2>Worse outcome</h2>",
        "falls<br><small class=\"faint\">what it says",
        "200 → 800 ms<br><span class=\"worse\">+300 %",
        "<h2>Better outcome</h2>",
        "900 → 300 ms<br><span class=\"better\">-67 %",
        "<h2>New</h2>",
        "comes",
        "<h2>Gone</h2>",
        "goes",
        "<h2>The same outcome</h2>",
        "300 → 310 ms<br><span class=\"little\">+3 %",
    ];
    let mut rest = page.as_str();
    for place in places {
        let Some((_, after)) = rest.split_once(place) else {
            panic!("{place} is not next in {rest}")
        };
        rest = after;
    }
    assert!(page.contains("&lt;v&gt;") && !page.contains("<v>"));
}

#[test]
fn a_change_is_for_the_better_or_the_worse_by_what_the_figure_means() {
    assert_eq!(change(100.0, 110.0, true), Change::Little(0.1));
    assert_eq!(change(100.0, 150.0, true), Change::Better(0.5));
    assert_eq!(change(100.0, 150.0, false), Change::Worse(0.5));
    assert_eq!(change(100.0, 50.0, false), Change::Better(-0.5));
    assert_eq!(change(0.0, 0.0, false), Change::Little(0.0));
    assert_eq!(change(0.0, 3.0, false), Change::Worse(f64::INFINITY));
}

#[test]
fn a_crowd_with_one_outcome_is_one_line_with_its_worst() -> Result<(), PlanError> {
    let mut record = record(&["what = \"rejoins\", of = \"guest*\", max = 1"])?;
    for number in 0..10_u32 {
        let account = Account { rejoins: number / 5 * number, ..Account::default() };
        record.viewers.insert(format!("guest-{number}"), account);
    }
    let verdict = judge(&record);
    assert_eq!(verdict.findings.len(), 10);
    let groups = words::Group::all(&verdict);
    let said: Vec<_> = groups.iter().map(words::Group::line).collect();
    assert_eq!(
        said,
        [
            "times joined again of guest-0, guest-1, guest-2 and 2 more: 0, not ≤ 1",
            "times joined again of guest-5, guest-6, guest-7 and 2 more: 9, not ≤ 1",
        ]
    );
    assert_eq!(groups[1].worst.what, Some(Measure::Rejoins));
    Ok(())
}
