//! A syntax tree back to text. Reading the text gives the same tree again.

use std::fmt;

use taffrail_model::labels::{is_valid_name, write_quoted};
use taffrail_model::sample::METRIC_NAME;

use super::ast::{
    Aggregate, At, Binary, Cardinality, Expr, Kind, Selector, Shift, Span, Subquery, WindowMode,
};

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Number(number) => f.write_str(&number_text(*number)),
            Kind::Text(text) => write_quoted(f, text),
            Kind::Paren(inner) => write!(f, "({inner})"),
            Kind::Negate(inner) => write!(f, "-{inner}"),
            Kind::Selector(selector) => selector.fmt(f),
            Kind::Subquery(subquery) => subquery.fmt(f),
            Kind::Call(function, args) => {
                write!(f, "{}(", function.name)?;
                join(f, args, ", ")?;
                f.write_str(")")
            }
            Kind::Aggregate(aggregate) => aggregate.fmt(f),
            Kind::Binary(binary) => binary.fmt(f),
        }
    }
}

/// A number as Go prints it with `'f', -1`.
#[must_use]
pub fn number_text(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    number.to_string()
}

fn join<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: &[T], separator: &str) -> fmt::Result {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            f.write_str(separator)?;
        }
        item.fmt(f)?;
    }
    Ok(())
}

fn labels(f: &mut fmt::Formatter<'_>, word: &str, labels: &[String]) -> fmt::Result {
    write!(f, "{word} (")?;
    for (index, label) in labels.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        if is_valid_name(label) { f.write_str(label)? } else { write_quoted(f, label)? }
    }
    f.write_str(")")
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_deref().unwrap_or("");
        let plain = !name.is_empty()
            && is_valid_name(&name.replace(':', "_"))
            && super::lex::parse_number(name).is_none();
        if plain {
            f.write_str(name)?;
        }
        let mut parts = Vec::new();
        if !name.is_empty() && !plain {
            let mut quoted = String::new();
            write_quoted(&mut quoted, name)?;
            parts.push(quoted);
        }
        let shown = |m: &&taffrail_model::Matcher| {
            self.name.is_none() || m.name != METRIC_NAME || m.value != name
        };
        for matcher in self.matchers.iter().filter(shown) {
            let mut text = String::new();
            if is_valid_name(&matcher.name) {
                text.push_str(&matcher.name);
            } else {
                write_quoted(&mut text, &matcher.name)?;
            }
            text.push_str(matcher.op.symbol());
            write_quoted(&mut text, &matcher.value)?;
            parts.push(text);
        }
        if !parts.is_empty() || !plain {
            write!(f, "{{{}}}", parts.join(","))?;
        }
        if let Some(range) = &self.range {
            write!(f, "[{range}]")?;
        }
        match self.mode {
            WindowMode::Plain => {}
            WindowMode::Anchored => f.write_str(" anchored")?,
            WindowMode::Smoothed => f.write_str(" smoothed")?,
        }
        self.shift.fmt(f)
    }
}

impl fmt::Display for Shift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            None => {}
            Some(At::Start) => f.write_str(" @ start()")?,
            Some(At::End) => f.write_str(" @ end()")?,
            Some(At::Time(millis)) => {
                let (sign, size) = (if millis < 0 { "-" } else { "" }, millis.unsigned_abs());
                write!(f, " @ {sign}{}.{:03}", size / 1000, size % 1000)?;
            }
        }
        match &self.offset {
            None => Ok(()),
            Some(span @ Span::Binary(..)) => write!(f, " offset ({span})"),
            Some(Span::Negate(span)) => match &**span {
                Span::Binary(..) | Span::Negate(_) => write!(f, " offset -({span})"),
                _ => write!(f, " offset -{span}"),
            },
            Some(span) => write!(f, " offset {span}"),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seconds(seconds) => f.write_str(&duration_text(*seconds)),
            Self::Step => f.write_str("step()"),
            Self::Range => f.write_str("range()"),
            Self::Negate(span) => match &**span {
                Self::Binary(..) => write!(f, "-({span})"),
                _ => write!(f, "-{span}"),
            },
            Self::Binary(op, lhs, rhs) => {
                operand(f, lhs)?;
                write!(f, " {} ", op.name())?;
                operand(f, rhs)
            }
            Self::Pick(max, a, b) => {
                write!(f, "{}({a}, {b})", if *max { "max_of" } else { "min_of" })
            }
        }
    }
}

fn operand(f: &mut fmt::Formatter<'_>, span: &Span) -> fmt::Result {
    match span {
        Span::Binary(..) | Span::Negate(_) => write!(f, "({span})"),
        _ => write!(f, "{span}"),
    }
}

/// `90` -> `1m30s`; what is no whole number of milliseconds stays a number of seconds.
fn duration_text(seconds: f64) -> String {
    const UNITS: [(&str, u64); 7] = [
        ("y", 31_536_000_000),
        ("w", 604_800_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];
    let millis = seconds * 1000.0;
    if !(1.0..9.0e12).contains(&millis) || millis.fract() != 0.0 {
        return number_text(seconds);
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    let mut rest = millis as u64;
    let mut text = String::new();
    for (unit, size) in UNITS {
        // Years and weeks only for whole multiples, as Prometheus prints them.
        let coarse = matches!(unit, "y" | "w");
        if rest >= size && (!coarse || rest.is_multiple_of(size)) {
            text.push_str(&format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    text
}

impl fmt::Display for Subquery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}:", self.expr, self.range)?;
        if let Some(step) = &self.step {
            write!(f, "{step}")?;
        }
        write!(f, "]{}", self.shift)
    }
}

impl fmt::Display for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.op.name())?;
        if self.without {
            labels(f, " without", &self.labels)?;
            f.write_str(" ")?;
        } else if !self.labels.is_empty() {
            labels(f, " by", &self.labels)?;
            f.write_str(" ")?;
        }
        match &self.parameter {
            Some(parameter) => write!(f, "({parameter}, {})", self.expr),
            None => write!(f, "({})", self.expr),
        }
    }
}

impl fmt::Display for Binary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let matching = &self.matching;
        write!(f, "{} {}", self.lhs, self.op.name())?;
        if self.bool_result {
            f.write_str(" bool")?;
        }
        let grouped = matching.cardinality != Cardinality::OneToOne;
        if matching.on {
            labels(f, " on", &matching.labels)?;
        } else if !matching.labels.is_empty() || grouped {
            labels(f, " ignoring", &matching.labels)?;
        }
        match matching.cardinality {
            Cardinality::OneToOne => {}
            Cardinality::ManyToOne => labels(f, " group_left", &matching.include)?,
            Cardinality::OneToMany => labels(f, " group_right", &matching.include)?,
        }
        match (matching.fill_left, matching.fill_right) {
            (Some(left), Some(right)) if left.to_bits() == right.to_bits() => {
                write!(f, " fill ({})", number_text(left))?;
            }
            (left, right) => {
                for (word, value) in [("fill_left", left), ("fill_right", right)] {
                    if let Some(value) = value {
                        write!(f, " {word} ({})", number_text(value))?;
                    }
                }
            }
        }
        write!(f, " {}", self.rhs)
    }
}
