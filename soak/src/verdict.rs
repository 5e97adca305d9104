//! What the rows say, held against the budgets.
//!
//! Each life of the target is judged by itself: a restart gives memory back and is no end of a leak,
//! and what a new life takes to warm up is none. That there was a restart is a finding of its own.

use serde::Serialize;

use crate::budget::Budgets;
use crate::rows::{Event, EventKind, Sample};
use crate::trend::{Slope, fit, median};

/// So many seconds without a visitor are a pause.
const PAUSE_MIN_S: f64 = 15.0;

/// How something compares with its budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    /// Within it, surely.
    Holds,
    /// Too little was seen to be sure.
    Unclear,
    /// Above it, surely.
    Broken,
}

/// One sentence of the verdict.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub name: String,
    /// How it compares.
    pub judgement: Judgement,
    /// It in words, with the figures.
    pub words: String,
    /// The slope, where it is one.
    pub slope: Option<Slope>,
    /// The budget, where it is a number.
    pub budget: Option<f64>,
}

impl Finding {
    /// A figure without doubt, held against the most that it may be.
    pub fn at_most(name: &str, value: f64, budget: f64, words: String) -> Self {
        let judgement = if value > budget { Judgement::Broken } else { Judgement::Holds };
        Self { name: name.into(), judgement, words, slope: None, budget: Some(budget) }
    }
}

/// What the target held at rest, before and after.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rest {
    /// Before the visitors came.
    pub before: Sample,
    /// After they went.
    pub after: Sample,
}

/// The whole of it.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// The worst of the findings.
    pub judgement: Judgement,
    /// All of them, the worst first.
    pub findings: Vec<Finding>,
}

impl Verdict {
    /// Judges findings together.
    pub fn of(mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.judgement));
        let judgement = findings.first().map_or(Judgement::Unclear, |worst| worst.judgement);
        Self { judgement, findings }
    }

    /// Whether a gate passes: `strict` ones take no doubt.
    pub fn passes(&self, strict: bool) -> bool {
        match self.judgement {
            Judgement::Holds => true,
            Judgement::Unclear => !strict,
            Judgement::Broken => false,
        }
    }
}

/// How a slope is told.
struct Measure {
    name: &'static str,
    /// What one of it is called, and how many of the sample's are one.
    unit: &'static str,
    scale: f64,
    of: fn(&Sample) -> Option<f64>,
    per_join: Option<f64>,
    per_hour: f64,
    per_camera_restart: Option<f64>,
}

/// Judges what was seen.
pub fn judge(
    samples: &[Sample],
    events: &[Event],
    rest: Option<&Rest>,
    budgets: &Budgets,
) -> Verdict {
    let mut findings = counts(samples, events, budgets);
    let lives = lives(samples);
    for (number, life) in lives.iter().enumerate() {
        let life = warm(judged(life), budgets);
        let which = if lives.len() > 1 { format!(", life {}", number + 1) } else { String::new() };
        for measure in measures(budgets) {
            findings.extend(slopes(&measure, life, &which));
        }
        findings.extend(viewers(life, &which, budgets));
    }
    if let Some(rest) = rest {
        findings.extend(at_rest(rest, budgets));
    }
    Verdict::of(findings)
}

