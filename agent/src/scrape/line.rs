//! What a body of metrics is made of, and what can be wrong with it. Everything borrows from the body.

use std::borrow::Cow;

use taffrail_model::MetricKind;
use taffrail_model::limits::STREAM_LABELS_MAX;
use taffrail_model::time::Millis;

/// Which of the two formats a body is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4 (and 1.0.0, which adds quoted names).
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The format that a `Content-Type` announces. What is not known is read as text, as
    /// Prometheus 2 did: many small exporters send no type, or a wrong one.
    #[must_use]
    pub fn of_content_type(value: &str) -> Self {
        let essence = value.split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case("application/openmetrics-text") {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }
}

/// What a `# TYPE` line declares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FamilyType {
    /// Not declared, `unknown` or `untyped`.
    #[default]
    Unknown,
    /// Only goes up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets that only go up.
    Histogram,
    /// Buckets that also go down.
    GaugeHistogram,
    /// Quantiles.
    Summary,
    /// Constant labels.
    Info,
    /// One boolean a state.
    StateSet,
}

impl FamilyType {
    /// Reads the word of a `# TYPE` line.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        if name == "gaugehistogram" {
            return Some(Self::GaugeHistogram);
        }
        MetricKind::from_name(name).map(|kind| match kind {
            MetricKind::Unknown => Self::Unknown,
            MetricKind::Counter => Self::Counter,
            MetricKind::Gauge => Self::Gauge,
            MetricKind::Histogram => Self::Histogram,
            MetricKind::Summary => Self::Summary,
            MetricKind::Info => Self::Info,
            MetricKind::StateSet => Self::StateSet,
        })
    }

    /// The kind that is stored. A gauge histogram's parts are gauges: no rate of them makes sense.
    #[must_use]
    pub fn kind(self) -> MetricKind {
        match self {
            Self::Unknown => MetricKind::Unknown,
            Self::Counter => MetricKind::Counter,
            Self::Gauge | Self::GaugeHistogram => MetricKind::Gauge,
            Self::Histogram => MetricKind::Histogram,
            Self::Summary => MetricKind::Summary,
            Self::Info => MetricKind::Info,
            Self::StateSet => MetricKind::StateSet,
        }
    }

    /// What may follow the family's name in the name of one of its samples.
    #[must_use]
    pub fn suffixes(self) -> &'static [&'static str] {
        match self {
            Self::Counter => &["_total", "_created"],
            Self::Summary => &["", "_count", "_sum", "_created"],
            Self::Histogram => &["_count", "_sum", "_bucket", "_created"],
            Self::GaugeHistogram => &["_gcount", "_gsum", "_bucket"],
            Self::Info => &["_info"],
            Self::Unknown | Self::Gauge | Self::StateSet => &[""],
        }
    }
}

/// Why a body cannot be read, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {problem}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// Byte of the line, from 1.
    pub column: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The body is not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// The grammar asks for something else here.
    #[error("expected {0}")]
    Expected(&'static str),
    /// A label comes twice, or is the one that holds the metric's name.
    #[error("label {0:?} comes twice")]
    DuplicateLabel(String),
    /// More labels than a series may have.
    #[error("more than {STREAM_LABELS_MAX} labels")]
    TooManyLabels,
    /// The grammar is kept, a rule of OpenMetrics is not.
    #[error("OpenMetrics forbids it: {0}")]
    Forbidden(&'static str),
}

/// One label of a sample as it stands in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelRef<'a> {
    pub(super) name: Text<'a>,
    pub(super) value: Text<'a>,
}

impl<'a> LabelRef<'a> {
    /// The label's name.
    #[must_use]
    pub fn name(&self) -> Cow<'a, str> {
        self.name.get()
    }

    /// The label's value without its escapes.
    #[must_use]
    pub fn value(&self) -> Cow<'a, str> {
        self.value.get()
    }
}

/// A piece of the body that may hold backslash escapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Text<'a> {
    pub(super) raw: &'a str,
    pub(super) escaped: bool,
}

impl<'a> Text<'a> {
    pub(super) fn plain(raw: &'a str) -> Self {
        Self { raw, escaped: false }
    }

    pub(super) fn get(self) -> Cow<'a, str> {
        if self.escaped { Cow::Owned(unescape(self.raw)) } else { Cow::Borrowed(self.raw) }
    }
}

/// One sample of a body. Its labels are in [`Lines::labels`] until the next line is read.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleLine<'a> {
    /// Name and labels exactly as written: the same text means the same series.
    pub series: &'a str,
    /// The metric's name.
    pub name: Cow<'a, str>,
    /// The value.
    pub value: f64,
    /// The time that the target gives, if it does.
    pub timestamp: Option<Millis>,
    /// Whether an exemplar follows (it is read and left out).
    pub exemplar: bool,
}

/// One line that means something.
#[derive(Clone, Debug, PartialEq)]
pub enum Line<'a> {
    /// A sample.
    Sample(SampleLine<'a>),
    /// `# TYPE`.
    Type {
        /// Name of the family.
        family: Cow<'a, str>,
        /// Its type.
        declared: FamilyType,
    },
    /// `# HELP`, with its escapes.
    Help {
        /// Name of the family.
        family: Cow<'a, str>,
        /// The text.
        text: &'a str,
    },
    /// `# UNIT`.
    Unit {
        /// Name of the family.
        family: Cow<'a, str>,
        /// The unit; may be empty.
        unit: &'a str,
    },
}

/// Resolves `\\`, `\"` and `\n`; any other backslash stands for itself.
fn unescape(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some(c @ ('\\' | '"')) => out.push(c),
            Some(c) => out.extend(['\\', c]),
            None => out.push('\\'),
        }
    }
    out
}
