//! What the rows say, held against the budgets.
//!
//! Each life of the target is judged by itself: a restart gives memory back and is no end of a leak,
//! and what a new life takes to warm up is none. That there was a restart is a finding of its own.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::budget::Budgets;
use crate::churn::Tally;
use crate::rows::{Event, EventKind, Sample};
use crate::trend::{Slope, fit, median};

/// So long after the streamer ended, or did not answer, it is no wonder that a viewer sees nothing.
const EXCUSED_S: f64 = 40.0;

/// So many seconds without a visitor are a pause.
const PAUSE_MIN_S: f64 = 15.0;

/// Steps in which an allocator grows.
const BYTES_SLACK: f64 = 4.0 * 1024.0 * 1024.0;

/// What a machine that is shared makes of a latency.
const MS_SLACK: f64 = 5.0;

/// Joins, camera restarts and hours without which nothing is called a leak by them: in five minutes
/// the steps of an allocator at a few camera restarts are a slope by the hour as well.
const JOINS_MIN: f64 = 50.0;
const CAMERA_RESTARTS_MIN: f64 = 8.0;
const HOURS_MIN: f64 = 0.15;

const AN_HOUR: &str = "an hour";

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
        // A figure that is none is within no budget.
        let judgement = if value <= budget { Judgement::Holds } else { Judgement::Broken };
        Self { name: name.into(), judgement, words, slope: None, budget: Some(budget) }
    }
}

/// What the target held at rest, before and after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}", self.judgement)?;
        for finding in &self.findings {
            writeln!(f, "  {:<8} {}", format!("{:?}", finding.judgement), finding.words)?;
        }
        Ok(())
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
    /// What may come together over a run without being worth a word.
    slack: f64,
}

/// Something that a measure may grow with, and how much for each.
struct Cause {
    name: &'static str,
    count: fn(&Sample) -> f64,
    budget: f64,
    /// Fewer times say nothing: an allocator's step at one of them would be taken for a slope.
    times_min: f64,
}