fn measures(budgets: &Budgets) -> Vec<Measure> {
    let bytes = |name, of, budget: crate::budget::Bytes| Measure {
        name,
        unit: "KB",
        scale: 1024.0,
        of,
        per_join: Some(budget.bytes_per_join),
        per_hour: budget.bytes_per_hour,
        per_camera_restart: Some(budget.bytes_per_camera_restart),
    };
    let count = |name, of, budget: crate::budget::Count| Measure {
        name,
        unit: name,
        scale: 1.0,
        of,
        per_join: Some(budget.per_join),
        per_hour: budget.per_hour,
        per_camera_restart: Some(budget.per_camera_restart),
    };
    let latency = |name, of, budget: crate::budget::Latency| Measure {
        name,
        unit: "ms",
        scale: 1.0,
        of,
        per_join: None,
        per_hour: budget.ms_per_hour,
        per_camera_restart: None,
    };
    vec![
        bytes("resident memory", |sample| Some(sample.rss_bytes), budgets.rss),
        count("threads", |sample| Some(sample.threads), budgets.threads),
        count("descriptors", |sample| Some(sample.fds), budgets.fds),
        count("guards", |sample| Some(sample.guards_live()), budgets.guards),
        count("GStreamer objects", Sample::gst_objects_live, budgets.gst_objects),
        latency("encoder to socket, p50", |sample| Some(sample.send_ms?[0]), budgets.send_p50),
        latency("capture to decoded, p50", |sample| Some(sample.latency_ms?[0]), {
            budgets.latency_p50
        }),
    ]
}

/// The samples of each life.
fn lives(samples: &[Sample]) -> Vec<&[Sample]> {
    samples.chunk_by(|one, next| one.life == next.life).collect()
}

/// What of a life slopes are judged by.
fn judged(life: &[Sample]) -> &[Sample] {
    let begin = life.iter().position(|sample| sample.judged).unwrap_or(life.len());
    let end = life.iter().rposition(|sample| sample.judged).map_or(begin, |last| last + 1);
    &life[begin..end]
}

/// A life without its warm-up.
fn warm<'a>(life: &'a [Sample], budgets: &Budgets) -> &'a [Sample] {
    let (Some(first), Some(last)) = (life.first(), life.last()) else { return life };
    let length = last.at_s - first.at_s;
    let skip = (length * budgets.warm_up.share).max(budgets.warm_up.seconds_min);
    let begin = life.partition_point(|sample| sample.at_s < first.at_s + skip);
    &life[begin..]
}

/// A measure's slopes by camera restarts, by joins and by hours. What live sessions hold comes and goes with them, and
/// is taken out.
fn slopes(measure: &Measure, life: &[Sample], which: &str) -> Vec<Finding> {
    let steady = measure.per_join.is_some() && come_steadily(life);
    let points: Vec<(Vec<f64>, f64)> = life
        .iter()
        .filter_map(|sample| {
            let joins = if measure.per_join.is_some() { sample.joins as f64 } else { 0.0 };
            let hours = if steady { 0.0 } else { sample.at_s / 3600.0 };
            let regressors = vec![sample.sessions, sample.camera_restarts, joins, hours];
            Some((regressors, (measure.of)(sample)?))
        })
        .collect();
    if points.is_empty() {
        // Nobody measures it here.
        return Vec::new();
    }
    let fitted = fit(&points).map(|fit| fit.slopes);
    let slope = |index: usize| fitted.as_ref().and_then(|slopes| slopes.get(index).copied()?);
    let mut findings = Vec::new();
    if let Some(budget) = measure.per_camera_restart.filter(|_| slope(1).is_some()) {
        findings.push(slope_finding(measure, "a camera restart", slope(1), budget, which));
    }
    let by_join =
        measure.per_join.filter(|_| life.first().map(|s| s.joins) != life.last().map(|s| s.joins));
    if let Some(budget) = by_join {
        findings.push(slope_finding(measure, "a join", slope(2), budget, which));
    }
    // What goes by the hour only because joins do is told by the join.
    if by_join.is_none() || slope(3).is_some() {
        findings.push(slope_finding(measure, "an hour", slope(3), measure.per_hour, which));
    }
    findings
}

/// Whether visitors came all the time. Then the joins are the time, and nothing is to be told of
/// either without the other.
fn come_steadily(life: &[Sample]) -> bool {
    let stretches = life.chunk_by(|one, next| one.joins == next.joins);
    let length = |stretch: &[Sample]| match stretch {
        [first, .., last] => last.at_s - first.at_s,
        _ => 0.0,
    };
    stretches.map(length).fold(0.0, f64::max) < PAUSE_MIN_S
}

