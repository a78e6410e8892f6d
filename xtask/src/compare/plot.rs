//! One work as a picture: horizontal bars on a logarithmic scale, grouped by promise.
//!
//! ```text
//!   Publish, 64 in flight                       messages a second
//!   FSYNC: ON DISK BEFORE THE ACK      1 k      10 k     100 k
//!      Ratatoskr (default)  ███████████████████████├──┤ 51,000
//!      RabbitMQ quorum      ███████████████ 12,900
//! ```
//!
//! The bar is the median, the thin line reaches from the smallest to the largest round. Plain SVG without scripts or fonts of its own;
//! colours follow the reader's light or dark mode.

use std::fmt::Write as _;

use super::peers::Promise;
use super::results::{Kind, Results};
use super::sample::{Measure, Spread};
use super::tables::figure;
use super::works::Work;

const WIDTH: f64 = 880.0;
/// Where bars begin, and how far they may reach; what is left is for the figure.
const BARS_FROM: f64 = 250.0;
const BARS_TO: f64 = 740.0;
const TOP: f64 = 64.0;
const LINE: f64 = 26.0;
const BAR: f64 = 16.0;
const HEADING: f64 = 34.0;
/// Share of the scale that the smallest bar keeps, so that it is seen.
const FOOT: f64 = 0.06;

const STYLE: &str = "\
text{font:13px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:#24292f}\
.title{font-size:18px;font-weight:600}.soft{fill:#6e7781;font-size:12px}\
.group{font-size:12px;font-weight:600;fill:#57606a}\
.mine{font-weight:600}.grid{stroke:#d0d7de;stroke-width:1}.spread{stroke:#24292f;stroke-width:1.5;opacity:.55}\
.ours{fill:#d97706}.theirs{fill:#8da2b8}.floor{fill:#d0d7de}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.soft,.group{fill:#9198a1}\
.grid{stroke:#30363d}.spread{stroke:#e6edf3}.ours{fill:#f59e0b}.theirs{fill:#5f7a96}.floor{fill:#3d444d}}";

struct Bar {
    row: usize,
    spread: Spread,
}

/// The picture of a work; `None` if there is nothing to show.
pub(crate) fn plot(results: &Results, work: Work) -> Option<String> {
    let measure = work.main();
    let bars: Vec<Bar> = results
        .ranked(work)
        .into_iter()
        .filter_map(|row| Some(Bar { row, spread: results.cell(row, work)?.spread(measure)? }))
        .filter(|bar| bar.spread.median > 0.0)
        .collect();
    let scale = Scale::of(&bars)?;
    let promises = Promise::ALL.into_iter().filter(|promise| has(results, &bars, *promise)).count();
    let height = TOP + promises as f64 * HEADING + bars.len() as f64 * LINE + 14.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\">\n<title>{0}: {1}</title>\n<style>{STYLE}</style>\n<text class=\"title\" x=\"12\" y=\"26\">{0}</text>\n<text class=\"soft\" x=\"{2}\" y=\"26\" text-anchor=\"end\">{1}</text>\n",
        escaped(&work.title()),
        unit(work),
        WIDTH - 12.0
    );
    grid(&mut svg, &scale, measure, height);
    let mut y = TOP;
    for promise in Promise::ALL.into_iter().filter(|promise| has(results, &bars, *promise)) {
        line(
            &mut svg,
            &format!("<text class=\"group\" x=\"12\" y=\"{:.1}\">{}</text>", y + 22.0, promise.heading()),
        );
        y += HEADING;
        for bar in bars.iter().filter(|bar| results.rows[bar.row].promise == promise) {
            draw(&mut svg, results, bar, (&scale, measure, y));
            y += LINE;
        }
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

fn has(results: &Results, bars: &[Bar], promise: Promise) -> bool {
    bars.iter().any(|bar| results.rows[bar.row].promise == promise)
}

fn unit(work: Work) -> &'static str {
    match work {
        Work::Publish(_) | Work::Batches | Work::Consume => "messages a second, more is better",
        Work::FanOut(_) => "deliveries a second, more is better",
        Work::Latency => "99th percentile, less is better",
        Work::Start => "resident memory when idle, less is better",
        Work::Recovery => "until it serves again, less is better",
        Work::Kill | Work::Power => "messages lost, none is right",
    }
}

/// A logarithmic scale.
struct Scale {
    /// Powers of ten at both ends.
    from: f64,
    to: f64,
}

