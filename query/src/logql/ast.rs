//! The syntax tree of LogQL. Plain data: what a query says, nothing of how it is answered.

use taffrail_model::Matcher;

/// A whole query.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// Gives lines.
    Log(LogExpr),
    /// Gives numbers.
    Metric(MetricExpr),
}

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

/// Which labels an aggregation keeps apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grouping {
    /// `without`: all but these.
    pub without: bool,
    /// The names as written.
    pub labels: Vec<String>,
}

/// How the samples of a window become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeOp {
    /// Lines.
    CountOverTime,
    /// Lines, or unwrapped values, a second.
    Rate,
    /// Increase of an unwrapped counter a second.
    RateCounter,
    /// Bytes of the lines.
    BytesOverTime,
    /// Bytes of the lines a second.
    BytesRate,
    /// Mean.
    AvgOverTime,
    /// Sum.
    SumOverTime,
    /// Least.
    MinOverTime,
    /// Greatest.
    MaxOverTime,
    /// Standard deviation.
    StddevOverTime,
    /// Variance.
    StdvarOverTime,
    /// Quantile.
    QuantileOverTime,
    /// Oldest.
    FirstOverTime,
    /// Newest.
    LastOverTime,
    /// 1 where nothing is.
    AbsentOverTime,
}

impl RangeOp {
    /// Every operation.
    pub const ALL: [Self; 15] = [
        Self::CountOverTime,
        Self::Rate,
        Self::RateCounter,
        Self::BytesOverTime,
        Self::BytesRate,
        Self::AvgOverTime,
        Self::SumOverTime,
        Self::MinOverTime,
        Self::MaxOverTime,
        Self::StddevOverTime,
        Self::StdvarOverTime,
        Self::QuantileOverTime,
        Self::FirstOverTime,
        Self::LastOverTime,
        Self::AbsentOverTime,
    ];

    /// The name in a query.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CountOverTime => "count_over_time",
            Self::Rate => "rate",
            Self::RateCounter => "rate_counter",
            Self::BytesOverTime => "bytes_over_time",
            Self::BytesRate => "bytes_rate",
            Self::AvgOverTime => "avg_over_time",
            Self::SumOverTime => "sum_over_time",
            Self::MinOverTime => "min_over_time",
            Self::MaxOverTime => "max_over_time",
            Self::StddevOverTime => "stddev_over_time",
            Self::StdvarOverTime => "stdvar_over_time",
            Self::QuantileOverTime => "quantile_over_time",
            Self::FirstOverTime => "first_over_time",
            Self::LastOverTime => "last_over_time",
            Self::AbsentOverTime => "absent_over_time",
        }
    }
}

/// How a label becomes a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conversion {
    /// A number.
    Number,
    /// A size: bytes.
    Bytes,
    /// A duration: seconds.
    Duration,
}

/// `| unwrap duration(took) | took > 1s`
#[derive(Clone, Debug, PartialEq)]
pub struct Unwrap {
    /// The label.
    pub label: String,
    /// How to read it.
    pub conversion: Conversion,
    /// Conditions that come after.
    pub filters: Vec<LabelFilter>,
}

/// An operation over windows of lines.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeAgg {
    /// The operation.
    pub op: RangeOp,
    /// The quantile.
    pub param: Option<f64>,
    /// The lines.
    pub log: LogExpr,
    /// What number each line stands for, if not 1.
    pub unwrap: Option<Unwrap>,
    /// Length of the window in nanoseconds.
    pub range: i64,
    /// How far back the window lies, in nanoseconds.
    pub offset: i64,
    /// Which labels are kept apart; all when absent.
    pub grouping: Option<Grouping>,
}

/// How the series of a group become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorOp {
    /// Sum.
    Sum,
    /// Mean.
    Avg,
    /// How many.
    Count,
    /// Least.
    Min,
    /// Greatest.
    Max,
    /// Standard deviation.
    Stddev,
    /// Variance.
    Stdvar,
    /// The k greatest.
    Topk,
    /// The k least.
    Bottomk,
    /// The k greatest; Loki estimates them, here they are exact.
    ApproxTopk,
    /// Ordered, least first.
    Sort,
    /// Ordered, greatest first.
    SortDesc,
}