fn slope_finding(
    measure: &Measure,
    per: &str,
    slope: Option<Slope>,
    budget: f64,
    which: &str,
) -> Finding {
    let name = format!("{} by {}{which}", measure.name, per.rsplit(' ').next().unwrap_or(per));
    let number = |value: f64| figure(value / measure.scale);
    let unit = measure.unit;
    let Some(found) = slope else {
        return Finding {
            words: format!("{}: too short, or too uneven, to tell a slope{which}", measure.name),
            name,
            judgement: Judgement::Unclear,
            slope,
            budget: Some(budget),
        };
    };
    let judgement = match () {
        () if found.low > budget => Judgement::Broken,
        () if found.high <= budget => Judgement::Holds,
        () => Judgement::Unclear,
    };
    let range = format!(
        "{} {unit} {per} (95 %: {} to {}; budget {})",
        number(found.value),
        number(found.low),
        number(found.high),
        number(budget)
    );
    let words = match judgement {
        Judgement::Broken => format!("LEAK: {} grow(s) by {range}{which}", measure.name),
        Judgement::Holds => format!("{}: {range}{which}", measure.name),
        Judgement::Unclear => {
            format!("{}: {range}: a longer run would tell{which}", measure.name)
        }
    };
    Finding { name, judgement, words, slope, budget: Some(budget) }
}

/// What was counted over the whole run.
fn counts(samples: &[Sample], events: &[Event], budgets: &Budgets) -> Vec<Finding> {
    let of = |kind| events.iter().filter(move |event| event.kind == kind);
    let stuck = lives(samples).into_iter().filter_map(<[Sample]>::last);
    let stuck: f64 = stuck.map(|sample| sample.teardowns_stuck).sum();
    let finding = |name: &str, count: usize, budget: usize, detail: String| {
        let broken = count > budget;
        let judgement = if broken { Judgement::Broken } else { Judgement::Holds };
        let detail =
            if broken && !detail.is_empty() { format!(": {detail}") } else { String::new() };
        Finding {
            name: name.into(),
            judgement,
            words: format!("{name}: {count}, budget {budget}{detail}"),
            slope: None,
            budget: Some(budget as f64),
        }
    };
    let told = |kind| {
        let told = of(kind).take(3).map(|event| format!("{} at {:.0} s", event.what, event.at_s));
        told.collect::<Vec<_>>().join("; ")
    };
    let listed = |name, kind, budget| finding(name, of(kind).count(), budget, told(kind));
    let mut findings = vec![
        listed("restarts", EventKind::Restart, budgets.counts.restarts),
        listed("silences", EventKind::Silent, budgets.counts.silences),
        listed("viewers who lost the picture", EventKind::Viewer, budgets.counts.viewer_losses),
    ];
    let budget = budgets.counts.teardowns_stuck;
    findings.push(finding("teardowns stuck", stuck as usize, budget, String::new()));
    if let Some(restart) = findings.first_mut().filter(|one| one.judgement == Judgement::Broken) {
        restart.words += ". Memory that came back with a restart is no leak that ended: each life is \
            judged by itself";
    }
    findings
}

/// What each viewer got, as a share of what was published meanwhile.
fn viewers(life: &[Sample], which: &str, budgets: &Budgets) -> Vec<Finding> {
    let names: std::collections::BTreeSet<&String> =
        life.iter().flat_map(|sample| sample.viewer_fps.keys()).collect();
    let budget = budgets.viewers.fps_share_min;
    let share = |name: &String| {
        let shares = life.iter().filter_map(|sample| {
            let published = sample.published_fps.filter(|fps| *fps > 0.0)?;
            Some(sample.viewer_fps.get(name)? / published)
        });
        median(shares)
    };
    names
        .into_iter()
        .map(|name| {
            let share = share(name);
            let judgement = match () {
                () if share.is_nan() => Judgement::Unclear,
                () if share < budget => Judgement::Broken,
                () => Judgement::Holds,
            };
            Finding {
                name: format!("frames to {name}{which}"),
                judgement,
                words: format!(
                    "{name}: {:.0} % of the frames published in the median second, at least \
                     {:.0} %{which}",
                    share * 100.0,
                    budget * 100.0
                ),
                slope: None,
                budget: Some(budget),
            }
        })
        .collect()
}

