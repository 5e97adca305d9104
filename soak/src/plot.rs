//! Plots over time, as SVG.

use plotters::coord::Shift;
use plotters::prelude::*;

const SIZE: (u32, u32) = (760, 220);

/// Pixels for the names of lines, beside the plot so that they cover nothing of it.
const NAMES_WIDTH: u32 = 130;

/// Letters of a name that fit there.
const NAME_LETTERS: usize = 18;

/// Points of a line at most: more are not seen, and make a page of a day's run heavy.
const POINTS_MAX: usize = 1_500;

/// Nothing for so many seconds is a gap in a line; more where looks are rarer.
const GAP_MIN_S: f64 = 15.0;

/// The lines' colours, told apart by those who see few colours too (Okabe and Ito 2008).
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(90, 90, 90),
    RGBColor(150, 130, 0),
];

/// A line: its name, and its points by seconds.
#[derive(Clone, Debug)]
pub struct Line {
    /// What it is called.
    pub name: String,
    /// Seconds and value; a gap wherever the seconds of two neighbours are far apart, and where the
    /// value is no number.
    pub points: Vec<(f64, f64)>,
}

/// What is plotted.
#[derive(Clone, Debug)]
pub struct Plot<'a> {
    /// Above it.
    pub title: &'a str,
    /// The lines.
    pub lines: Vec<Line>,
    /// Whether the axis begins at zero.
    pub from_zero: bool,
}

/// Draws a plot; `marks` are seconds at which something happened. `None` where there is nothing to
/// draw, or nothing but zeros.
pub fn draw(plot: &Plot<'_>, seconds: f64, marks: &[f64]) -> Option<String> {
    let values = || plot.lines.iter().flat_map(|line| line.points.iter().map(|point| point.1));
    let (mut low, mut high) =
        values().fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
    if low > high || (low == 0.0 && high == 0.0) {
        return None;
    }
    if plot.from_zero {
        low = low.min(0.0);
    }
    let margin = ((high - low) * 0.06).max(high.abs() * 0.01).max(1e-3);
    (low, high) = (if low == 0.0 { 0.0 } else { low - margin }, high + margin);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        paint(plot, &area, (0.0..seconds, low..high), marks).ok()?;
        area.present().ok()?;
    }
    Some(svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type PaintError<'a> = DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>;

fn paint<'a>(
    plot: &Plot<'_>,
    area: &Area<'a>,
    (across, up): (std::ops::Range<f64>, std::ops::Range<f64>),
    marks: &[f64],
) -> Result<(), PaintError<'a>> {
    area.fill(&WHITE)?;
    let names_width = if plot.lines.len() > 1 { NAMES_WIDTH } else { 0 };
    let (area, names_area) = area.split_horizontally(SIZE.0 - names_width);
    let (unit, unit_name) = match across.end {
        long if long > 3.0 * 3600.0 => (3600.0, "hours"),
        short if short <= 600.0 => (1.0, "seconds"),
        _ => (60.0, "minutes"),
    };
    let mut chart = ChartBuilder::on(&area)
        .caption(plot.title, ("sans-serif", 15))
        .margin(6)
        .margin_right(16)
        .x_label_area_size(28)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..across.end / unit, up.clone())?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(225, 225, 225))
        .axis_style(RGBColor(120, 120, 120))
        .x_desc(unit_name)
        .y_labels(5)
        .x_label_formatter(&short)
        .y_label_formatter(&short)
        .label_style(("sans-serif", 11))
        .draw()?;
    let red = RGBColor(200, 0, 0);
    for mark in marks {
        let mark = mark / unit;
        chart.draw_series(LineSeries::new([(mark, up.start), (mark, up.end)], red))?;
    }
    for (line, colour) in plot.lines.iter().zip(COLOURS.iter().cycle()) {
        for piece in pieces(&line.points) {
            let points = piece.iter().map(|(at, value)| (at / unit, *value));
            chart.draw_series(LineSeries::new(points, colour.stroke_width(1)))?;
        }
    }
    if names_width > 0 {
        names(plot, &names_area)?;
    }
    Ok(())
}

/// The lines' names in their colours, one below the other.
fn names<'a>(plot: &Plot<'_>, area: &Area<'a>) -> Result<(), PaintError<'a>> {
    for ((line, colour), y) in plot.lines.iter().zip(COLOURS.iter().cycle()).zip((34..).step_by(16))
    {
        area.draw(&PathElement::new([(0, y), (14, y)], colour.stroke_width(2)))?;
        let mut name: String = line.name.chars().take(NAME_LETTERS).collect();
        if name.len() < line.name.len() {
            name.push('…');
        }
        area.draw(&Text::new(name, (20, y - 5), ("sans-serif", 11)))?;
    }
    Ok(())
}

/// A number at an axis, without the digits that say nothing.
fn short(value: &f64) -> String {
    let rounded = (value * 1e3).round() / 1e3;
    format!("{}", if rounded == 0.0 { 0.0 } else { rounded })
}

/// A line thinned to what can be seen, and cut where nothing was seen for long.
fn pieces(points: &[(f64, f64)]) -> Vec<Vec<(f64, f64)>> {
    let step = points.len().div_ceil(POINTS_MAX).max(1);
    let thin: Vec<_> = points.iter().step_by(step).copied().collect();
    let steps = thin.windows(2).map(|pair| pair[1].0 - pair[0].0);
    let usual = crate::trend::median(steps);
    let gap = (6.0 * usual).max(GAP_MIN_S);
    let together = |one: &(f64, f64), next: &(f64, f64)| {
        next.0 - one.0 <= gap && one.1.is_finite() && next.1.is_finite()
    };
    let pieces = thin.chunk_by(together).filter(|piece| piece[0].1.is_finite());
    pieces.map(<[_]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_its_title_and_a_line_for_each_series_with_gaps_where_nothing_was_seen() {
        let line = |name: &str, points: Vec<(f64, f64)>| Line { name: name.into(), points };
        let points = (0..100).filter(|at| !(40..60).contains(at));
        let points: Vec<_> = points.map(|at| (f64::from(at), f64::from(at % 7))).collect();
        assert_eq!(pieces(&points).len(), 2);
        assert_eq!(
            pieces(&[(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0)]),
            [[(0.0, 1.0)], [(2.0, 3.0)]]
        );
        let lines = vec![line("p50", points.clone()), line("p99", points)];
        let plot = Plot { title: "latency", lines, from_zero: true };
        let svg = draw(&plot, 100.0, &[50.0]);
        let svg = svg.unwrap_or_default();
        assert!(svg.starts_with("<svg") && svg.contains("latency") && svg.contains("p99"));
        let empty = Plot { title: "nothing", lines: Vec::new(), from_zero: true };
        assert_eq!(draw(&empty, 100.0, &[]), None);
    }
}
