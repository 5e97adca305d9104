//! The few figures by which runs are compared.

use std::collections::BTreeMap;

use lensline_clients::quantile;

use super::measure::{Seen, Window, of_streamer, of_viewer, queue_p95};
use super::words::Unit;
use crate::plan::Measure;
use crate::record::Record;

/// A figure of a run.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// Its key in `summary.json`.
    pub key: &'static str,
    /// Above its column.
    pub name: &'static str,
    /// Its unit.
    pub unit: Unit,
    /// Whether more is better.
    pub more_is_better: bool,
}

const fn figure(key: &'static str, name: &'static str, unit: Unit, more_is_better: bool) -> Figure {
    Figure { key, name, unit, more_is_better }
}

/// All of them, in the order of the columns.
pub const FIGURES: [Figure; 10] = [
    figure("frames_share_worst", "frames, worst viewer", Unit::Share, true),
    figure("frames_share_median", "frames, median viewer", Unit::Share, true),
    figure("goodput_kbps_median", "goodput, median viewer", Unit::Kbps, true),
    figure("longest_gap_ms", "longest gap", Unit::Milliseconds, false),
    figure("first_frame_p95_ms", "first picture, p95", Unit::Milliseconds, false),
    figure("latency_p50_ms", "latency, p50", Unit::Milliseconds, false),
    figure("latency_p95_ms", "latency, p95", Unit::Milliseconds, false),
    figure("queue_p95_ms", "queue, p95", Unit::Milliseconds, false),
    figure("rss_mib_max", "memory, most", Unit::Mib, false),
    figure("cpu_cores", "CPU, mean cores", Unit::Cores, false),
];

/// The figures of a run by their keys; those that were not measured are left out.
pub fn figures(record: &Record) -> BTreeMap<String, f64> {
    let whole = Window::whole(record);
    let each = |what: Measure| -> Vec<f64> {
        let seen = record.viewers.keys().map(|name| of_viewer(record, name, what, whole));
        // Who never saw a picture counts as who got nothing of it.
        let worst = match what {
            Measure::FramesShare | Measure::GoodputKbps => Some(0.0),
            _ => None,
        };
        seen.filter_map(|seen| match seen {
            Seen::Absent(_) => worst,
            seen => seen.value(),
        })
        .collect()
    };
    let of = |values: &[f64], q: f64| (!values.is_empty()).then(|| quantile(values, q));
    let (shares, goodputs) = (each(Measure::FramesShare), each(Measure::GoodputKbps));
    let accounts = record.viewers.values();
    let latencies = accounts.flat_map(|account| account.latencies.iter().map(|pair| pair.1.into()));
    let latencies: Vec<f64> = latencies.collect();
    let queues = record.plan.link.keys().filter_map(|link| queue_p95(record, link, whole).value());
    let busy: Vec<f64> = record.rows.iter().map(|row| row.streamer.cpu).collect();
    let cpu = busy.iter().sum::<f64>() / busy.len().max(1) as f64;
    let values = [
        of(&shares, 0.0),
        of(&shares, 0.5),
        of(&goodputs, 0.5),
        of(&each(Measure::LongestGapMs), 1.0),
        of(&each(Measure::FirstFrameMs), 0.95),
        of(&latencies, 0.5),
        of(&latencies, 0.95),
        queues.max_by(f64::total_cmp),
        of_streamer(record, Measure::RssMib, whole).value(),
        (cpu > 0.0).then_some(cpu),
    ];
    let known = FIGURES.iter().zip(values);
    known.filter_map(|(figure, value)| Some((figure.key.to_owned(), value?))).collect()
}