impl VectorOp {
    /// Every operation.
    pub const ALL: [Self; 12] = [
        Self::Sum,
        Self::Avg,
        Self::Count,
        Self::Min,
        Self::Max,
        Self::Stddev,
        Self::Stdvar,
        Self::Topk,
        Self::Bottomk,
        Self::ApproxTopk,
        Self::Sort,
        Self::SortDesc,
    ];

    /// The name in a query.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Count => "count",
            Self::Min => "min",
            Self::Max => "max",
            Self::Stddev => "stddev",
            Self::Stdvar => "stdvar",
            Self::Topk => "topk",
            Self::Bottomk => "bottomk",
            Self::ApproxTopk => "approx_topk",
            Self::Sort => "sort",
            Self::SortDesc => "sort_desc",
        }
    }

    /// Whether it takes a number of series.
    #[must_use]
    pub fn takes_param(self) -> bool {
        matches!(self, Self::Topk | Self::Bottomk | Self::ApproxTopk)
    }
}

/// An aggregation over series.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorAgg {
    /// The operation.
    pub op: VectorOp,
    /// How many series, for the operations that pick some.
    pub param: Option<usize>,
    /// Which labels are kept apart; none when absent.
    pub grouping: Option<Grouping>,
    /// Over what.
    pub inner: Box<MetricExpr>,
}

/// An operator between two metric expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryOp {
    /// `or`
    Or,
    /// `and`
    And,
    /// `unless`
    Unless,
    /// A comparison.
    Compare(Compare),
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Mod,
    /// `^`
    Pow,
}

impl BinaryOp {
    /// The operator as it is written.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Or => "or",
            Self::And => "and",
            Self::Unless => "unless",
            Self::Compare(op) => op.symbol(),
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
        }
    }

    /// The operator of a symbol or word.
    #[must_use]
    pub fn from_symbol(symbol: &str) -> Option<Self> {
        Some(match symbol {
            "or" => Self::Or,
            "and" => Self::And,
            "unless" => Self::Unless,
            "+" => Self::Add,
            "-" => Self::Sub,
            "*" => Self::Mul,
            "/" => Self::Div,
            "%" => Self::Mod,
            "^" => Self::Pow,
            _ => Self::Compare(Compare::ALL.into_iter().find(|op| op.symbol() == symbol)?),
        })
    }

    /// How tightly it binds.
    #[must_use]
    pub fn precedence(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And | Self::Unless => 2,
            Self::Compare(_) => 3,
            Self::Add | Self::Sub => 4,
            Self::Mul | Self::Div | Self::Mod => 5,
            Self::Pow => 6,
        }
    }

    /// `and`, `or`, `unless`: operators on sets of series.
    #[must_use]
    pub fn is_set(self) -> bool {
        matches!(self, Self::Or | Self::And | Self::Unless)
    }
}

/// On which side of a vector match several series may share a partner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cardinality {
    /// On none.
    #[default]
    OneToOne,
    /// `group_left`
    ManyToOne,
    /// `group_right`
    OneToMany,
}

/// How the series of two sides find each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matching {
    /// `on` (true) these labels, or `ignoring` them.
    pub on: bool,
    /// The labels.
    pub labels: Vec<String>,
    /// Which side may have several.
    pub cardinality: Cardinality,
    /// Labels to take over from the "one" side.
    pub include: Vec<String>,
}

/// Two expressions with an operator between them.
#[derive(Clone, Debug, PartialEq)]
pub struct Binary {
    /// The operator.
    pub op: BinaryOp,
    /// A comparison gives 0 or 1 instead of dropping samples.
    pub returns_bool: bool,
    /// How series find each other, if the query says.
    pub matching: Option<Matching>,
    /// Left side.
    pub left: MetricExpr,
    /// Right side.
    pub right: MetricExpr,
}

/// A query, or part of one, that gives numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricExpr {
    /// `rate({…}[5m])`
    Range(RangeAgg),
    /// `sum by (app) (…)`
    Vector(VectorAgg),
    /// `a / b`
    Binary(Box<Binary>),
    /// `2`
    Literal(f64),
    /// `vector(2)`
    VectorLiteral(f64),
    /// `label_replace(…, "dst", "$1", "src", "(.*)")`
    LabelReplace {
        /// Over what.
        inner: Box<MetricExpr>,
        /// The label that is set.
        dst: String,
        /// What to, with `$1`.
        replacement: String,
        /// The label that is looked at.
        src: String,
        /// Anchored expression.
        regex: String,
    },
}
