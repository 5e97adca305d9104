//! The plots of a run.

use std::collections::BTreeSet;

use lensline_clients::quantile;
use lensline_soak::plot::Line;

use crate::record::{LinkRow, ROW_S, Record, Row, StreamerRow, ViewerRow};

/// Lines that can be told apart; beyond, a crowd is its least, median and most.
const LINES_MAX: usize = 8;

/// A title with its plots.
pub struct Section {
    /// Above them.
    pub title: &'static str,
    /// Whether it is folded away at first.
    pub folded: bool,
    /// Each with its own title.
    pub plots: Vec<(String, Vec<Line>)>,
}

impl Section {
    /// What `lensline_soak` draws, each with its title.
    pub fn plots(&self) -> impl Iterator<Item = (String, Vec<Line>)> + '_ {
        self.plots.iter().map(|(title, lines)| {
            // A line alone has no name beside it.
            let title = match lines.as_slice() {
                [line] if !title.contains(&line.name) => format!("{title}: {}", line.name),
                _ => title.clone(),
            };
            (title, lines.clone())
        })
    }
}

/// All plots: the viewers', the links' and the streamer's.
pub fn sections(record: &Record) -> Vec<Section> {
    let mut sections = vec![viewers(record)];
    sections.extend(links(record));
    sections.push(streamer(record));
    sections
}

fn viewers(record: &Record) -> Section {
    let plot =
        |title: &str, of: &dyn Fn(&ViewerRow) -> Option<f64>| (title.to_owned(), crowd(record, of));
    let mut fps = plot("pictures a second", &|row| Some(row.frames as f64 / ROW_S));
    fps.1.push(of_rows(record, "published", |row| Some(row.streamer.published as f64 / ROW_S)));
    let plots = vec![
        fps,
        plot("goodput, kbit/s", &|row| (row.kbps > 0.0 || row.frames == 0).then_some(row.kbps)),
        plot("capture to decoded, ms: the median of each second", &|row| row.latency_ms),
        plot("capture to decoded, ms: the longest of each second", &|row| row.latency_max_ms),
        ("time without a new picture, ms (where over 200)".into(), gaps(record)),
        plot("packets that did not come, a second", &|row| Some(row.lost as f64 / ROW_S)),
        plot("damaged pictures, a second", &|row| Some(row.damaged as f64 / ROW_S)),
    ];
    Section { title: "Viewers", folded: false, plots }
}

/// A line for each viewer while it was there; of many, the least, the median and the most.
fn crowd(record: &Record, of: &dyn Fn(&ViewerRow) -> Option<f64>) -> Vec<Line> {
    // Nothing is known of a moment in which a viewer was away, but that it got nothing.
    let value = |name: &str, row: &Row| match row.viewers.get(name) {
        Some(mine) => of(mine),
        None => of(&ViewerRow::default()),
    };
    let known = |name: &&String| {
        let mut rows = record.rows.iter().filter_map(|row| row.viewers.get(*name));
        rows.any(|mine| of(mine).is_some())
    };
    let names: Vec<&String> = record.viewers.keys().filter(known).collect();
    if names.len() <= LINES_MAX {
        let line = |name: &String| {
            let rows = there(record, name);
            let points = rows.map(|row| (row.at_s, value(name, row).unwrap_or(f64::NAN)));
            Line { name: name.clone(), points: points.collect() }
        };
        return names.into_iter().map(line).collect();
    }
    let of_all = |name: &str, q: f64| {
        let points = record.rows.iter().filter_map(|row| {
            let values: Vec<f64> = row.viewers.values().filter_map(of).collect();
            (!values.is_empty()).then(|| (row.at_s, quantile(&values, q)))
        });
        Line { name: name.into(), points: points.collect() }
    };
    vec![of_all("least", 0.0), of_all("median viewer", 0.5), of_all("most", 1.0)]
}

/// The rows from a viewer's first to its last.
fn there<'a>(record: &'a Record, name: &str) -> impl Iterator<Item = &'a Row> {
    let mut seen = record.rows.iter().filter(|row| row.viewers.contains_key(name));
    let first = seen.next().map_or(f64::INFINITY, |row| row.at_s);
    let last = seen.next_back().map_or(first, |row| row.at_s);
    record.rows.iter().filter(move |row| (first..=last).contains(&row.at_s))
}