impl Scale {
    fn of(bars: &[Bar]) -> Option<Scale> {
        let smallest = bars.iter().map(|bar| bar.spread.min.max(1e-3)).min_by(f64::total_cmp)?;
        let largest = bars.iter().map(|bar| bar.spread.max).max_by(f64::total_cmp)?;
        let from = smallest.log10().floor();
        Some(Scale { from, to: largest.log10().max(from + 1.0) })
    }

    fn x(&self, value: f64) -> f64 {
        let share = (value.max(1e-3).log10() - self.from) / (self.to - self.from);
        BARS_FROM + (BARS_TO - BARS_FROM) * (FOOT + (1.0 - FOOT) * share.clamp(0.0, 1.0))
    }
}

fn grid(svg: &mut String, scale: &Scale, measure: Measure, height: f64) {
    for power in scale.from as i32..=scale.to.floor() as i32 {
        let value = 10_f64.powi(power);
        let x = scale.x(value);
        line(
            svg,
            &format!(
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/><text class=\"soft\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                TOP - 2.0,
                height - 12.0,
                TOP - 10.0,
                figure(measure, value)
            ),
        );
    }
}

fn draw(svg: &mut String, results: &Results, bar: &Bar, (scale, measure, y): (&Scale, Measure, f64)) {
    let row = &results.rows[bar.row];
    let Spread { median, min, max } = bar.spread;
    let (class, label) = match row.kind {
        Kind::Ours => ("ours", "mine"),
        Kind::Theirs => ("theirs", ""),
        Kind::Floor => ("floor", "soft"),
    };
    let (x, middle) = (scale.x(median), y + BAR / 2.0);
    line(
        svg,
        &format!(
            "<text class=\"{label}\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text><rect class=\"{class}\" x=\"{BARS_FROM}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR}\" rx=\"2\"/>",
            BARS_FROM - 8.0,
            middle + 4.5,
            escaped(&row.title),
            x - BARS_FROM
        ),
    );
    let end = scale.x(max);
    if max > min {
        let from = scale.x(min);
        line(
            svg,
            &format!(
                "<path class=\"spread\" fill=\"none\" d=\"M{from:.1} {middle:.1}H{end:.1}M{from:.1} {0:.1}v6M{end:.1} {0:.1}v6\"/>",
                middle - 3.0
            ),
        );
    }
    line(
        svg,
        &format!(
            "<text class=\"{label}\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            end + 8.0,
            middle + 4.5,
            figure(measure, median)
        ),
    );
}

fn line(svg: &mut String, element: &str) {
    writeln!(svg, "{element}").expect("a String takes every write");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::sample_results;
    use super::super::sample::Sample;
    use super::*;

    fn number_after(svg: &str, before: &str) -> f64 {
        let at = svg.find(before).unwrap() + before.len();
        svg[at..].split('"').next().unwrap().parse().unwrap()
    }

    #[test]
    fn a_larger_figure_has_a_longer_bar_and_everybody_a_name() {
        let results = sample_results();
        let svg = plot(&results, Work::Publish(64)).unwrap();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        for row in &results.rows {
            assert!(svg.contains(&format!(">{}</text>", row.title)), "{svg}");
        }
        let width = |row: usize| {
            let at = svg.find(&format!(">{}</text><rect", results.rows[row].title)).unwrap();
            number_after(&svg[at..], "width=\"")
        };
        assert!(width(0) > width(1) && width(1) > width(3) && width(3) > width(2));
        assert!(width(2) > 0.0 && width(0) <= BARS_TO - BARS_FROM + 0.1);
    }

    #[test]
    fn opened_and_closed_elements_match() {
        let mut results = sample_results();
        results.rows[2].title = "a <b> & c".into();
        results.add(2, Work::Publish(64), Sample::of([(Measure::Rate, 80.0)]));
        let svg = plot(&results, Work::Publish(64)).unwrap();
        for element in ["text", "svg", "style", "title"] {
            let opened =
                svg.matches(&format!("<{element}>")).count() + svg.matches(&format!("<{element} ")).count();
            assert_eq!(opened, svg.matches(&format!("</{element}>")).count(), "{element}");
        }
        assert!(svg.contains("a &lt;b&gt; &amp; c") && svg.contains("class=\"spread\""));
    }

    #[test]
    fn without_figures_there_is_no_picture() {
        assert!(plot(&sample_results(), Work::Consume).is_none());
    }
}
