//! A log line as JSON: time, level, the event's fields, target.
//!
//! Owns the form, which is the one that `tracing-subscriber` gives flattened events, and makes it at a third of the
//! cost: the access log writes a line for each request. Keys and order are an interface. It knows no spans.

use std::cell::RefCell;
use std::fmt::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

use crate::timestamp::timestamp;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        writer.write_str("{\"timestamp\":\"")?;
        write_time(&mut writer, SystemTime::now())?;
        writer.write_str("\",\"level\":\"")?;
        writer.write_str(metadata.level().as_str())?;
        writer.write_char('"')?;
        let mut fields = Fields { writer: &mut writer, outcome: Ok(()) };
        event.record(&mut fields);
        fields.outcome?;
        writer.write_str(",\"target\":")?;
        write_text(&mut writer, metadata.target())?;
        writer.write_str("}\n")
    }
}

/// Writes each field behind a comma.
struct Fields<'a, W> {
    writer: &'a mut W,
    outcome: fmt::Result,
}

impl<W: Write> Fields<'_, W> {
    fn put(&mut self, field: &Field, value: impl FnOnce(&mut W) -> fmt::Result) {
        if self.outcome.is_ok() {
            self.outcome = self.named(field.name()).and_then(|()| value(self.writer));
        }
    }

    fn named(&mut self, name: &str) -> fmt::Result {
        self.writer.write_char(',')?;
        write_text(self.writer, name)?;
        self.writer.write_char(':')
    }
}

impl<W: Write> Visit for Fields<'_, W> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, |writer| write_text(writer, value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, |writer| writer.write_str(itoa::Buffer::new().format(value)));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, |writer| writer.write_str(itoa::Buffer::new().format(value)));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, |writer| writer.write_str(if value { "true" } else { "false" }));
    }

    /// What is no number has no JSON form but null.
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, |writer| match serde_json::to_string(&value) {
            Ok(text) => writer.write_str(&text),
            Err(_) => writer.write_str("null"),
        });
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, |writer| {
            writer.write_char('"')?;
            write!(Escaped(writer), "{value:?}")?;
            writer.write_char('"')
        });
    }
}

/// A text in quotes.
fn write_text(writer: &mut impl Write, text: &str) -> fmt::Result {
    writer.write_char('"')?;
    Escaped(writer).write_str(text)?;
    writer.write_char('"')
}

/// Escapes what cannot stand in a JSON string.
struct Escaped<'a, W>(&'a mut W);

impl<W: Write> Write for Escaped<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.bytes().position(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
            // Before and after a byte of ASCII there is a boundary of characters.
            let (plain, tail) = rest.split_at(at);
            self.0.write_str(plain)?;
            let (special, tail) = tail.split_at(1);
            match special {
                "\"" => self.0.write_str("\\\"")?,
                "\\" => self.0.write_str("\\\\")?,
                "\n" => self.0.write_str("\\n")?,
                "\r" => self.0.write_str("\\r")?,
                "\t" => self.0.write_str("\\t")?,
                _ => special.bytes().try_for_each(|byte| write!(self.0, "\\u{byte:04x}"))?,
            }
            rest = tail;
        }
        self.0.write_str(rest)
    }
}

/// The second that a thread wrote last, and its text: most lines are of the same one.
type Second = (u64, String);

thread_local! {
    static SECOND: RefCell<Second> = const { RefCell::new((u64::MAX, String::new())) };
}

/// `2026-11-22T17:35:28.281356Z`
fn write_time(writer: &mut impl Write, time: SystemTime) -> fmt::Result {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    SECOND.with_borrow_mut(|(second, text)| {
        if *second != since.as_secs() {
            *second = since.as_secs();
            *text = timestamp(time);
            // More digits follow.
            text.truncate("2026-11-22T17:35:28".len());
        }
        writer.write_str(text)
    })?;
    let micros = since.subsec_micros();
    let digits =
        [100_000, 10_000, 1000, 100, 10, 1].map(|unit| char::from(b'0' + (micros / unit % 10) as u8));
    writer.write_char('.')?;
    digits.iter().try_for_each(|&digit| writer.write_char(digit))?;
    writer.write_char('Z')
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use proptest::prelude::*;
    use serde_json::{Value, json};
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Sink {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    /// What is written for one event, by this form and by the one that it takes the place of.
    fn both(log: impl Fn()) -> [String; 2] {
        let (ours, theirs) = (Sink::default(), Sink::default());
        let line = tracing_subscriber::fmt().with_writer(ours.clone()).event_format(JsonLine).finish();
        tracing::subscriber::with_default(line, &log);
        let json = tracing_subscriber::fmt().with_writer(theirs.clone()).json().flatten_event(true);
        tracing::subscriber::with_default(json.with_current_span(false).finish(), &log);
        [ours, theirs].map(|sink| String::from_utf8(sink.0.lock().unwrap().clone()).unwrap())
    }

    /// All but the time, as it stands.
    fn timeless(line: &str) -> &str {
        line.split_once(",\"level\"").unwrap().1
    }

    #[test]
    fn a_line_is_that_of_tracing_subscriber_to_the_byte() {
        let text = "a \"quoted\" \\ line\nwith\ttabs\u{1} and é 猫";
        let [ours, theirs] = both(|| {
            let (none, some): (Option<u64>, Option<&str>) = (None, Some("there"));
            tracing::info!(target: "access", path = text, status = 200_u16, negative = -5, none, some, yes = true,
                share = 0.25, whole = 3.0, nan = f64::NAN, %text, debug = ?Some("x\"y"), "message {}", 1);
            tracing::warn!(error = %io::Error::other("no \"way\""), "failed");
        });
        let pairs: Vec<_> = ours.lines().zip(theirs.lines()).collect();
        assert_eq!(pairs.len(), 2);
        for (ours, theirs) in pairs {
            assert_eq!(timeless(ours), timeless(theirs));
            // To the digit, they are of the same form.
            let shape = |line: &str| line[..43].replace(|digit: char| digit.is_ascii_digit(), "0");
            assert_eq!(shape(ours), shape(theirs));
        }
    }

    proptest! {
        #[test]
        fn any_text_comes_back_as_it_was(text in any::<String>()) {
            let [ours, _] = both(|| tracing::info!(text, debug = ?text, "m"));
            let value: Value = serde_json::from_str(&ours).unwrap();
            prop_assert_eq!(&value["text"], &json!(text));
            prop_assert_eq!(&value["debug"], &json!(format!("{text:?}")));
            prop_assert_eq!(ours.matches('\n').count(), 1);
        }
    }

    #[test]
    fn the_remembered_second_is_not_used_for_another() {
        let mut lines = String::new();
        for (second, micros) in [(5, 7), (5, 999_999), (6, 0), (5, 120_000)] {
            write_time(&mut lines, UNIX_EPOCH + Duration::new(second, micros * 1000)).unwrap();
            lines.push(' ');
        }
        let day = "1970-01-01T00:00:0";
        let expected = format!("{day}5.000007Z {day}5.999999Z {day}6.000000Z {day}5.120000Z ");
        assert_eq!(lines, expected);
    }
}
