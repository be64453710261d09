//! Prometheus text (0.0.4) and OpenMetrics (1.0): bytes → lines, borrowed from the body.
//!
//! Invariants: no input panics; nothing is allocated per sample but for exemplars (the label buffer is used again);
//! an error names its line and column, counted from 1, and is final for the body. Text is read as
//! leniently as Prometheus reads it; in OpenMetrics mode every line also passes
//! [`super::openmetrics::Rules`].
//!
//! What a series means for a target (labels, staleness) does not live here.

use std::borrow::Cow;

use taffrail_model::limits::STREAM_LABELS_MAX;
use taffrail_model::time::Millis;

use super::comment;
use super::line::{Format, LabelRef, Line, ParseError, Problem, SampleLine, Text};
use super::openmetrics::Rules;

/// Milliseconds beyond which a timestamp is surely not one (the year 287396).
const MILLIS_MAX: f64 = 9.0e15;

/// The most that names and values of an exemplar's labels may hold together, in characters
/// (OpenMetrics, section "Exemplars").
const EXEMPLAR_CHARS_MAX: usize = 128;

/// Reads a body line by line.
pub struct Lines<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    labels: Vec<LabelRef<'a>>,
    rules: Option<Rules>,
    ended: bool,
}

impl<'a> Lines<'a> {
    /// A reader at the start of `body`.
    ///
    /// # Errors
    /// When the body is not UTF-8.
    pub fn new(body: &'a [u8], format: Format) -> Result<Self, ParseError> {
        let text = std::str::from_utf8(body).map_err(|error| {
            locate(body, &Fault { at: error.valid_up_to(), problem: Problem::NotUtf8 })
        })?;
        let rules = (format == Format::OpenMetrics).then(Rules::default);
        Ok(Self { text, bytes: text.as_bytes(), at: 0, labels: Vec::new(), rules, ended: false })
    }

    /// The labels of the sample that was read last, in the order in which they are written.
    #[must_use]
    pub fn labels(&self) -> &[LabelRef<'a>] {
        &self.labels
    }

