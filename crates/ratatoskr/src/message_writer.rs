//! How `sub`, `consume` and `subscription peek` show a message.
//!
//! ```text
//!   people   42  09:15:01.123  key  color=red  the payload
//!   tabs     offset ⇥ time ⇥ key ⇥ payload       \t, \n, \r and \\ escaped, so that a line is a message
//!   json     {"offset":42,"id":"…","timestamp_ms":…,"key":"…","metadata":{…},"payload":"…"}; leased: attempt, lease_until_ms
//!   raw      the payload's bytes, and a newline
//! ```

use std::borrow::Cow;
use std::io::{self, BufWriter, StdoutLock, Write};

use anstyle::{AnsiColor, Style};
use ratatoskr_client::Message;
use serde_json::{Value, json};

use crate::base64;
use crate::output::{Format, FormatFlag, rfc3339};

/// Bytes collected before they are written.
const BUFFER_BYTES: usize = 256 << 10;

/// The shape of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    People,
    Tabs,
    Json,
    Raw,
}

impl Layout {
    /// What was asked for, else by where the output goes.
    pub(crate) fn of(raw: bool, format: FormatFlag) -> Layout {
        match (raw, format.format()) {
            (true, _) => Layout::Raw,
            (false, Format::Json) => Layout::Json,
            (false, Format::Tabs) => Layout::Tabs,
            (false, Format::Table) => Layout::People,
        }
    }
}

/// Writes messages to standard output.
pub(crate) struct MessageWriter {
    out: BufWriter<StdoutLock<'static>>,
    layout: Layout,
    colour: bool,
}

impl MessageWriter {
    pub(crate) fn new(layout: Layout) -> MessageWriter {
        let colour = anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never;
        MessageWriter { out: BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock()), layout, colour }
    }

    pub(crate) fn write(&mut self, message: &Message) -> io::Result<()> {
        write_message(&mut self.out, message, self.layout, self.colour)
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn write_message(out: &mut impl Write, message: &Message, layout: Layout, colour: bool) -> io::Result<()> {
    match layout {
        Layout::Raw => {
            out.write_all(&message.payload)?;
            out.write_all(b"\n")
        }
        Layout::Json => writeln!(out, "{}", message_object(message)),
        Layout::Tabs => {
            let payload = String::from_utf8_lossy(&message.payload);
            let time = rfc3339(message.timestamp);
            writeln!(out, "{}\t{time}\t{}\t{}", message.offset, escaped(&message.key), escaped(&payload))
        }
        Layout::People => write_for_people(out, message, colour),
    }
}

/// A message as JSON; a payload that is no text comes as `payload_base64`.
pub(crate) fn message_object(message: &Message) -> Value {
    let mut object = json!({
        "offset": message.offset,
        "id": message.id,
        "topic": message.topic,
        "timestamp_ms": message.timestamp,
        "key": message.key,
        "metadata": message.metadata,
    });
    match std::str::from_utf8(&message.payload) {
        Ok(text) => object["payload"] = text.into(),
        Err(_) => object["payload_base64"] = base64::encode(&message.payload).into(),
    }
    if message.attempt > 0 {
        object["attempt"] = message.attempt.into();
        object["lease_until_ms"] = message.lease_until_ms.into();
    }
    object
}

fn write_for_people(out: &mut impl Write, message: &Message, colour: bool) -> io::Result<()> {
    let shade = |style: Style| if colour { style } else { Style::new() };
    let (dim, key) = (shade(Style::new().dimmed()), shade(AnsiColor::Cyan.on_default()));
    let time = rfc3339(message.timestamp);
    // The date is the same for most of what is watched; the time of day is what one looks for.
    let time_of_day = time.split_once('T').map_or(time.as_str(), |(_, time_of_day)| time_of_day);
    write!(out, "{dim}{:>8}  {time_of_day}{dim:#}  ", message.offset)?;
    if message.attempt > 1 {
        write!(out, "{dim}attempt {}{dim:#}  ", message.attempt)?;
    }
    if !message.key.is_empty() {
        write!(out, "{key}{}{key:#}  ", escaped(&message.key))?;
    }
    for (name, value) in &message.metadata {
        write!(out, "{dim}{}={}{dim:#}  ", escaped(name), escaped(value))?;
    }
    writeln!(out, "{}", printable(&String::from_utf8_lossy(&message.payload)))
}

/// A text on one line, with nothing that moves columns.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['\t', '\n', '\r', '\\']) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r"))
}

/// A text without characters that could take over a terminal.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let is_command = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(is_command) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace(is_command, "\u{fffd}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(payload: &[u8]) -> Message {
        Message {
            id: "018bcfe5-687b-7000-8000-000000000000".into(),
            topic: "t".into(),
            payload: payload.to_vec().into(),
            metadata: [("color".to_owned(), "red".to_owned())].into(),
            timestamp: 1_700_000_000_123,
            offset: 42,
            key: "k".into(),
            ..Message::default()
        }
    }

    fn shown(payload: &[u8], layout: Layout) -> String {
        let mut out = Vec::new();
        write_message(&mut out, &message(payload), layout, false).unwrap();
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn each_layout_has_its_form() {
        assert_eq!(shown(b"hi", Layout::People), "      42  22:13:20.123Z  k  color=red  hi\n");
        assert_eq!(shown(b"a\tb\n", Layout::Tabs), "42\t2023-11-14T22:13:20.123Z\tk\ta\\tb\\n\n");
        let object: serde_json::Value = serde_json::from_str(&shown(b"hi", Layout::Json)).unwrap();
        assert_eq!(object["payload"], "hi");
        assert_eq!(object["metadata"]["color"], "red");
        assert_eq!(object["offset"], 42);
    }

    #[test]
    fn raw_bytes_come_out_as_they_went_in() {
        let mut out = Vec::new();
        write_message(&mut out, &message(b"\xff\x00\r"), Layout::Raw, true).unwrap();
        assert_eq!(out, b"\xff\x00\r\n");
    }

    #[test]
    fn json_holds_binary_payloads_as_base64() {
        let object: serde_json::Value = serde_json::from_str(&shown(b"\xff\xfe\xfd", Layout::Json)).unwrap();
        assert_eq!(object["payload_base64"], "//79");
        assert!(object.get("payload").is_none());
    }

    #[test]
    fn a_payload_cannot_send_commands_to_the_terminal() {
        assert!(!shown(b"\x1b[2J", Layout::People).contains('\x1b'));
    }
}
