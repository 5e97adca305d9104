//! A run as a page: the verdict first, then what was seen over time.

use std::fmt::Write as _;

use lensline_soak::page::{STYLE, escape};
use lensline_soak::plot::{Line, Plot, draw};
use serde_json::Value;

use super::judge::{Outcome, Verdict};
use super::plots::sections;
use super::words::Group;
use crate::link::Trace;
use crate::plan::Plan;
use crate::record::{Account, Event, Record};

/// What is wanted besides what all of Lensline's reports look like.
const MORE_STYLE: &str = ".missing{display:inline-block;min-width:4.2rem;text-align:center;\
    border-radius:.3rem;padding:0 .5rem;color:#fff;font-size:.85em;background:#5b4b9a}\
    table{border-collapse:collapse}th{text-align:left;font-weight:600;font-size:.85em;color:#555}\
    th,td{padding:.15rem .7rem .15rem 0;border-bottom:1px solid #eee;vertical-align:top}\
    .wide{overflow-x:auto}.faint{color:#666}.plots{margin:.4rem 0}pre{font-size:.85em}\
    .number{white-space:nowrap}.plan{min-width:13rem}.wide{font-size:.92em}.better{color:#1a7f37}.worse{color:#b3261e}.little{color:#888}\
    @media print{*{print-color-adjust:exact}body{font-size:10px;max-width:none;margin:0}a{color:inherit}\
    .plots svg{width:48%}tr{break-inside:avoid}}";

/// The top of a page, up to its heading; `title` is escaped here.
pub fn head(title: &str, outcome: Option<Outcome>) -> String {
    let title = escape(title);
    let (said, pill) = match outcome {
        Some(outcome) => (format!(": {}", outcome.as_str()), format!(" {}", pill(outcome))),
        None => (String::new(), String::new()),
    };
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}{said}</title>\n\
         <style>{STYLE}{MORE_STYLE}</style>\n<h1>{title}{pill}</h1>\n"
    )
}

/// An outcome in its colour.
pub fn pill(outcome: Outcome) -> String {
    format!("<span class=\"{0}\">{0}</span>", outcome.as_str())
}

/// A run's page.
pub fn page(record: &Record, verdict: &Verdict) -> String {
    let mut page = head(&record.plan.title, Some(verdict.outcome));
    about(&mut page, record);
    findings(&mut page, verdict);
    let marks = marks(&record.plan);
    events(&mut page, "What the plan does", &marks, None);
    if !marks.is_empty() {
        page.push_str("<p class=\"faint\">These moments are the red lines in the plots.</p>\n");
    }
    plots(&mut page, record, &marks);
    events(&mut page, "What happened", &record.events, Some(30));
    accounts(&mut page, record);
    plan(&mut page, &record.plan);
    page
}

fn about(page: &mut String, record: &Record) {
    let tier = format!("{:?}", record.tier);
    let mut parts = vec![
        format!("plan {}", record.plan.name),
        format!("tier {tier}"),
        format!("seed {}", record.seed),
        format!("{} s", record.plan.duration_s),
        format!("Lensline {}", record.version),
    ];
    parts.extend(date(record.began_unix_s));
    parts.extend([record.plan.source.clone(), record.conditions.clone()]);
    parts.retain(|part| !part.is_empty());
    let _ = writeln!(page, "<p class=\"faint\">{}</p>", escape(&parts.join(" · ")));
}

/// A moment for a person; none of tier A, which has no date.
fn date(unix_s: u64) -> Option<String> {
    let seconds = i64::try_from(unix_s).ok().filter(|seconds| *seconds > 0)?;
    let date = gst::glib::DateTime::from_unix_utc(seconds).ok()?;
    Some(date.format("%F %T UTC").ok()?.into())
}

fn findings(page: &mut String, verdict: &Verdict) {
    page.push_str(
        "<h2>Verdict</h2>\n<div class=\"wide\"><table>\n<tr><th></th><th>what</th><th>whose</th>\
         <th>measured (the worst)</th><th>asked for</th><th>when</th><th>remarks</th></tr>\n",
    );
    let mut groups = Group::all(verdict);
    groups.sort_by_key(|group| std::cmp::Reverse(group.outcome()));
    for group in groups {
        let cells = [
            escape(group.what()),
            escape(&group.whose()),
            format!("<b>{}</b>", escape(&group.value())),
            escape(&group.bound()),
            escape(&group.when()),
            escape(&remark(&group)),
        ];
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td>{}</td></tr>",
            pill(group.outcome()),
            cells.join("</td><td>")
        );
    }
    page.push_str("</table></div>\n");
}

fn remark(group: &Group<'_>) -> String {
    let why = group.worst.why.clone().unwrap_or_default();
    match group.outcome() {
        Outcome::Missing => format!("known to be missing: {why}"),
        _ => why,
    }
}