    /// The next line, or `None` after the last one.
    ///
    /// # Errors
    /// When the body breaks the grammar or a rule of its format.
    pub fn next_line(&mut self) -> Result<Option<Line<'a>>, ParseError> {
        self.advance().map_err(|fault| {
            self.ended = true;
            locate(self.bytes, &fault)
        })
    }

    fn advance(&mut self) -> Result<Option<Line<'a>>, Fault> {
        while !self.ended {
            let start = self.at;
            let line =
                if self.rules.is_some() { self.strict_line()? } else { self.lenient_line()? };
            let Some(line) = line else { continue };
            if let Some(rules) = &mut self.rules {
                rules
                    .check(&line, &self.labels)
                    .map_err(|rule| Fault { at: start, problem: Problem::Forbidden(rule) })?;
            }
            return Ok(Some(line));
        }
        Ok(None)
    }

    /// A line of text format: blanks anywhere, comments and empty lines mean nothing.
    fn lenient_line(&mut self) -> Result<Option<Line<'a>>, Fault> {
        self.skip_blanks();
        if self.at >= self.bytes.len() {
            self.ended = true;
            return Ok(None);
        }
        match self.byte() {
            b'\n' => {
                self.at += 1;
                Ok(None)
            }
            b'#' => Ok(self.lenient_comment()),
            _ => {
                let sample = self.sample()?;
                self.skip_blanks();
                self.line_end()?;
                Ok(Some(Line::Sample(sample)))
            }
        }
    }

    fn lenient_comment(&mut self) -> Option<Line<'a>> {
        let end = self.end_of_line();
        let text = &self.text[self.at + 1..end];
        self.at = (end + 1).min(self.bytes.len());
        comment::lenient(text)
    }

    /// A line of OpenMetrics: one space where a space may be, nothing that means nothing.
    fn strict_line(&mut self) -> Result<Option<Line<'a>>, Fault> {
        if self.at >= self.bytes.len() {
            return Err(self.expected("# EOF at the end"));
        }
        if self.byte() != b'#' {
            let sample = self.sample()?;
            self.line_end()?;
            return Ok(Some(Line::Sample(sample)));
        }
        let end = self.end_of_line();
        let text = &self.text[self.at..end];
        if text == "# EOF" {
            self.at = (end + 1).min(self.bytes.len());
            if self.at < self.bytes.len() {
                return Err(self.expected("nothing after # EOF"));
            }
            if let Some(rules) = &mut self.rules {
                let problem = |rule| Fault { at: self.at, problem: Problem::Forbidden(rule) };
                rules.finish().map_err(problem)?;
            }
            self.ended = true;
            return Ok(None);
        }
        let line = comment::strict(text)
            .ok_or_else(|| self.expected("# HELP, # TYPE, # UNIT or # EOF with all their parts"))?;
        self.at = (end + 1).min(self.bytes.len());
        Ok(Some(line))
    }

    fn sample(&mut self) -> Result<SampleLine<'a>, Fault> {
        let start = self.at;
        self.labels.clear();
        let mut name = Cow::Borrowed(self.identifier(true));
        let quoted = name.is_empty();
        if !self.strict() && !quoted {
            self.skip_blanks();
        }
        let mut series_end = start + name.len();
        if self.byte() == b'{' {
            let found = self.label_set(quoted)?;
            series_end = self.at;
            if let Some(found) = found {
                name = found.get();
            }
        }
        if name.is_empty() {
            return Err(self.expected("the name of a metric"));
        }
        self.gap(series_end, "a space and a value")?;
        let value = self.value()?;
        let timestamp = if self.more() { self.timestamp()? } else { None };
        let exemplar = self.strict() && self.byte() == b' ' && self.exemplar()?;
        Ok(SampleLine { series: &self.text[start..series_end], name, value, timestamp, exemplar })
    }

    /// Reads `{…}` into the label buffer. Gives the metric's name if it stands within, quoted,
    /// which is allowed only when none stands before.
    fn label_set(&mut self, name_within: bool) -> Result<Option<Text<'a>>, Fault> {
        let mut metric = None;
        self.at += 1;
        loop {
            self.skip_label_blanks();
            if self.byte() == b'}' && !(self.strict() && self.after_comma()) {
                self.at += 1;
                return Ok(metric);
            }
            let start = self.at;
            let name = if self.byte() == b'"' {
                self.quoted()?
            } else {
                Text::plain(self.identifier(false))
            };
            self.skip_label_blanks();
            if self.byte() == b'=' && !name.raw.is_empty() {
                self.at += 1;
                self.skip_label_blanks();
                let value = self.quoted()?;
                self.push_label(start, LabelRef { name, value })?;
            } else if name_within && metric.is_none() && self.bytes.get(start) == Some(&b'"') {
                metric = Some(name);
            } else {
                return Err(self.expected("a label: name=\"value\""));
            }
            self.skip_label_blanks();
            match self.byte() {
                b',' => self.at += 1,
                b'}' => {}
                _ => return Err(self.expected("',' or '}' after a label")),
            }
        }
    }

    fn after_comma(&self) -> bool {
        self.at > 0 && self.bytes[self.at - 1] == b','
    }

    fn push_label(&mut self, at: usize, label: LabelRef<'a>) -> Result<(), Fault> {
        let name = label.name.raw;
        if name == "__name__" || self.labels.iter().any(|other| other.name.raw == name) {
            return Err(Fault { at, problem: Problem::DuplicateLabel(name.to_owned()) });
        }
        if self.labels.len() == STREAM_LABELS_MAX {
            return Err(Fault { at, problem: Problem::TooManyLabels });
        }
        self.labels.push(label);
        Ok(())
    }

    /// Reads `"…"`. A newline ends the line, not the text: without it one missing quote would
    /// swallow half of the body before it is noticed.
    fn quoted(&mut self) -> Result<Text<'a>, Fault> {
        if self.byte() != b'"' {
            return Err(self.expected("'\"'"));
        }
        let start = self.at + 1;
        let mut at = start;
        let mut escaped = false;
        loop {
            match memchr::memchr3(b'"', b'\\', b'\n', &self.bytes[at..]).map(|found| at + found) {
                Some(found) if self.bytes[found] == b'"' => {
                    self.at = found + 1;
                    return Ok(Text { raw: &self.text[start..found], escaped });
                }
                Some(found) if self.bytes[found] == b'\\' && found + 1 < self.bytes.len() => {
                    escaped = true;
                    at = found + 2;
                }
                _ => return Err(self.expected("a quoted text that ends on its line")),
            }
        }
    }

    /// A run of name characters; empty when there is none.
    fn identifier(&mut self, colon: bool) -> &'a str {
        let start = self.at;
        if self.byte().is_ascii_digit() {
            return "";
        }
        let length = self.bytes[start..]
            .iter()
            .position(|&b| !(b.is_ascii_alphanumeric() || b == b'_' || (colon && b == b':')))
            .unwrap_or(self.bytes.len() - start);
        self.at += length;
        &self.text[start..self.at]
    }

    fn value(&mut self) -> Result<f64, Fault> {
        let start = self.at;
        let token = self.token();
        parse_value(token)
            .ok_or(Fault { at: start, problem: Problem::Expected("a number, NaN, +Inf or -Inf") })
    }

    /// A timestamp, unless an exemplar follows.
    fn timestamp(&mut self) -> Result<Option<Millis>, Fault> {
        let start = self.at;
        if self.strict() {
            self.at += 1;
            if self.byte() == b'#' {
                self.at = start;
                return Ok(None);
            }
        } else {
            self.skip_blanks();
            if matches!(self.byte(), b'\n') {
                return Ok(None);
            }
        }
        let at = self.at;
        let strict = self.strict();
        let token = self.token();
        let parsed = if strict { parse_seconds(token) } else { token.parse().ok() };
        let what = if strict { "a time in seconds" } else { "a time in milliseconds" };
        parsed.map(Some).ok_or(Fault { at, problem: Problem::Expected(what) })
    }

    /// ` # {labels} value [timestamp]`, which is checked and left out.
    fn exemplar(&mut self) -> Result<bool, Fault> {
        let own = std::mem::take(&mut self.labels);
        for (byte, what) in [(b' ', "' # {'"), (b'#', "' # {'"), (b' ', "' # {'")] {
            if self.byte() != byte {
                return Err(self.expected(what));
            }
            self.at += 1;
        }
        if self.byte() != b'{' {
            return Err(self.expected("' # {'"));
        }
        let at = self.at;
        self.label_set(false)?;
        let chars = |text: Cow<'_, str>| text.chars().count();
        let length: usize = self.labels.iter().map(|l| chars(l.name()) + chars(l.value())).sum();
        if length > EXEMPLAR_CHARS_MAX {
            let problem = Problem::Forbidden("an exemplar with more than 128 characters");
            return Err(Fault { at, problem });
        }
        self.labels = own;
        self.gap(self.at, "a space and the exemplar's value")?;
        self.value()?;
        if self.byte() == b' ' {
            self.at += 1;
            let at = self.at;
            parse_seconds(self.token())
                .ok_or(Fault { at, problem: Problem::Expected("a time in seconds") })?;
        }
        Ok(true)
    }

    /// The space before a value. Text allows any blanks, and none after `}`.
    fn gap(&mut self, series_end: usize, what: &'static str) -> Result<(), Fault> {
        if self.strict() {
            if self.byte() != b' ' {
                return Err(self.expected(what));
            }
            self.at += 1;
            return Ok(());
        }
        self.skip_blanks();
        let closed = series_end > 0 && self.bytes[series_end - 1] == b'}';
        if self.at == series_end && !closed { Err(self.expected(what)) } else { Ok(()) }
    }

    fn line_end(&mut self) -> Result<(), Fault> {
        if self.byte() != b'\n' {
            return Err(self.expected("the end of the line"));
        }
        self.at = (self.at + 1).min(self.bytes.len());
        Ok(())
    }

    /// The text up to the next blank.
    fn token(&mut self) -> &'a str {
        let start = self.at;
        let length = self.bytes[start..]
            .iter()
            .position(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r'))
            .unwrap_or(self.bytes.len() - start);
        self.at += length;
        &self.text[start..self.at]
    }

    fn more(&self) -> bool {
        matches!(self.byte(), b' ' | b'\t')
    }

    fn strict(&self) -> bool {
        self.rules.is_some()
    }

    fn skip_label_blanks(&mut self) {
        if !self.strict() {
            self.skip_blanks();
        }
    }

    fn skip_blanks(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    /// The byte to be read; past the end a newline, so that the last line needs none.
    fn byte(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(b'\n')
    }

    fn end_of_line(&self) -> usize {
        memchr::memchr(b'\n', &self.bytes[self.at..]).map_or(self.bytes.len(), |n| self.at + n)
    }

    fn expected(&self, what: &'static str) -> Fault {
        Fault { at: self.at, problem: Problem::Expected(what) }
    }
}

/// A problem at a byte of the body, before line and column are counted.
struct Fault {
    at: usize,
    problem: Problem,
}

fn parse_value(token: &str) -> Option<f64> {
    let bytes = token.as_bytes();
    // Whole numbers up to 2^53 are exact; most values of real bodies are such.
    if (1..=15).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_digit) {
        let whole = bytes.iter().fold(0_u64, |sum, b| sum * 10 + u64::from(b - b'0'));
        return Some(whole as f64);
    }
    token.parse().ok()
}

fn parse_seconds(token: &str) -> Option<Millis> {
    let millis: f64 = token.parse::<f64>().ok()? * 1000.0;
    // The comparison is false for NaN.
    (millis.abs() < MILLIS_MAX).then(|| millis.round() as Millis)
}

fn locate(body: &[u8], fault: &Fault) -> ParseError {
    let before = &body[..fault.at.min(body.len())];
    let line = memchr::memchr_iter(b'\n', before).count() + 1;
    let column = before.len() - memchr::memrchr(b'\n', before).map_or(0, |at| at + 1) + 1;
    ParseError { line, column, problem: fault.problem.clone() }
}

#[cfg(test)]
#[path = "exposition_tests.rs"]
mod tests;
