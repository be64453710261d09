//! The rules that a well-formed tree must also obey: types, modifiers, labels. Each node is checked
//! when it is built, so its children have passed already.

use taffrail_model::sample::METRIC_NAME;

use super::ast::{
    Aggregate, AggregateOp, Binary, Cardinality, Expr, Kind, Selector, Shift, Span, ValueType,
    WindowMode,
};
use super::error::ParseError;
use super::functions::{Function, Id};

/// Checks one node. A selector of data labels may match anything.
pub(super) fn node(expr: &Expr, data_labels: bool) -> Result<(), ParseError> {
    let problem = match &expr.kind {
        Kind::Number(_) | Kind::Text(_) | Kind::Paren(_) | Kind::Negate(_) => None,
        Kind::Selector(selector) => selector
            .range
            .as_ref()
            .and_then(empty_span)
            .or_else(|| empty_selector(selector).filter(|_| !data_labels)),
        Kind::Subquery(subquery) => {
            let steps = subquery.step.as_ref().and_then(empty_span);
            subquery_type(&subquery.expr).or_else(|| empty_span(&subquery.range)).or(steps)
        }
        Kind::Call(function, args) => call(function, args),
        Kind::Aggregate(aggregate) => aggregation(aggregate),
        Kind::Binary(binary) => operation(binary),
    };
    problem.map_or(Ok(()), |message| Err(ParseError::new(expr.at, message)))
}

fn empty_selector(selector: &Selector) -> Option<String> {
    let bare = selector.matchers.iter().all(taffrail_model::Matcher::matches_empty);
    bare.then(|| "vector selector must contain at least one non-empty matcher".to_owned())
}

fn empty_span(span: &Span) -> Option<String> {
    match span {
        Span::Seconds(seconds) if !(*seconds > 0.0 && *seconds < 9.0e9) => {
            Some("duration must be greater than 0 and at most 285 years".to_owned())
        }
        _ => None,
    }
}

fn subquery_type(expr: &Expr) -> Option<String> {
    let found = expr.value_type();
    (found != ValueType::Vector).then(|| {
        format!("subquery is only allowed on instant vector, got {} instead", found.describe())
    })
}

fn call(function: &'static Function, args: &[Expr]) -> Option<String> {
    let (least, most, got) = (function.args_min(), function.args_max(), args.len());
    let (name, exact) = (function.name, most == Some(least));
    if got < least || most.is_some_and(|most| got > most) {
        let expected = match most {
            _ if exact => format!("{least}"),
            Some(most) if got > most => format!("at most {most}"),
            _ => format!("at least {least}"),
        };
        return Some(format!("expected {expected} argument(s) in call to {name:?}, got {got}"));
    }
    for (index, arg) in args.iter().enumerate() {
        let expected = function.arg(index)?;
        let found = arg.value_type();
        if found != expected {
            return Some(format!(
                "expected type {} in call to function {name:?}, got {}",
                expected.describe(),
                found.describe()
            ));
        }
    }
    if function.id == Id::Info && args.get(1).is_some_and(|arg| !plain_selector(arg)) {
        return Some("expected label selectors only in the second argument of info".to_owned());
    }
    args.iter().find_map(|arg| border_mode(function, arg))
}

fn plain_selector(expr: &Expr) -> bool {
    matches!(&expr.kind, Kind::Selector(selector)
        if selector.name.is_none() && selector.shift.offset.is_none() && selector.shift.at.is_none())
}

/// `anchored` and `smoothed` change what a window holds; only some functions know how to use that.
fn border_mode(function: &Function, arg: &Expr) -> Option<String> {
    let Kind::Selector(selector) = &arg.bare().kind else {
        return None;
    };
    selector.range.as_ref()?;
    let (word, allowed): (_, &[&str]) = match selector.mode {
        WindowMode::Plain => return None,
        WindowMode::Anchored => ("anchored", &["changes", "delta", "increase", "rate", "resets"]),
        WindowMode::Smoothed => ("smoothed", &["delta", "increase", "rate"]),
    };
    (!allowed.contains(&function.name)).then(|| {
        format!(
            "{word} modifier can only be used with: {} - not with {}",
            allowed.join(", "),
            function.name
        )
    })
}

