//! A picture as SVG text.
//!
//! Owns the form of its elements and the escaping of words. It knows nothing of what is drawn.

use std::fmt::Write as _;

/// Where a text stands to its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    /// Begins there.
    Start,
    /// Has its middle there.
    Middle,
    /// Ends there.
    End,
}

/// A picture in the making.
#[derive(Debug)]
pub(super) struct Svg {
    text: String,
}

impl Svg {
    /// An empty white picture of so many pixels, with a title for those who cannot see it, and the styles of the
    /// classes that its elements name.
    pub(super) fn new(width: u32, height: u32, title: &str, styles: &str) -> Self {
        let mut text = String::new();
        // Writing into a text cannot fail, here and below.
        let _ = write!(
            text,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" role=\"img\">\n<title>{}</title>\n<style>\n{styles}</style>\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n",
            escaped(title)
        );
        Self { text }
    }

    /// A straight line.
    pub(super) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let (x1, y1, x2, y2) = (number(from.0), number(from.1), number(to.0), number(to.1));
        let _ =
            writeln!(self.text, "<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"/>");
    }

    /// A line through points; nothing if there are none.
    pub(super) fn polyline(&mut self, class: &str, points: &[(f64, f64)]) {
        if points.is_empty() {
            return;
        }
        let _ = write!(self.text, "<polyline class=\"{class}\" points=\"");
        for (index, (x, y)) in points.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            let _ = write!(self.text, "{space}{},{}", number(*x), number(*y));
        }
        self.text.push_str("\"/>\n");
    }

    /// Words at a point.
    pub(super) fn words(&mut self, class: &str, at: (f64, f64), anchor: Anchor, words: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let (x, y) = (number(at.0), number(at.1));
        let _ = writeln!(
            self.text,
            "<text class=\"{class}\" x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{}</text>",
            escaped(words)
        );
    }

    /// The whole picture.
    pub(super) fn finish(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }
}

/// A tenth of a pixel is enough; what is no number is drawn at 0 rather than break the picture.
fn number(value: f64) -> String {
    let value = if value.is_finite() { value } else { 0.0 };
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned)
}

/// Words without what means something in XML, or nothing at all there.
fn escaped(words: &str) -> String {
    let mut safe = String::with_capacity(words.len());
    for character in words.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            character if character.is_control() => safe.push(' '),
            '\u{fffe}' | '\u{ffff}' => safe.push(' '),
            character => safe.push(character),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_picture_has_its_elements_and_ends() {
        let mut svg = Svg::new(10, 20, "a < b", ".l{stroke:red}\n");
        svg.line("l", (0.0, 1.25), (2.0, f64::NAN));
        svg.polyline("l", &[(1.0, 2.0), (3.04, 4.06)]);
        svg.polyline("l", &[]);
        svg.words("t", (1.0, 2.0), Anchor::End, "\"5\" & more\u{1b}");
        let text = svg.finish();
        for part in [
            "<title>a &lt; b</title>",
            "viewBox=\"0 0 10 20\"",
            "<line class=\"l\" x1=\"0\" y1=\"1.2\" x2=\"2\" y2=\"0\"/>",
            "<polyline class=\"l\" points=\"1,2 3,4.1\"/>",
            "text-anchor=\"end\">&quot;5&quot; &amp; more </text>",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(text.matches("<polyline").count(), 1);
        assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"));
    }

    proptest! {
        #[test]
        fn no_words_break_out_of_their_element(words in "\\PC{0,20}|[<>&\"'\\x00-\\x20]{0,20}") {
            let mut svg = Svg::new(1, 1, &words, "");
            svg.words("c", (0.0, 0.0), Anchor::Start, &words);
            let text = svg.finish();
            prop_assert_eq!(text.matches('<').count(), 9, "{}", text);
            prop_assert!(text.chars().all(|character| !character.is_control() || character == '\n'));
        }
    }
}