/// What is held at rest afterwards and was not before.
fn at_rest(rest: &Rest, budgets: &Budgets) -> Vec<Finding> {
    let Rest { before, after } = rest;
    let finding = |name: &str, before: f64, after: f64, budget: f64| {
        let words = format!(
            "{}{name} at rest: {} before, {} after, at most {} more",
            if after - before > budget { "LEAK: " } else { "" },
            figure(before),
            figure(after),
            figure(budget)
        );
        Finding::at_most(&format!("{name} at rest"), after - before, budget, words)
    };
    let mut findings = vec![
        finding("sessions", 0.0, after.sessions, 0.0),
        finding("threads", before.threads, after.threads, budgets.threads.at_rest),
        finding("descriptors", before.fds, after.fds, budgets.fds.at_rest),
        finding("guards", before.guards_live(), after.guards_live(), budgets.guards.at_rest),
    ];
    if let (Some(known), Some(now)) = (&before.gst_objects, &after.gst_objects) {
        let (all_known, all_now) = (before.gst_objects_live(), after.gst_objects_live());
        let mut all = finding(
            "GStreamer objects",
            all_known.unwrap_or_default(),
            all_now.unwrap_or_default(),
            budgets.gst_objects.at_rest,
        );
        let more = now.iter().filter_map(|(kind, count)| {
            let more = count.saturating_sub(*known.get(kind).unwrap_or(&0));
            (more > 0).then(|| format!("{more} {kind}"))
        });
        let more: Vec<_> = more.collect();
        if !more.is_empty() {
            all.words += &format!(" (more: {})", more.join(", "));
        }
        findings.push(all);
    }
    findings
}

/// A number with as many digits as tell something.
fn figure(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.1}"),
        size if size >= 0.01 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
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
        for name in ["resident memory by join", "resident memory by hour", "threads by join"] {
            assert_eq!(finding(&verdict, name).judgement, Judgement::Holds, "{verdict:#?}");
        }
        // One thread more or less, seen for twenty minutes, says little of an hour; and says so.
        assert_eq!(finding(&verdict, "threads by hour").judgement, Judgement::Unclear);
        assert!(!verdict.passes(true));
    }

    #[test]
    fn a_leak_by_the_join_is_named_with_its_size_and_not_taken_for_one_by_the_hour() {
        let verdict = judge(&run(102_400.0, 0.0), &[], None, &budgets());
        assert!(!verdict.passes(false));
        let leak = finding(&verdict, "resident memory by join");
        assert_eq!(leak.judgement, Judgement::Broken);
        let slope = leak.slope.unwrap();
        assert!((slope.value / 102_400.0 - 1.0).abs() < 0.05, "{leak:?}");
        assert!(
            leak.words.starts_with("LEAK: resident memory grow(s) by 100.0 KB a join"),
            "{leak:?}"
        );
        assert_ne!(finding(&verdict, "resident memory by hour").judgement, Judgement::Broken);
    }

    #[test]
    fn a_leak_by_the_hour_is_not_taken_for_one_by_the_join() {
        let verdict = judge(&run(0.0, 200e6), &[], None, &budgets());
        assert_eq!(finding(&verdict, "resident memory by hour").judgement, Judgement::Broken);
        assert_ne!(finding(&verdict, "resident memory by join").judgement, Judgement::Broken);
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
        let events = [Event { at_s: 1_200.0, kind: EventKind::Restart, what }];
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
        let leak = finding(&verdict, "resident memory by join, life 2");
        assert_eq!(leak.judgement, Judgement::Broken, "{leak:?}");
        let before = finding(&verdict, "resident memory by join, life 1");
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
}