fn aggregation(aggregate: &Aggregate) -> Option<String> {
    let found = aggregate.expr.value_type();
    if found != ValueType::Vector {
        return Some(format!(
            "expected type instant vector in aggregation expression, got {}",
            found.describe()
        ));
    }
    let expected = aggregate.op.parameter()?;
    let found = aggregate.parameter.as_ref()?.value_type();
    if found != expected {
        return Some(format!(
            "expected type {} in aggregation parameter, got {}",
            expected.describe(),
            found.describe()
        ));
    }
    let Kind::Text(label) = &aggregate.parameter.as_ref()?.bare().kind else {
        return None;
    };
    (aggregate.op == AggregateOp::CountValues && label.is_empty())
        .then(|| format!("invalid label name {label:?}"))
}

fn operation(binary: &Binary) -> Option<String> {
    let (op, matching) = (binary.op, &binary.matching);
    let (lhs, rhs) = (binary.lhs.value_type(), binary.rhs.value_type());
    let operand = |t| matches!(t, ValueType::Scalar | ValueType::Vector);
    if !operand(lhs) || !operand(rhs) {
        return Some("binary expression must contain only scalar and instant vector types".into());
    }
    if binary.bool_result && !op.is_comparison() {
        return Some("bool modifier can only be used on comparison operators".into());
    }
    if op.is_comparison()
        && !binary.bool_result
        && (lhs, rhs) == (ValueType::Scalar, ValueType::Scalar)
    {
        return Some("comparisons between scalars must use BOOL modifier".into());
    }
    let vectors = (lhs, rhs) == (ValueType::Vector, ValueType::Vector);
    if op.is_set() && !vectors {
        return Some(format!(
            "set operator {:?} not allowed in binary scalar expression",
            op.name()
        ));
    }
    let grouped = matching.cardinality != Cardinality::OneToOne;
    let filled = matching.fill_left.is_some() || matching.fill_right.is_some();
    if !vectors && (matching.on || !matching.labels.is_empty() || grouped || filled) {
        return Some("vector matching only allowed between instant vectors".into());
    }
    if op.is_set() && grouped {
        return Some(format!("no grouping allowed for {:?} operation", op.name()));
    }
    if op.is_set() && filled {
        return Some("filling in missing series not allowed for set operators".into());
    }
    let both = matching.labels.iter().find(|label| matching.include.contains(label))?;
    matching.on.then(|| format!("label {both:?} must not occur in ON and GROUP clause at once"))
}

/// The place for the `offset` or `@` of an expression, if it can have one.
pub(super) fn shifted<'e>(expr: &'e mut Expr, word: &str) -> Result<&'e mut Shift, ParseError> {
    match &mut expr.kind {
        Kind::Selector(selector) => Ok(&mut selector.shift),
        Kind::Subquery(subquery) => Ok(&mut subquery.shift),
        _ => Err(ParseError::new(
            expr.at,
            format!(
                "{word} modifier must be preceded by an instant vector selector or range vector \
                 selector or a subquery"
            ),
        )),
    }
}

/// Sets `anchored` or `smoothed`.
pub(super) fn window_mode(expr: &mut Expr, mode: WindowMode) -> Result<(), ParseError> {
    match &mut expr.kind {
        Kind::Selector(selector)
            if selector.mode == WindowMode::Plain
                && (selector.range.is_some() || mode == WindowMode::Smoothed) =>
        {
            selector.mode = mode;
            Ok(())
        }
        _ => Err(ParseError::new(
            expr.at,
            "anchored may stand once after a range selector, smoothed after any selector",
        )),
    }
}

/// Whether a label belongs to the metric rather than to the series: its name, type and unit. What
/// changes the meaning of a value drops them.
#[must_use]
pub(super) fn is_metric_label(name: &str) -> bool {
    name == METRIC_NAME || name == "__type__" || name == "__unit__"
}
