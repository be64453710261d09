//! The syntax tree back to text, in the form that Loki's `format_query` gives. Parsing the text
//! gives the same tree again.

use std::fmt::{self, Display, Formatter, Write as _};

use taffrail_model::labels::write_quoted;

use super::ast::{
    Binary, Cardinality, Conversion, Expr, Extract, FormatValue, Grouping, LabelFilter,
    LineFilterExpr, LineTerm, LogExpr, Matching, MetricExpr, Pick, RangeAgg, StageExpr, VectorAgg,
};
use super::units::format_duration;

/// Appends `text` in double quotes.
pub(super) fn quote(out: &mut String, text: &str) {
    write_quoted(out, text).expect("writing to a String cannot fail");
}

struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_quoted(f, self.0)
    }
}

fn list<T>(
    f: &mut Formatter<'_>,
    separator: &str,
    items: &[T],
    each: impl Fn(&mut Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            f.write_str(separator)?;
        }
        each(f, item)?;
    }
    Ok(())
}

/// A number that the lexer reads back: digits, or digits with an exponent when there are many.
struct Number(f64);

impl Display for Number {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0 != 0.0 && !(1e-6..1e21).contains(&self.0.abs()) {
            write!(f, "{:e}", self.0)
        } else {
            write!(f, "{}", self.0)
        }
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(log) => log.fmt(f),
            Self::Metric(metric) => metric.fmt(f),
        }
    }
}

impl Display for LogExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_char('{')?;
        list(f, ", ", &self.matchers, |f, matcher| matcher.fmt(f))?;
        f.write_char('}')?;
        for stage in &self.stages {
            write!(f, " {stage}")?;
        }
        Ok(())
    }
}

impl Display for StageExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(filter) => filter.fmt(f),
            Self::Json(extracts) => {
                f.write_str("| json")?;
                write_extracts(f, extracts)
            }
            Self::Logfmt { strict, keep_empty, extracts } => {
                f.write_str("| logfmt")?;
                f.write_str(if *strict { " --strict" } else { "" })?;
                f.write_str(if *keep_empty { " --keep-empty" } else { "" })?;
                write_extracts(f, extracts)
            }
            Self::Regexp(text) => write!(f, "| regexp {}", Quoted(text)),
            Self::Pattern(text) => write!(f, "| pattern {}", Quoted(text)),
            Self::Unpack => f.write_str("| unpack"),
            Self::Labels(filter) => write!(f, "| {filter}"),
            Self::LineFormat(template) => write!(f, "| line_format {}", Quoted(template)),
            Self::LabelFormat(formats) => {
                f.write_str("| label_format ")?;
                list(f, ",", formats, |f, format| match &format.value {
                    FormatValue::Rename(from) => write!(f, "{}={from}", format.name),
                    FormatValue::Template(text) => write!(f, "{}={}", format.name, Quoted(text)),
                })
            }
            Self::Decolorize => f.write_str("| decolorize"),
            Self::Drop(picks) => {
                f.write_str("| drop ")?;
                list(f, ",", picks, |f, pick| pick.fmt(f))
            }
            Self::Keep(picks) => {
                f.write_str("| keep ")?;
                list(f, ",", picks, |f, pick| pick.fmt(f))
            }
        }
    }
}

fn write_extracts(f: &mut Formatter<'_>, extracts: &[Extract]) -> fmt::Result {
    if !extracts.is_empty() {
        f.write_char(' ')?;
    }
    list(f, ",", extracts, |f, extract| write!(f, "{}={}", extract.label, Quoted(&extract.path)))
}

impl Display for LineFilterExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.op.symbol())?;
        list(f, " or ", &self.terms, |f, term| match term {
            LineTerm::Text(text) => Quoted(text).fmt(f),
            LineTerm::Ip(pattern) => write!(f, "ip({})", Quoted(pattern)),
        })
    }
}

