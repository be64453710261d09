//! The syntax tree of PromQL.
//!
//! A tree that [`super::parse()`] gives has passed all checks: types fit, matchers are compiled,
//! nesting is bounded. Durations may still hold `step()` and `range()`, which a query's own times
//! resolve.

use taffrail_model::Matcher;

use super::functions::Function;

/// The type of an expression's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// One number a step.
    Scalar,
    /// A set of series with one value a step.
    Vector,
    /// A set of series with a range of samples a step.
    Matrix,
    /// A text.
    String,
}

impl ValueType {
    /// The name that error messages use.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
            Self::String => "string",
        }
    }
}

/// An expression and where it starts in the text.
#[derive(Clone, Debug)]
pub struct Expr {
    /// What it is.
    pub kind: Kind,
    /// Byte offset of its first character.
    pub at: usize,
}

/// The forms of expressions.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
    /// An expression in parentheses.
    Paren(Box<Expr>),
    /// `-` before an expression.
    Negate(Box<Expr>),
    /// An instant or range selector.
    Selector(Box<Selector>),
    /// `expr[range:step]`.
    Subquery(Box<Subquery>),
    /// A function and its arguments.
    Call(&'static Function, Vec<Expr>),
    /// An aggregation.
    Aggregate(Box<Aggregate>),
    /// Two operands and an operator.
    Binary(Box<Binary>),
}

/// How a range selector treats the borders of its window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WindowMode {
    /// Samples in the window only.
    #[default]
    Plain,
    /// The last sample before the window stands at its start.
    Anchored,
    /// Values at both borders are interpolated.
    Smoothed,
}

/// A selector of series.
#[derive(Clone, Debug)]
pub struct Selector {
    /// The metric name, when it was written before the braces.
    pub name: Option<String>,
    /// All conditions, the metric name among them.
    pub matchers: Vec<Matcher>,
    /// The window of a range selector.
    pub range: Option<Span>,
    /// When it looks.
    pub shift: Shift,
    /// `anchored` or `smoothed`.
    pub mode: WindowMode,
}

/// The `offset` and `@` of a selector or subquery.
#[derive(Clone, Debug, Default)]
pub struct Shift {
    /// How far back; negative is ahead.
    pub offset: Option<Span>,
    /// A fixed time.
    pub at: Option<At>,
}

/// The time after `@`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// `@ start()`.
    Start,
    /// `@ end()`.
    End,
    /// Milliseconds since the epoch.
    Time(i64),
}

/// A length of time, possibly computed.
#[derive(Clone, Debug)]
pub enum Span {
    /// Seconds.
    Seconds(f64),
    /// `step()`: the query's step.
    Step,
    /// `range()`: the query's end minus its start.
    Range,
    /// `-` before a span.
    Negate(Box<Span>),
    /// An operation on two spans in seconds.
    Binary(BinaryOp, Box<Span>, Box<Span>),
    /// `min_of`, `max_of`; true for the larger.
    Pick(bool, Box<Span>, Box<Span>),
}

/// `expr[range:step]`.
#[derive(Clone, Debug)]
pub struct Subquery {
    /// What is evaluated.
    pub expr: Expr,
    /// The window.
    pub range: Span,
    /// The distance of its points; the engine's default when absent.
    pub step: Option<Span>,
    /// When it looks.
    pub shift: Shift,
}

/// The aggregation operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the operators")]
pub enum AggregateOp {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    Limitk,
    LimitRatio,
    Quantile,
    CountValues,
}

impl AggregateOp {
    const ALL: [(&'static str, Self); 14] = [
        ("sum", Self::Sum),
        ("avg", Self::Avg),
        ("count", Self::Count),
        ("min", Self::Min),
        ("max", Self::Max),
        ("group", Self::Group),
        ("stddev", Self::Stddev),
        ("stdvar", Self::Stdvar),
        ("topk", Self::Topk),
        ("bottomk", Self::Bottomk),
        ("limitk", Self::Limitk),
        ("limit_ratio", Self::LimitRatio),
        ("quantile", Self::Quantile),
        ("count_values", Self::CountValues),
    ];

    /// Reads an operator's name, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, op)| *op)
    }

    /// The operator's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, op)| *op == self).map_or("", |(name, _)| *name)
    }

    /// The type of the parameter before the vector, for operators that have one.
    #[must_use]
    pub fn parameter(self) -> Option<ValueType> {
        match self {
            Self::Topk | Self::Bottomk | Self::Limitk | Self::LimitRatio | Self::Quantile => {
                Some(ValueType::Scalar)
            }
            Self::CountValues => Some(ValueType::String),
            _ => None,
        }
    }
}

