//! A run as files: `report.json` for programs, `report.html` for people. Both can be written again
//! and again while a run goes on.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use serde::Serialize;

use crate::churn;
use crate::page::{STYLE, escape, replace};
use crate::plot::{Line, Plot, draw};
use crate::rows::{Event, EventKind, Sample};
use crate::verdict::{Judgement, Rest, Verdict};

/// Samples in a report at most.
const SAMPLES_MAX: usize = 5_000;

/// Everything that a report tells.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    /// What was run.
    pub title: &'a str,
    /// When it began, seconds since the Unix epoch.
    pub began_unix_s: u64,
    /// What was watched, and under which conditions: names and values.
    pub conditions: Vec<(&'static str, String)>,
    /// How it compares with the budgets.
    pub verdict: &'a Verdict,
    /// What the target held at rest.
    pub rest: Option<&'a Rest>,
    /// What became of the visitors.
    pub churn: Option<churn::Tally>,
    /// What happened.
    pub events: &'a [Event],
    /// All looks.
    pub samples: &'a [Sample],
}

impl Report<'_> {
    /// Writes both files into `directory`.
    ///
    /// # Errors
    /// Where they cannot be written.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        let thin = Report {
            conditions: self.conditions.clone(),
            churn: self.churn.clone(),
            samples: &thinned(self.samples),
            ..*self
        };
        replace(&directory.join("report.json"), &serde_json::to_vec(&thin)?)?;
        replace(&directory.join("report.html"), thin.html().as_bytes())
    }

    fn html(&self) -> String {
        let mut page = String::new();
        let judgement = match self.verdict.judgement {
            Judgement::Holds => "holds",
            Judgement::Unclear => "unclear",
            Judgement::Broken => "broken",
        };
        let _ = write!(
            page,
            "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\">\
             <title>{0}: {judgement}</title>\n<style>{STYLE}</style>\n\
             <h1>{0} <span class=\"{judgement}\">{judgement}</span></h1>\n",
            escape(self.title)
        );
        self.findings(&mut page);
        self.events(&mut page);
        self.plots(&mut page);
        self.conditions(&mut page);
        page
    }

    fn findings(&self, page: &mut String) {
        page.push_str("<h2>Verdict</h2>\n<ul class=\"findings\">\n");
        for finding in &self.verdict.findings {
            let class = match finding.judgement {
                Judgement::Holds => "holds",
                Judgement::Unclear => "unclear",
                Judgement::Broken => "broken",
            };
            let _ = writeln!(
                page,
                "<li><span class=\"{class}\">{class}</span> {}</li>",
                escape(&finding.words)
            );
        }
        page.push_str("</ul>\n");
    }

    fn events(&self, page: &mut String) {
        if self.events.is_empty() {
            return;
        }
        page.push_str("<h2>What happened</h2>\n<table>\n");
        // A day of faults is long; the file of rows has all of them.
        for event in self.events.iter().take(200) {
            let _ = writeln!(
                page,
                "<tr><td class=\"number\">{:.0} s</td><td>{}</td></tr>",
                event.at_s,
                escape(&event.what)
            );
        }
        page.push_str("</table>\n");
    }

    fn plots(&self, page: &mut String) {
        let seconds = self.samples.last().map_or(0.0, |sample| sample.at_s).max(1.0);
        let restarts = self.events.iter().filter(|event| event.kind == EventKind::Restart);
        let marks: Vec<f64> = restarts.map(|event| event.at_s).collect();
        page.push_str("<h2>Plots</h2>\n");
        if !marks.is_empty() {
            page.push_str("<p>Red lines are restarts of the streamer.</p>\n");
        }
        page.push_str("<div class=\"plots\">\n");
        for plot in self.list() {
            if let Some(svg) = draw(&plot, seconds, &marks) {
                page.push_str(&svg);
                page.push('\n');
            }
        }
        page.push_str("</div>\n");
    }

    fn list(&self) -> Vec<Plot<'static>> {
        const MIB: f64 = 1024.0 * 1024.0;
        let one = |title, from_zero, of: &dyn Fn(&Sample) -> Option<f64>| Plot {
            title,
            lines: vec![self.line(title, of)],
            from_zero,
        };
        let two = |title, of: &dyn Fn(&Sample) -> Option<[f64; 2]>| Plot {
            title,
            lines: vec![
                self.line("p50", &|sample| Some(of(sample)?[0])),
                self.line("p99", &|sample| Some(of(sample)?[1])),
            ],
            from_zero: true,
        };
        vec![
            Plot {
                title: "memory, MiB",
                lines: vec![
                    self.line("RSS", &|sample| Some(sample.rss_bytes / MIB)),
                    self.line("PSS", &|sample| Some(sample.pss_bytes? / MIB)),
                ],
                from_zero: false,
            },
            one("Rust's heap (dhat), KiB", false, &|sample| Some(sample.heap_bytes? / 1024.0)),
            one("blocks of Rust's heap", false, &|sample| sample.heap_blocks),
            one("visitors who came and went", true, &|sample| Some(sample.joins as f64)),
            one("threads", true, &|sample| Some(sample.threads)),
            one("file descriptors", true, &|sample| Some(sample.fds)),
            one("live sessions", true, &|sample| Some(sample.sessions)),
            one("live guards", true, &|sample| Some(sample.guards_live())),
            one("live GStreamer objects (leaks tracer)", true, &Sample::gst_objects_live),
            two("added latency: encoder to socket, ms, by the histogram's buckets", &|sample| {
                sample.send_ms
            }),
            two("capture to decoded by a webrtcbin viewer, ms, by the stamp", &|sample| {
                sample.latency_ms
            }),
            self.frames(),
            one("frames skipped by sessions, a second", true, &|sample| sample.skipped_per_s),
            one("encoder bitrate (target), Mbit/s", true, &|sample| {
                Some(sample.encoder_bitrate_bps / 1e6)
            }),
            one("CPU of the streamer, % of a core", true, &|sample| sample.cpu_percent),
            one("temperature, °C", false, &|sample| sample.temperature_celsius),
        ]
    }

    fn frames(&self) -> Plot<'static> {
        let mut lines = vec![self.line("published", &|sample| sample.published_fps)];
        let names: std::collections::BTreeSet<&String> =
            self.samples.iter().flat_map(|sample| sample.viewer_fps.keys()).collect();
        for name in names {
            lines.push(self.line(name, &|sample| sample.viewer_fps.get(name).copied()));
        }
        Plot { title: "frames a second: published, and to each viewer", lines, from_zero: true }
    }

    fn line(&self, name: &str, of: &dyn Fn(&Sample) -> Option<f64>) -> Line {
        let points = self.samples.iter().filter_map(|sample| Some((sample.at_s, of(sample)?)));
        Line { name: name.into(), points: points.collect() }
    }

    fn conditions(&self, page: &mut String) {
        page.push_str("<h2>Conditions</h2>\n<table>\n");
        for (name, value) in &self.conditions {
            let _ = writeln!(page, "<tr><td>{name}</td><td>{}</td></tr>", escape(value));
        }
        page.push_str("</table>\n");
        let Some(churn) = &self.churn else { return };
        let _ = writeln!(
            page,
            "<h2>Visitors</h2>\n<p>{} refused by a limit, {} not served otherwise.</p>\n<table>",
            churn.refused, churn.failed
        );
        for (stage, count) in &churn.visits {
            let _ = writeln!(page, "<tr><td>{stage}</td><td class=\"number\">{count}</td></tr>");
        }
        page.push_str("</table>\n");
        for problem in &churn.problems {
            let _ = writeln!(page, "<p class=\"problem\">{}</p>", escape(problem));
        }
    }
}

/// So many of them, evenly; the rows are all in their own file.
fn thinned(samples: &[Sample]) -> Vec<Sample> {
    let step = samples.len().div_ceil(SAMPLES_MAX).max(1);
    samples.iter().step_by(step).cloned().collect()
}
