#![allow(clippy::unwrap_used, reason = "a test: a panic is how it fails")]

use super::*;

/// Twenty minutes of a target that takes so many bytes for each join and each hour, with visitors
/// for two and a half minutes of every five.
fn run(per_join: f64, per_hour: f64) -> Vec<Sample> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut joins = 0;
    (0..1_200)
        .map(|second| {
            joins += if second / 150 % 2 == 0 { 3 } else { 0 };
            let at_s = f64::from(second);
            let warming = 20e6 * (1.0 - (-at_s / 60.0).exp());
            Sample {
                at_s,
                judged: true,
                joins,
                rss_bytes: 60e6
                    + warming
                    + per_join * joins as f64
                    + per_hour * at_s / 3600.0
                    + 200e3 * random.f64(),
                threads: 9.0 + f64::from(random.u8(0..2)),
                fds: 20.0 + f64::from(random.u8(0..4)),
                published_fps: Some(30.0),
                viewer_fps: [("webrtc 1".to_owned(), 30.0)].into(),
                ..Sample::default()
            }
        })
        .collect()
}

fn finding<'a>(verdict: &'a Verdict, name: &str) -> &'a Finding {
    verdict.findings.iter().find(|finding| finding.name == name).unwrap()
}

fn budgets() -> Budgets {
    Budgets::read(None).unwrap()
}

#[test]
fn a_run_without_a_leak_holds_whatever_it_takes_to_warm_up() {
    let verdict = judge(&run(0.0, 0.0), &[], None, &budgets());
    assert!(verdict.passes(false), "{verdict:#?}");
    for name in ["resident memory", "threads", "descriptors", "guards"] {
        let name = format!("{name}, a join");
        assert_eq!(finding(&verdict, &name).judgement, Judgement::Holds, "{verdict:#?}");
    }
}

#[test]
fn a_leak_by_the_join_is_named_with_its_size() {
    let verdict = judge(&run(102_400.0, 0.0), &[], None, &budgets());
    assert!(!verdict.passes(false));
    let leak = finding(&verdict, "resident memory, a join");
    assert_eq!(leak.judgement, Judgement::Broken);
    let value = leak.slope.unwrap().value;
    assert!((value / 102_400.0 - 1.0).abs() < 0.05, "{leak:?}");
    assert!(leak.words.starts_with("LEAK: resident memory grows by "), "{leak:?}");
    let by_hour = finding(&verdict, "resident memory, an hour");
    assert_ne!(by_hour.judgement, Judgement::Broken, "{by_hour:?}");
}

#[test]
fn a_leak_by_the_hour_is_not_taken_for_one_by_the_join() {
    let verdict = judge(&run(0.0, 200e6), &[], None, &budgets());
    let leak = finding(&verdict, "resident memory, an hour");
    assert_eq!(leak.judgement, Judgement::Broken);
    let by_join = finding(&verdict, "resident memory, a join");
    assert_ne!(by_join.judgement, Judgement::Broken, "{by_join:?}");
}

#[test]
fn a_leak_by_the_camera_restart_is_named() {
    let mut samples = run(0.0, 0.0);
    for sample in &mut samples {
        sample.camera_restarts = (sample.at_s / 97.0).floor();
        sample.rss_bytes += 5e6 * sample.camera_restarts;
    }
    let leak = judge(&samples, &[], None, &budgets()).findings.remove(0);
    assert_eq!(leak.judgement, Judgement::Broken);
    assert!(leak.words.contains("KB a camera restart (95 %"), "{leak:?}");
}

#[test]
fn a_restart_is_told_and_no_leak() {
    let mut samples = run(0.0, 0.0);
    let mut second = run(0.0, 0.0);
    for (sample, at) in second.iter_mut().zip(1_200..) {
        (sample.at_s, sample.life) = (f64::from(at), 1);
        sample.joins += 2_000;
    }
    samples.append(&mut second);
    let what = "the streamer was killed by signal 9".to_owned();
    let loss = "webrtc 1 saw nothing for 15 s and joins again".to_owned();
    let events = [
        Event { at_s: 1_200.0, kind: EventKind::Restart, what },
        Event { at_s: 1_216.0, kind: EventKind::Viewer, what: loss },
    ];
    let verdict = judge(&samples, &events, None, &budgets());
    assert_eq!(verdict.findings[0].name, "restarts");
    assert!(verdict.findings[0].words.contains("killed by signal 9 at 1200 s"));
    let broken = |finding: &&Finding| finding.judgement == Judgement::Broken;
    assert_eq!(verdict.findings.iter().filter(broken).count(), 1, "{verdict:#?}");
    // A leak in one of the lives is seen through the restart.
    for sample in samples.iter_mut().filter(|sample| sample.life == 1) {
        sample.rss_bytes += 50_000.0 * (sample.joins - 2_000) as f64;
    }
    let verdict = judge(&samples, &events, None, &budgets());
    let leak = finding(&verdict, "resident memory, a join, life 2");
    assert_eq!(leak.judgement, Judgement::Broken, "{leak:?}");
    let before = finding(&verdict, "resident memory, a join, life 1");
    assert_eq!(before.judgement, Judgement::Holds, "{before:?}");
}

#[test]
fn threads_descriptors_and_guards_that_stay_are_named() {
    let before = Sample { threads: 9.0, fds: 20.0, ..Sample::default() };
    let guards = [("probe".to_owned(), 1.0)].into();
    let objects = |count| Some([("GstPad".to_owned(), count)].into());
    let before = Sample { gst_objects: objects(30), ..before };
    let after =
        Sample { threads: 12.0, fds: 22.0, guards, gst_objects: objects(40), ..before.clone() };
    let verdict = judge(&[], &[], Some(&Rest { before, after }), &budgets());
    let judgement = |name: &str| finding(&verdict, name).judgement;
    assert_eq!(judgement("threads at rest"), Judgement::Broken);
    assert_eq!(judgement("descriptors at rest"), Judgement::Holds);
    assert_eq!(judgement("guards at rest"), Judgement::Broken);
    assert!(finding(&verdict, "GStreamer objects at rest").words.contains("10 GstPad"));
}

#[test]
fn a_viewer_who_gets_too_little_is_named() {
    let mut samples = run(0.0, 0.0);
    for sample in &mut samples {
        sample.viewer_fps.insert("rtsp 1".into(), 20.0);
    }
    let verdict = judge(&samples, &[], None, &budgets());
    assert_eq!(verdict.findings[0].name, "frames to rtsp 1");
    assert_eq!(verdict.findings[0].judgement, Judgement::Broken);
}