/// An aggregation.
#[derive(Clone, Debug)]
pub struct Aggregate {
    /// The operator.
    pub op: AggregateOp,
    /// The parameter of `topk`, `quantile`, `count_values`, ….
    pub parameter: Option<Expr>,
    /// What is aggregated.
    pub expr: Expr,
    /// The labels of `by` or `without`.
    pub labels: Vec<String>,
    /// Whether the labels are those to leave out.
    pub without: bool,
}

/// The binary operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the operators")]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    And,
    Or,
    Unless,
}

impl BinaryOp {
    const ALL: [(&'static str, Self); 16] = [
        ("+", Self::Add),
        ("-", Self::Sub),
        ("*", Self::Mul),
        ("/", Self::Div),
        ("%", Self::Mod),
        ("^", Self::Pow),
        ("atan2", Self::Atan2),
        ("==", Self::Equal),
        ("!=", Self::NotEqual),
        ("<", Self::Less),
        ("<=", Self::LessEqual),
        (">", Self::Greater),
        (">=", Self::GreaterEqual),
        ("and", Self::And),
        ("or", Self::Or),
        ("unless", Self::Unless),
    ];

    /// Reads an operator, words in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, op)| *op)
    }

    /// The operator as it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, op)| *op == self).map_or("", |(name, _)| *name)
    }

    /// Whether it compares.
    #[must_use]
    pub fn is_comparison(self) -> bool {
        matches!(
            self,
            Self::Equal
                | Self::NotEqual
                | Self::Less
                | Self::LessEqual
                | Self::Greater
                | Self::GreaterEqual
        )
    }

    /// Whether it is `and`, `or` or `unless`.
    #[must_use]
    pub fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }

    /// How tightly it binds; higher is tighter.
    #[must_use]
    pub fn precedence(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And | Self::Unless => 2,
            Self::Add | Self::Sub => 4,
            Self::Mul | Self::Div | Self::Mod | Self::Atan2 => 5,
            Self::Pow => 6,
            _ => 3,
        }
    }
}

/// Which side of a vector operation may have several series for one of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cardinality {
    /// Neither.
    OneToOne,
    /// `group_left`.
    ManyToOne,
    /// `group_right`.
    OneToMany,
}

/// How series of the two sides find each other.
#[derive(Clone, Debug)]
pub struct Matching {
    /// Which side may have many.
    pub cardinality: Cardinality,
    /// Whether `labels` are those of `on` (else of `ignoring`).
    pub on: bool,
    /// The labels of `on` or `ignoring`.
    pub labels: Vec<String>,
    /// The labels that `group_left` or `group_right` copies from the one side.
    pub include: Vec<String>,
    /// The value that stands for a missing left side.
    pub fill_left: Option<f64>,
    /// The value that stands for a missing right side.
    pub fill_right: Option<f64>,
}

impl Default for Matching {
    fn default() -> Self {
        Self {
            cardinality: Cardinality::OneToOne,
            on: false,
            labels: Vec::new(),
            include: Vec::new(),
            fill_left: None,
            fill_right: None,
        }
    }
}

/// Two operands and an operator.
#[derive(Clone, Debug)]
pub struct Binary {
    /// The operator.
    pub op: BinaryOp,
    /// The left operand.
    pub lhs: Expr,
    /// The right operand.
    pub rhs: Expr,
    /// Whether a comparison gives 0 or 1 instead of filtering.
    pub bool_result: bool,
    /// How vectors match.
    pub matching: Matching,
}

impl Expr {
    /// The type of the expression's value.
    #[must_use]
    pub fn value_type(&self) -> ValueType {
        match &self.kind {
            Kind::Number(_) => ValueType::Scalar,
            Kind::Text(_) => ValueType::String,
            Kind::Paren(inner) | Kind::Negate(inner) => inner.value_type(),
            Kind::Selector(selector) if selector.range.is_some() => ValueType::Matrix,
            Kind::Selector(_) | Kind::Aggregate(_) => ValueType::Vector,
            Kind::Subquery(_) => ValueType::Matrix,
            Kind::Call(function, _) => function.returns,
            Kind::Binary(binary) => match (binary.lhs.value_type(), binary.rhs.value_type()) {
                (ValueType::Scalar, ValueType::Scalar) => ValueType::Scalar,
                _ => ValueType::Vector,
            },
        }
    }

    /// The expression without parentheses around it.
    #[must_use]
    pub fn bare(&self) -> &Self {
        let mut expr = self;
        while let Kind::Paren(inner) = &expr.kind {
            expr = inner;
        }
        expr
    }
}
