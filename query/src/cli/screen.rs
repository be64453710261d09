//! Where answers go: one locked, buffered standard output, with colours only for a terminal.
//!
//! What comes from logs never steers a terminal: control characters are shown, not sent, but for
//! the colours that programs put in their lines.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, BufWriter, IsTerminal, Write};

use taffrail_model::Level;

use super::Error;

/// How answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Default,
    /// JSON as the server gives it, one object a line.
    Json,
    /// The text alone.
    Raw,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// A colour of the terminal's own palette.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    Plain,
    Red,
    Yellow,
    Green,
    Blue,
    Grey,
}

impl Ink {
    /// The colour in which Grafana shows a level.
    pub(super) fn of_level(level: Level) -> Self {
        match level {
            Level::Fatal | Level::Critical | Level::Error => Self::Red,
            Level::Warn => Self::Yellow,
            Level::Info => Self::Green,
            Level::Debug => Self::Blue,
            Level::Trace => Self::Grey,
            Level::Unknown => Self::Plain,
        }
    }

    fn code(self) -> &'static str {
        match self {
            Self::Plain => "0",
            Self::Red => "31",
            Self::Yellow => "33",
            Self::Green => "32",
            Self::Blue => "34",
            Self::Grey => "90",
        }
    }
}

/// The way out.
pub(crate) struct Screen {
    out: Box<dyn Write>,
    pub(super) format: Format,
    paints: bool,
    is_terminal: bool,
}

impl Screen {
    /// Standard output.
    pub(crate) fn stdout(format: Format, color: Color) -> Self {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        // NO_COLOR counts when it is set and not empty (no-color.org).
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let paints = match color {
            Color::Auto => is_terminal && wanted,
            Color::Always => true,
            Color::Never => false,
        };
        let out = Box::new(BufWriter::with_capacity(64 * 1024, stdout.lock()));
        Self { out, format, paints, is_terminal }
    }

    /// Any writer, as a file would be written.
    #[cfg(test)]
    pub(super) fn of(out: Box<dyn Write>, format: Format, paints: bool) -> Self {
        Self { out, format, paints, is_terminal: false }
    }

    /// Writes text as it is.
    pub(super) fn text(&mut self, text: &str) -> Result<&mut Self, Error> {
        self.out.write_all(text.as_bytes())?;
        Ok(self)
    }

    /// Writes text that came from a log or a label: made harmless when a terminal would obey it.
    pub(super) fn foreign(&mut self, text: &str) -> Result<&mut Self, Error> {
        let text = if self.is_terminal { harmless(text) } else { Cow::Borrowed(text) };
        self.out.write_all(text.as_bytes())?;
        Ok(self)
    }

    /// Writes text in a colour.
    pub(super) fn painted(&mut self, ink: Ink, text: &str) -> Result<&mut Self, Error> {
        if !self.paints || ink == Ink::Plain {
            return self.foreign(text);
        }
        write!(self.out, "\x1b[{}m", ink.code())?;
        self.foreign(text)?.text("\x1b[0m")
    }

    /// Hands over what is buffered.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        Ok(self.out.flush()?)
    }

    /// Says something on standard error, if a person is looking.
    pub(super) fn note(&mut self, text: &str) {
        if self.is_terminal {
            complain(&format!("taffrail: {text}"));
        }
    }
}

/// Writes a line to standard error. When that is closed there is nobody left to tell.
pub(super) fn complain(line: &str) {
    let _nobody_reads = writeln!(io::stderr().lock(), "{line}").is_err();
}

/// Shows control characters as `\xNN`, but for tabs, the line ends of
/// joined lines, and sequences that only choose colours.
fn harmless(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_steering) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    let mut colored = false;
    while let Some(c) = rest.chars().next() {
        if let Some(length) = color_sequence(rest) {
            out.push_str(&rest[..length]);
            rest = &rest[length..];
            colored = true;
            continue;
        }
        if is_steering(c) {
            write!(out, "\\x{:02x}", u32::from(c)).expect("writing to a String does not fail");
        } else {
            out.push(c);
        }
        rest = &rest[c.len_utf8()..];
    }
    if colored {
        out.push_str("\x1b[0m");
    }
    Cow::Owned(out)
}

fn is_steering(c: char) -> bool {
    c.is_control() && !matches!(c, '\t' | '\n')
}

/// Length of `ESC [ 1;31 m` at the beginning of a text.
fn color_sequence(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\x1b[")?;
    let length = parameters.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    (length <= 16 && parameters[length..].starts_with('m')).then_some(length + 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn logs_do_not_steer_the_terminal() {
        let cases = [
            ("plain\ttext é\n\tat x", "plain\ttext é\n\tat x"),
            ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m\x1b[0m"),
            ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
            ("\x1b[2Jgone", "\\x1b[2Jgone"),
            ("a\rb\u{9b}31m", "a\\x0db\\x9b31m"),
        ];
        for (text, expected) in cases {
            assert_eq!(harmless(text), expected, "{text:?}");
        }
    }

    #[test]
    fn levels_have_grafanas_colours() {
        assert_eq!(Ink::of_level(Level::Error), Ink::Red);
        assert_eq!(Ink::of_level(Level::Warn), Ink::Yellow);
        assert_eq!(Ink::of_level(Level::Unknown), Ink::Plain);
    }

    proptest! {
        #[test]
        fn only_colours_are_left(text in any::<String>()) {
            let shown = harmless(&text).replace("\x1b[0m", "");
            let mut rest = shown.as_str();
            while let Some(at) = rest.find(|c: char| is_steering(c)) {
                let length = color_sequence(&rest[at..]);
                prop_assert!(length.is_some(), "{shown:?}");
                rest = &rest[at + length.unwrap()..];
            }
        }
    }
}