impl Display for LabelFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(matcher) => matcher.fmt(f),
            Self::Number { name, op, value } => {
                write!(f, "{name}{}{}", op.symbol(), Number(*value))
            }
            Self::Duration { name, op, nanos } => {
                write!(f, "{name}{}{}", op.symbol(), format_duration(*nanos))
            }
            Self::Bytes { name, op, bytes } => write!(f, "{name}{}{bytes}B", op.symbol()),
            Self::Ip { name, equal, pattern } => {
                let op = if *equal { "=" } else { "!=" };
                write!(f, "{name}{op}ip({})", Quoted(pattern))
            }
            Self::And(filters) => list(f, " and ", filters, write_nested),
            Self::Or(filters) => list(f, " or ", filters, write_nested),
        }
    }
}

fn write_nested(f: &mut Formatter<'_>, filter: &LabelFilter) -> fmt::Result {
    match filter {
        LabelFilter::And(_) | LabelFilter::Or(_) => write!(f, "({filter})"),
        _ => filter.fmt(f),
    }
}

impl Display for Pick {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Matcher(matcher) => matcher.fmt(f),
        }
    }
}

impl Display for Grouping {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(if self.without { " without (" } else { " by (" })?;
        list(f, ",", &self.labels, |f, label| f.write_str(label))?;
        f.write_char(')')
    }
}

impl Display for RangeAgg {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.op.name())?;
        if let Some(param) = self.param {
            write!(f, "{},", Number(param))?;
        }
        self.log.fmt(f)?;
        if let Some(unwrap) = &self.unwrap {
            match unwrap.conversion {
                Conversion::Number => write!(f, " | unwrap {}", unwrap.label)?,
                Conversion::Bytes => write!(f, " | unwrap bytes({})", unwrap.label)?,
                Conversion::Duration => write!(f, " | unwrap duration({})", unwrap.label)?,
            }
            for filter in &unwrap.filters {
                write!(f, " | {filter}")?;
            }
        }
        write!(f, "[{}]", format_duration(self.range))?;
        if self.offset != 0 {
            write!(f, " offset {}", format_duration(self.offset))?;
        }
        f.write_char(')')?;
        self.grouping.as_ref().map_or(Ok(()), |grouping| grouping.fmt(f))
    }
}

impl Display for VectorAgg {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.op.name())?;
        if let Some(grouping) = &self.grouping {
            grouping.fmt(f)?;
        }
        f.write_char('(')?;
        if let Some(param) = self.param {
            write!(f, "{param},")?;
        }
        write!(f, "{})", self.inner)
    }
}

impl Display for Matching {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(if self.on { " on (" } else { " ignoring (" })?;
        list(f, ",", &self.labels, |f, label| f.write_str(label))?;
        f.write_char(')')?;
        match self.cardinality {
            Cardinality::OneToOne => return Ok(()),
            Cardinality::ManyToOne => f.write_str(" group_left (")?,
            Cardinality::OneToMany => f.write_str(" group_right (")?,
        }
        list(f, ",", &self.include, |f, label| f.write_str(label))?;
        f.write_char(')')
    }
}

impl Display for Binary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "({} {}", self.left, self.op.symbol())?;
        f.write_str(if self.returns_bool { " bool" } else { "" })?;
        if let Some(matching) = &self.matching {
            matching.fmt(f)?;
        }
        write!(f, " {})", self.right)
    }
}

impl Display for MetricExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(range) => range.fmt(f),
            Self::Vector(vector) => vector.fmt(f),
            Self::Binary(binary) => binary.fmt(f),
            Self::Literal(value) => Number(*value).fmt(f),
            Self::VectorLiteral(value) => write!(f, "vector({})", Number(*value)),
            Self::LabelReplace { inner, dst, replacement, src, regex } => write!(
                f,
                "label_replace({inner},{},{},{},{})",
                Quoted(dst),
                Quoted(replacement),
                Quoted(src),
                Quoted(regex)
            ),
        }
    }
}
