//! Selectors, stages and label filters.

use taffrail_model::Matcher;

/// A selector and the stages that its lines go through.
#[derive(Clone, Debug, PartialEq)]
pub struct LogExpr {
    /// Conditions on the stream.
    pub matchers: Vec<Matcher>,
    /// What happens to each line, in order.
    pub stages: Vec<StageExpr>,
}

/// One stage of a pipeline.
#[derive(Clone, Debug, PartialEq)]
pub enum StageExpr {
    /// `|= "a" or "b"` and its kin.
    Line(LineFilterExpr),
    /// `json [label="path", …]`
    Json(Vec<Extract>),
    /// `logfmt [--strict] [--keep-empty] [label="key", …]`
    Logfmt {
        /// A line with a malformed pair is an error.
        strict: bool,
        /// Keys without value become empty labels.
        keep_empty: bool,
        /// The labels wanted; all when empty.
        extracts: Vec<Extract>,
    },
    /// `regexp "(?P<label>…)"`
    Regexp(String),
    /// `pattern "<label> …"`
    Pattern(String),
    /// `unpack`
    Unpack,
    /// `label = "value" and …`
    Labels(LabelFilter),
    /// `line_format "{{.label}}"`
    LineFormat(String),
    /// `label_format new=old, label="{{…}}"`
    LabelFormat(Vec<LabelFormat>),
    /// `decolorize`
    Decolorize,
    /// `drop name, name="value"`
    Drop(Vec<Pick>),
    /// `keep name, name="value"`
    Keep(Vec<Pick>),
}

/// How a line filter compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineOp {
    /// `|=`
    Contains,
    /// `!=`
    NotContains,
    /// `|~`
    Matches,
    /// `!~`
    NotMatches,
    /// `|>`
    Pattern,
    /// `!>`
    NotPattern,
}

impl LineOp {
    /// Every operator.
    pub const ALL: [Self; 6] = [
        Self::Contains,
        Self::NotContains,
        Self::Matches,
        Self::NotMatches,
        Self::Pattern,
        Self::NotPattern,
    ];

    /// The operator as it is written.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Contains => "|=",
            Self::NotContains => "!=",
            Self::Matches => "|~",
            Self::NotMatches => "!~",
            Self::Pattern => "|>",
            Self::NotPattern => "!>",
        }
    }

    /// Whether lines that do not fit pass.
    #[must_use]
    pub fn is_negative(self) -> bool {
        matches!(self, Self::NotContains | Self::NotMatches | Self::NotPattern)
    }
}

/// A condition on the text: one of the terms fits, or, for a negative operator, none does.
#[derive(Clone, Debug, PartialEq)]
pub struct LineFilterExpr {
    /// How to compare.
    pub op: LineOp,
    /// What with; at least one.
    pub terms: Vec<LineTerm>,
}

/// One alternative of a line filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineTerm {
    /// Text, expression or pattern.
    Text(String),
    /// `ip("10.0.0.0/8")`
    Ip(String),
}

/// A label that a parser shall set, and where its value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extract {
    /// Name of the label.
    pub label: String,
    /// Path or key; the label's name when none was written.
    pub path: String,
}

/// How numbers compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
}

impl Compare {
    /// Every operator.
    pub const ALL: [Self; 6] = [
        Self::Equal,
        Self::NotEqual,
        Self::Greater,
        Self::GreaterOrEqual,
        Self::Less,
        Self::LessOrEqual,
    ];

    /// The operator as it is written.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
        }
    }

    /// Whether `left op right` holds. Nothing but `!=` holds for NaN.
    #[must_use]
    pub fn holds<T: PartialOrd>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
        }
    }
}

/// A condition on the labels of a line.
#[derive(Clone, Debug, PartialEq)]
pub enum LabelFilter {
    /// A label as text.
    Text(Matcher),
    /// A label as number.
    Number {
        /// The label.
        name: String,
        /// How to compare.
        op: Compare,
        /// What with.
        value: f64,
    },
    /// A label as duration.
    Duration {
        /// The label.
        name: String,
        /// How to compare.
        op: Compare,
        /// What with, in nanoseconds.
        nanos: i64,
    },
    /// A label as size.
    Bytes {
        /// The label.
        name: String,
        /// How to compare.
        op: Compare,
        /// What with.
        bytes: u64,
    },
    /// A label as address.
    Ip {
        /// The label.
        name: String,
        /// `=` (true) or `!=`.
        equal: bool,
        /// Address, network or range.
        pattern: String,
    },
    /// All hold; two or more.
    And(Vec<LabelFilter>),
    /// One holds; two or more.
    Or(Vec<LabelFilter>),
}

/// One assignment of `label_format`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelFormat {
    /// The label that is set.
    pub name: String,
    /// From what.
    pub value: FormatValue,
}

/// The right side of an assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormatValue {
    /// Another label, which goes.
    Rename(String),
    /// A template.
    Template(String),
}

/// A label of `drop` or `keep`, with or without a condition.
#[derive(Clone, Debug, PartialEq)]
pub enum Pick {
    /// The label, whatever its value.
    Name(String),
    /// The label, if it fits.
    Matcher(Matcher),
}
