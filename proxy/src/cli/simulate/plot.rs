//! Queue, size and wait over time, one line a policy, as an SVG that needs nothing else.

use std::fmt::Write;

use longshore_pool::Time;
use longshore_pool::simulate::Moment;

use super::contest::Outcome;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 170.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 50.0;
const GAP: f64 = 45.0;
/// Told apart by most eyes (Okabe and Ito).
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999933"];

type Measure = (&'static str, fn(&Moment) -> f64);

const PANELS: [Measure; 3] = [
    ("requests waiting", |moment| moment.queue as f64),
    ("size", |moment| f64::from(moment.size)),
    ("wait of the oldest, s", |moment| moment.oldest_wait),
];

/// The whole picture.
pub(super) fn svg(results: &[Outcome]) -> String {
    let end = results.iter().filter_map(|it| it.report.moments.last()).map(|moment| seconds(moment.at));
    let end = end.fold(1.0, f64::max);
    let height = TOP + (HEIGHT + GAP) * PANELS.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        WIDTH + LEFT + 20.0
    );
    legend(&mut svg, results);
    for (index, panel) in PANELS.iter().enumerate() {
        let top = TOP + index as f64 * (HEIGHT + GAP);
        draw(&mut svg, panel, results, top, end);
    }
    svg + "</svg>\n"
}

fn seconds(time: Time) -> f64 {
    time.since(Time::ZERO).as_secs_f64()
}

fn colour(index: usize) -> &'static str {
    COLOURS[index % COLOURS.len()]
}

fn legend(svg: &mut String, results: &[Outcome]) {
    let mut x = LEFT;
    for (index, outcome) in results.iter().enumerate() {
        let name: String = outcome.name.chars().take(40).collect();
        // Writing to a string does not fail.
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.0}\" y=\"14\" width=\"14\" height=\"4\" fill=\"{}\"/>\
             <text x=\"{:.0}\" y=\"20\">{}</text>",
            colour(index),
            x + 20.0,
            escaped(&name)
        );
        x += 40.0 + 7.0 * name.chars().count() as f64;
    }
}

fn draw(svg: &mut String, (title, measure): &Measure, results: &[Outcome], top: f64, end: f64) {
    let highest = results.iter().flat_map(|it| &it.report.moments).map(measure).fold(0.0, f64::max);
    let step = tick(highest.max(1e-9) / 4.0);
    let most = (highest / step).ceil().max(1.0) * step;
    let (x, y) = (|t: f64| LEFT + t / end * WIDTH, |v: f64| top + HEIGHT * (1.0 - v / most));
    let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"{:.0}\" font-weight=\"bold\">{title}</text>", top - 8.0);
    let mut value = 0.0;
    while value <= most * 1.001 {
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {0:.1}H{1}\" stroke=\"#ddd\"/><text x=\"{2}\" y=\"{3:.1}\" text-anchor=\"end\">{4}</text>",
            y(value),
            LEFT + WIDTH,
            LEFT - 6.0,
            y(value) + 4.0,
            rounded(value)
        );
        value += step;
    }
    let step = tick(end / 8.0);
    let mut time = 0.0;
    while time <= end {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{} s</text>",
            x(time),
            top + HEIGHT + 16.0,
            rounded(time)
        );
        time += step;
    }
    for (index, outcome) in results.iter().enumerate() {
        let mut path = String::new();
        for moment in &outcome.report.moments {
            let (x, y) = (x(seconds(moment.at)), y(measure(moment)));
            let _ =
                if path.is_empty() { write!(path, "M{x:.1} {y:.1}") } else { write!(path, "H{x:.1}V{y:.1}") };
        }
        let colour = colour(index);
        let _ = writeln!(svg, "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.3\"/>");
    }
}

/// 1, 2 or 5 times a power of ten, at least `least`.
fn tick(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|tick| *tick >= least)
        .unwrap_or(10.0 * power)
}

fn rounded(value: f64) -> String {
    if value.fract().abs() < 1e-9 { format!("{value:.0}") } else { format!("{value:.2}") }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