/// Ramps from a viewer's last picture to its next.
fn gaps(record: &Record) -> Vec<Line> {
    let longest = |gaps: &[(f64, f64)]| gaps.iter().map(|gap| gap.1).fold(0.0, f64::max);
    let mut worst: Vec<_> = record.viewers.iter().collect();
    worst.sort_by(|one, other| longest(&other.1.gaps).total_cmp(&longest(&one.1.gaps)));
    let ramp = |&(end, length_ms): &(f64, f64)| {
        let steps = (length_ms / 1e3).ceil().max(1.0) as u32;
        let up = move |step: u32| {
            let waited_ms = length_ms * f64::from(step) / f64::from(steps);
            (end - (length_ms - waited_ms) / 1e3, waited_ms)
        };
        (0..=steps).map(up).chain([(end, 0.0), (end, f64::NAN)])
    };
    let worst = worst.into_iter().filter(|(_, account)| !account.gaps.is_empty());
    worst
        .take(LINES_MAX)
        .map(|(name, account)| Line {
            name: name.clone(),
            points: account.gaps.iter().flat_map(ramp).collect(),
        })
        .collect()
}

/// The links towards the viewers, and folded away, towards the streamer.
fn links(record: &Record) -> [Section; 2] {
    let names: BTreeSet<&String> = record.rows.iter().flat_map(|row| row.links.keys()).collect();
    let (up, down): (Vec<&String>, Vec<_>) =
        names.into_iter().partition(|name| name.ends_with(" up"));
    let mut down = directions(record, &down);
    let traffic: BTreeSet<&String> =
        record.rows.iter().flat_map(|row| row.traffic_kbps.keys()).collect();
    let traffic = traffic.into_iter().map(|name| {
        of_rows(record, name, |row| Some(row.traffic_kbps.get(name).copied().unwrap_or(0.0)))
    });
    down.push(("other traffic that arrived, kbit/s".into(), traffic.collect()));
    [
        Section { title: "Links towards the viewers", folded: false, plots: down },
        Section {
            title: "Links towards the streamer",
            folded: true,
            plots: directions(record, &up),
        },
    ]
}

fn directions(record: &Record, names: &[&String]) -> Vec<(String, Vec<Line>)> {
    let line = |name: &str, title: &str, of: fn(&LinkRow) -> f64| {
        of_rows(record, title, |row| row.links.get(name).map(of))
    };
    let queues = names.iter().map(|name| line(name, name, |link| link.queue_ms));
    let queues: Vec<Line> = queues.filter(|line| most(line) > 0.0).collect();
    let mut plots = vec![("queues, ms".to_owned(), queues)];
    for name in names {
        let line = |title: &str, of| line(name, title, of);
        let mut lines = vec![
            line("offered", |link| link.offered_kbps),
            line("delivered", |link| link.delivered_kbps),
        ];
        let capacity = line("capacity", |link| link.capacity_kbps);
        let mut title = format!("{name}: kbit/s");
        // Of a link that is hardly used, what it could carry would be all that is seen.
        match least(&capacity) {
            least if least <= 0.0 => {}
            least if least <= 4.0 * most(&lines[0]) => lines.push(capacity),
            least => title = format!("{title} (it could carry {least:.0})"),
        }
        plots.push((title, lines));
        let lost = line("lost", |link| link.lost as f64 / ROW_S);
        let dropped = line("queue full", |link| link.dropped as f64 / ROW_S);
        plots.push((format!("{name}: packets lost or dropped, a second"), vec![lost, dropped]));
    }
    plots
}

fn most(line: &Line) -> f64 {
    line.points.iter().map(|point| point.1).fold(0.0, f64::max)
}

fn least(line: &Line) -> f64 {
    line.points.iter().map(|point| point.1).fold(f64::INFINITY, f64::min)
}

fn streamer(record: &Record) -> Section {
    let line = |name: &str, of: fn(&StreamerRow) -> f64| {
        of_rows(record, name, |row| Some(of(&row.streamer)))
    };
    let one = |title: &str, of: fn(&StreamerRow) -> f64| (title.to_owned(), vec![line(title, of)]);
    let plots = vec![
        one("CPU, cores", |row| row.cpu),
        one("memory (RSS), MiB", |row| row.rss_mib),
        one("sessions", |row| row.sessions as f64),
        one("encoder, kbit/s", |row| row.encoded_kbps),
        (
            "added latency: encoder to socket, ms".into(),
            vec![line("p50", |row| row.added_p50_ms), line("p99", |row| row.added_p99_ms)],
        ),
        one("frames skipped by sessions, a second", |row| row.skipped as f64 / ROW_S),
        (
            "threads and descriptors".into(),
            vec![
                line("threads", |row| row.threads as f64),
                line("descriptors", |row| row.descriptors as f64),
            ],
        ),
    ];
    Section { title: "Streamer", folded: false, plots }
}

fn of_rows(record: &Record, name: &str, of: impl Fn(&Row) -> Option<f64>) -> Line {
    let points = record.rows.iter().filter_map(|row| Some((row.at_s, of(row)?)));
    Line { name: name.into(), points: points.collect() }
}