/// What the plan does when, in the order of time.
fn marks(plan: &Plan) -> Vec<Event> {
    let mut marks = Vec::new();
    let mut mark = |at_s: f64, what: String| {
        if (0.0..plan.duration_s).contains(&at_s) {
            marks.push(Event { at_s, what });
        }
    };
    for fault in &plan.fault {
        let what = in_words(&serde_json::to_value(&fault.kind).unwrap_or_default());
        if fault.for_s > 0.0 {
            mark(fault.at_s + fault.for_s, format!("{what}: over"));
        }
        mark(fault.at_s, what);
    }
    for (link, pair) in &plan.link {
        for change in &pair.change {
            let way = |name: &str, change| match in_words(&change) {
                nothing if nothing.is_empty() => nothing,
                what => format!(" {name}: {what}"),
            };
            let down = way("down", serde_json::to_value(&change.down).unwrap_or_default());
            let up = way("up", serde_json::to_value(&change.up).unwrap_or_default());
            mark(change.at_s, format!("link {link}{down}{up}"));
        }
    }
    for traffic in plan.traffic.iter().filter(|traffic| traffic.count > 0) {
        let what = format!("traffic {} ({} of it)", traffic.name, traffic.count);
        if let Some(until_s) = traffic.until_s {
            mark(until_s, format!("{what} ends"));
        }
        mark(traffic.at_s, format!("{what} begins"));
    }
    marks.sort_by(|one, other| one.at_s.total_cmp(&other.at_s));
    marks
}

/// The values of an object that are there, with their names: its `kind` first, without.
fn in_words(value: &Value) -> String {
    let Value::Object(object) = value else { return String::new() };
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let kind = object.get("kind").map(text);
    let others = object.iter().filter(|(key, value)| *key != "kind" && !value.is_null());
    let others = others.map(|(key, value)| format!("{key} {}", text(value)));
    kind.into_iter().chain(others).collect::<Vec<_>>().join(", ")
}

fn plots(page: &mut String, record: &Record, marks: &[Event]) {
    let seconds = record.rows.last().map_or(0.0, |row| row.at_s).max(record.plan.duration_s);
    let marks: Vec<f64> = marks.iter().map(|mark| mark.at_s).collect();
    for section in sections(record) {
        let draw = |(title, lines): (String, Vec<Line>)| {
            draw(&Plot { title: &title, lines, from_zero: true }, seconds, &marks)
        };
        let drawn: Vec<_> = section.plots().filter_map(draw).collect();
        if !drawn.is_empty() {
            let _ = writeln!(page, "<h2>{}</h2>", section.title);
            fold(page, section.folded, drawn.len(), |page| {
                let _ = writeln!(page, "<div class=\"plots\">\n{}\n</div>", drawn.join("\n"));
            });
        }
    }
}

fn events(page: &mut String, title: &str, events: &[Event], folded_from: Option<usize>) {
    if events.is_empty() {
        return;
    }
    let _ = writeln!(page, "<h2>{title}</h2>");
    fold(page, folded_from.is_some_and(|from| events.len() > from), events.len(), |page| {
        page.push_str("<table>\n");
        for event in events {
            let _ = writeln!(
                page,
                "<tr><td class=\"number\">{:.1} s</td><td>{}</td></tr>",
                event.at_s,
                escape(&event.what)
            );
        }
        page.push_str("</table>\n");
    });
}

/// What is long is folded away.
fn fold(page: &mut String, long: bool, count: usize, write: impl FnOnce(&mut String)) {
    if long {
        let _ = writeln!(page, "<details><summary>{count} to see</summary>");
    }
    write(page);
    if long {
        page.push_str("</details>\n");
    }
}

fn accounts(page: &mut String, record: &Record) {
    let count = record.viewers.len();
    page.push_str("<h2>Viewers' accounts</h2>\n");
    fold(page, count > 30, count, |page| {
        page.push_str(
            "<div class=\"wide\"><table>\n<tr><th>viewer</th><th>joined</th><th>first picture</th>\
             <th>pictures</th><th>share</th><th>longest gap</th><th>joined again</th>\
             <th>said</th></tr>\n",
        );
        for (name, account) in &record.viewers {
            account_row(page, name, account);
        }
        page.push_str("</table></div>\n");
    });
}

fn account_row(page: &mut String, name: &str, account: &Account) {
    let first = account.first_frame_s.map(|first| (first - account.joined_s) * 1e3);
    let first = first.map_or_else(|| "none".to_owned(), |ms| format!("after {ms:.0} ms"));
    let share = match account.published {
        0 => String::new(),
        published => format!("{:.2} %", account.frames as f64 / published as f64 * 100.0),
    };
    let gap = account.gaps.iter().map(|gap| gap.1).fold(0.0, f64::max);
    let gap = if gap > 0.0 { format!("{gap:.0} ms") } else { "≤ 200 ms".to_owned() };
    let _ = writeln!(
        page,
        "<tr><td>{}</td><td class=\"number\">{:.1} s</td><td class=\"number\">{first}</td>\
         <td class=\"number\">{} of {}</td><td class=\"number\">{share}</td>\
         <td class=\"number\">{gap}</td><td class=\"number\">{}</td><td>{}</td></tr>",
        escape(name),
        account.joined_s,
        account.frames,
        account.published,
        account.rejoins,
        escape(account.said.as_deref().unwrap_or_default())
    );
}

/// The plan as it was carried out; of a trace, only how long it is.
fn plan(page: &mut String, plan: &Plan) {
    let mut plan = plan.clone();
    for shape in plan.link.values_mut().flat_map(|pair| [&mut pair.down, &mut pair.up]) {
        if let Some(Trace::Milliseconds(moments)) = &shape.trace {
            shape.trace = Some(Trace::File(format!("{} deliveries", moments.len())));
        }
    }
    if let Ok(text) = toml::to_string(&plan) {
        let _ = writeln!(
            page,
            "<h2>Plan</h2>\n<details><summary>as it was carried out</summary>\n<pre>{}</pre></details>",
            escape(&text)
        );
    }
}