impl Measure {
    fn causes(&self) -> impl Iterator<Item = Cause> {
        let cause = |name, count, times_min, budget: Option<f64>| {
            Some(Cause { name, count, budget: budget?, times_min })
        };
        let restarts: fn(&Sample) -> f64 = |sample| sample.camera_restarts;
        let causes = [
            cause("a join", |sample| sample.joins as f64, JOINS_MIN, self.per_join),
            cause("a camera restart", restarts, CAMERA_RESTARTS_MIN, self.per_camera_restart),
            cause(AN_HOUR, hours_of, HOURS_MIN, Some(self.per_hour)),
        ];
        causes.into_iter().flatten()
    }
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
        findings.extend(measures(budgets).iter().flat_map(|one| growth(one, life, &which)));
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
        slack: BYTES_SLACK,
    };
    let count = |name, of, budget: crate::budget::Count| Measure {
        name,
        unit: name,
        scale: 1.0,
        of,
        per_join: Some(budget.per_join),
        per_hour: budget.per_hour,
        per_camera_restart: Some(budget.per_camera_restart),
        slack: budget.at_rest.max(2.0),
    };
    let latency = |name, of, budget: crate::budget::Latency| Measure {
        name,
        unit: "ms",
        scale: 1.0,
        of,
        per_join: None,
        per_hour: budget.ms_per_hour,
        per_camera_restart: None,
        slack: MS_SLACK,
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

/// What a measure does with joins, camera restarts and hours, each judged by itself. What live sessions
/// hold comes and goes with them, and is taken out.
fn growth(measure: &Measure, life: &[Sample], which: &str) -> Vec<Finding> {
    // While the camera is away, so is the encoder's memory.
    let life = life.iter().filter(|sample| sample.published_fps.is_none_or(|fps| fps > 1.0));
    let seen: Vec<(&Sample, f64)> =
        life.filter_map(|sample| Some((sample, (measure.of)(sample)?))).collect();
    let (Some((first, _)), Some((last, _))) = (seen.first(), seen.last()) else {
        // Nobody measures it here.
        return Vec::new();
    };
    let steady = come_steadily(&seen);
    let causes = measure.causes().filter(|cause| {
        let happens = (cause.count)(last) > (cause.count)(first);
        happens && !(steady && cause.name == AN_HOUR)
    });
    let causes: Vec<Cause> = causes.collect();
    let point = |(sample, value): &(&Sample, f64)| {
        let counts = causes.iter().map(|cause| (cause.count)(sample));
        ([sample.sessions].into_iter().chain(counts).collect(), *value)
    };
    let points: Vec<(Vec<f64>, f64)> = seen.iter().map(point).collect();
    let Some(slopes) = fit(&points) else {
        return vec![unclear(measure, which)];
    };
    let told = causes.iter().zip(&slopes[1..]).filter_map(|(cause, slope)| {
        let times = (cause.count)(last) - (cause.count)(first);
        Some(told(measure, cause, (*slope)?, times, which))
    });
    told.collect()
}

/// Whether visitors came all the time. Then the joins are the time, and nothing is to be told of
/// either without the other.
fn come_steadily(seen: &[(&Sample, f64)]) -> bool {
    let (Some((first, _)), Some((last, _))) = (seen.first(), seen.last()) else { return false };
    let pauses = seen.chunk_by(|one, next| one.0.joins == next.0.joins);
    let longest = pauses.filter_map(|pause| Some(pause.last()?.0.at_s - pause.first()?.0.at_s));
    first.joins != last.joins && longest.fold(0.0, f64::max) < PAUSE_MIN_S
}

fn unclear(measure: &Measure, which: &str) -> Finding {
    let words = format!("{}: too short, or too uneven, to tell{which}", measure.name);
    let name = format!("{}{which}", measure.name);
    Finding { name, judgement: Judgement::Unclear, words, slope: None, budget: None }
}

/// The finding on a slope, in words. What has come to no more than the slack in all these `times` is
/// no leak, however sure the slope.
fn told(measure: &Measure, cause: &Cause, slope: Slope, times: f64, which: &str) -> Finding {
    let Measure { name, unit, scale, slack, .. } = measure;
    let number = |value: f64| figure(value / scale);
    let leads_somewhere = (slope.low - cause.budget) * times > *slack && times >= cause.times_min;
    let judgement = match () {
        () if slope.low > cause.budget && leads_somewhere => Judgement::Broken,
        () if slope.high <= cause.budget => Judgement::Holds,
        () => Judgement::Unclear,
    };
    let slope_told = format!(
        "{} {unit} {} (95 %: {} to {}; budget {})",
        number(slope.value),
        cause.name,
        number(slope.low),
        number(slope.high),
        number(cause.budget)
    );
    let words = match judgement {
        Judgement::Broken => format!("LEAK: {name} grows by {slope_told}{which}"),
        Judgement::Holds => format!("{name}: {slope_told}{which}"),
        Judgement::Unclear => format!("{name}: {slope_told}: a longer run would tell{which}"),
    };
    Finding {
        name: format!("{name}, {}{which}", cause.name),
        judgement,
        words,
        slope: Some(slope),
        budget: Some(cause.budget),
    }
}

fn hours_of(sample: &Sample) -> f64 {
    sample.at_s / 3600.0
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
    ];
    let lost = of(EventKind::Viewer).filter(|event| !excused(event, events));
    let lost: Vec<_> = lost.map(|lost| format!("{} at {:.0} s", lost.what, lost.at_s)).collect();
    let told_of = lost.iter().take(3).cloned().collect::<Vec<_>>().join("; ");
    let budget = budgets.counts.viewer_losses;
    findings.push(finding("viewers who lost the picture", lost.len(), budget, told_of));
    let budget = budgets.counts.teardowns_stuck;
    findings.push(finding("teardowns stuck", stuck as usize, budget, String::new()));
    if let Some(restart) = findings.first_mut().filter(|one| one.judgement == Judgement::Broken) {
        restart.words += ". Memory that came back with a restart is no leak that ended: each life is \
            judged by itself";
    }
    findings
}

/// Whether the visitors were served.
pub fn served(tally: &Tally, budgets: &Budgets) -> Finding {
    let served: u64 = tally.visits.values().sum();
    let all = (served + tally.failed + tally.refused) as f64;
    let words = format!(
        "visitors: {served} served, {} refused (no camera just then, or a limit), {} not served \
         otherwise, at most {:.0} % of all",
        tally.refused,
        tally.failed,
        budgets.counts.visits_failed_share * 100.0
    );
    let budget = budgets.counts.visits_failed_share;
    if all == 0.0 {
        // Stopped before anybody came.
        let (name, judgement) = ("visitors not served".into(), Judgement::Unclear);
        return Finding { name, judgement, words, slope: None, budget: Some(budget) };
    }
    Finding::at_most("visitors not served", tally.failed as f64 / all, budget, words)
}

/// Whether a viewer lost the picture because there was no streamer.
fn excused(loss: &Event, events: &[Event]) -> bool {
    let ends = events.iter().filter(|event| event.kind != EventKind::Viewer);
    ends.map(|end| loss.at_s - end.at_s).any(|after| (0.0..EXCUSED_S).contains(&after))
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
        finding("sessions", before.sessions, after.sessions, 0.0),
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
mod tests;
