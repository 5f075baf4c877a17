//! A result over time, as an accessible chart: x in per cent and y in pixels, so that text keeps its size at every width.

use maud::{Markup, html};
use serde_json::Value;

use super::super::record::rounded;
use crate::{
    shown::{Entry, date},
    text,
};

/// Height of the plot in pixels, and where it begins.
const TOP: f64 = 40.0;
const BOTTOM: f64 = 210.0;
/// Where the first and the last result stand, in per cent.
const LEFT: f64 = 7.0;
const RIGHT: f64 = 93.0;
/// Most results in a chart: more would not be told apart.
const POINTS_MAX: usize = 12;
/// Entries with the same code that are opened for a chart: some may have another unit, or no number.
pub(super) const LOOKED_AT: u32 = 24;

struct Point {
    at: String,
    number: f64,
    written: String,
}

/// The chart of the results, newest first, that have an entry's name and unit, if there are at least two.
pub(super) fn of(results: &[Entry], entry: &Entry) -> Option<Markup> {
    let (_, unit) = entry.quantity()?;
    let code = entry.value.get("code").map(Value::to_string);
    let mut points: Vec<Point> = results
        .iter()
        .filter(|one| one.value.get("code").map(Value::to_string) == code)
        .filter_map(|one| {
            let (number, its_unit) = one.quantity()?;
            (its_unit == unit && one.status() != Some("Entered in error")).then(|| Point {
                at: one.sort_key(),
                number,
                written: one.shown.split(' ').next().unwrap_or_default().to_owned(),
            })
        })
        .take(POINTS_MAX)
        .collect();
    points.reverse();
    if points.len() < 2 {
        return None;
    }
    Some(draw(&entry.title, unit, &points, range(&entry.value)))
}

/// The usual range that came with the result.
fn range(value: &Value) -> Option<(f64, f64)> {
    let low = value.pointer("/referenceRange/0/low/value")?.as_f64()?;
    let high = value.pointer("/referenceRange/0/high/value")?.as_f64()?;
    (low < high).then_some((low, high))
}

fn draw(title: &str, unit: &str, points: &[Point], range: Option<(f64, f64)>) -> Markup {
    let numbers = || points.iter().map(|point| point.number);
    let bounds = range.map_or([f64::NAN; 2], |(low, high)| [low, high]);
    let low = numbers().chain(bounds).fold(f64::INFINITY, f64::min);
    let high = numbers().chain(bounds).fold(f64::NEG_INFINITY, f64::max);
    let span = if high > low { high - low } else { 1.0 };
    let y = |number: f64| format!("{:.0}", BOTTOM - (number - low) / span * (BOTTOM - TOP));
    #[expect(
        clippy::cast_precision_loss,
        reason = "a dozen points; nothing is computed from where they are drawn"
    )]
    let x = |at: usize| {
        let last = points.len().saturating_sub(1).max(1) as f64;
        format!("{:.1}%", LEFT + (RIGHT - LEFT) * at as f64 / last)
    };
    let last = points.len().saturating_sub(1);
    let label = |at: usize| at == 0 || at == last || (at == last / 2 && last > 3);
    html! {
        section.flow {
            h2 { (text!("Over time")) }
            figure {
                svg.trend role="img" aria-labelledby="trend-t trend-d" {
                    title #trend-t { (rich!("{title} over time", title)) }
                    desc #trend-d { (rich!("{points} results. The same numbers are in the table below.", points = points.len())) }
                    @if let Some((from, to)) = range {
                        rect.band x="0" y=(y(to)) width="100%" height=(format!("{:.0}", (to - from) / span * (BOTTOM - TOP))) {}
                        line.limit x1="0" x2="100%" y1=(y(to)) y2=(y(to)) {}
                        line.limit x1="0" x2="100%" y1=(y(from)) y2=(y(from)) {}
                    }
                    line.axis x1="0" x2="100%" y1="236" y2="236" {}
                    @for (at, pair) in points.windows(2).enumerate() {
                        @if let [from, to] = pair {
                            line.line x1=(x(at)) y1=(y(from.number)) x2=(x(at + 1)) y2=(y(to.number)) {}
                        }
                    }
                    @for (at, point) in points.iter().enumerate() {
                        circle.dot cx=(x(at)) cy=(y(point.number)) r=(if at == last { "7" } else { "5" }) {}
                        @if label(at) || points.len() < 7 {
                            text.strong x=(x(at)) y=(y(point.number)) dy="-14" text-anchor="middle" { (rounded(&point.written)) }
                        }
                        @if label(at) {
                            text x=(x(at)) y="258" text-anchor="middle" { (month(&point.at)) }
                        }
                    }
                }
            }
            details {
                summary { (text!("Show the numbers as a table")) }
                table {
                    caption.hide { (rich!("{title}, all results in the chart", title)) }
                    thead { tr { th scope="col" { (text!("Date")) } th scope="col" { (text!("Result")) } } }
                    tbody {
                        @for point in points.iter().rev() {
                            tr { td { (date(&point.at)) } td { (text::decimal(&point.written)) " " (unit) } }
                        }
                    }
                }
            }
        }
    }
}

/// `Mar 2026`.
fn month(at: &str) -> String {
    let long = date(at.get(..7).unwrap_or(at));
    let (month, year) = long.split_once(' ').unwrap_or(("", &long));
    // The first letters are what both languages shorten a month to.
    let short: String = month.chars().take(3).collect();
    format!("{short} {year}")
}
