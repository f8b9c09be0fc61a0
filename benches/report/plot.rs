//! A plot, as SVG: a bar for each contestant at each store, and a line from the least to the most of its rounds.
//!
//! By hand: it is rectangles, lines and words, for which a plotting crate would bring an axis for names, a font and some
//! twenty times this code.

use std::fmt::Write as _;

use super::table::digits;
use super::{Row, Spread};
use crate::contest::{Reached, Role};

const WIDTH: f64 = 760.0;
/// Where the bars begin, and how long the longest is.
const LEFT: f64 = 200.0;
const LONGEST: f64 = 430.0;
/// From one bar to the next.
const STEP: f64 = 22.0;
const HEAD: f64 = 40.0;

pub(super) fn plot(metric: &str, rows: &[&Row]) -> String {
    let unit = rows.first().map_or("", |row| row.unit);
    let count: usize = rows.iter().map(|row| row.reached.len() + 1).sum();
    #[expect(clippy::cast_precision_loss, reason = "there are not that many")]
    let height = HEAD + count as f64 * STEP;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"24\" font-size=\"16\">{metric} ({unit})</text>\n",
    );
    let mut y = HEAD;
    for row in rows {
        writeln!(svg, "<text x=\"10\" y=\"{}\" font-weight=\"bold\">{}</text>", y + 14.0, row.backend)
            .expect("a string grows");
        y += STEP;
        // Each store has a scale of its own, as they are far apart and not compared.
        let most =
            row.reached.iter().filter_map(Reached::spread).map(|spread| spread.most).fold(0.0, f64::max);
        for reached in &row.reached {
            if let Some(spread) = reached.spread() {
                bar(&mut svg, y, reached, spread, LONGEST / most.max(f64::MIN_POSITIVE));
            }
            y += STEP;
        }
    }
    svg + "</svg>\n"
}

fn bar(svg: &mut String, y: f64, reached: &Reached, spread: Spread, scale: f64) {
    let color = match reached.role {
        Role::Quorate => "#2b6cb0",
        Role::Floor => "#718096",
        Role::Alike => "#cbd5e0",
        Role::Peer => "#dd6b20",
    };
    let (least, most) = (LEFT + spread.least * scale, LEFT + spread.most * scale);
    let (length, middle) = (spread.median * scale, y + 8.0);
    write!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n\
         <rect x=\"{LEFT}\" y=\"{y}\" width=\"{length:.1}\" height=\"16\" fill=\"{color}\"/>\n\
         <line x1=\"{least:.1}\" x2=\"{most:.1}\" y1=\"{middle}\" y2=\"{middle}\" stroke=\"black\"/>\n\
         <text x=\"{:.1}\" y=\"{}\">{}</text>\n",
        LEFT - 8.0,
        y + 12.0,
        reached.name.replace('&', "&amp;").replace('<', "&lt;"),
        most + 8.0,
        y + 12.0,
        digits(spread.median),
    )
    .expect("a string grows");
}
