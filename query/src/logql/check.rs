//! What is wrong with a tree that the grammar allows and no data can make right.

use super::ast::{Binary, Expr, MetricExpr};
use super::error::ParseError;
use super::plan::{LogPlan, RangePlan};

/// Looks through a whole query; compiles what can be compiled.
pub(super) fn check(expr: &Expr) -> Result<(), ParseError> {
    match expr {
        Expr::Log(log) => LogPlan::new(log).map(drop),
        Expr::Metric(metric) => check_metric(metric),
    }
}

fn check_metric(expr: &MetricExpr) -> Result<(), ParseError> {
    match expr {
        MetricExpr::Range(range) => RangePlan::new(range).map(drop),
        MetricExpr::Vector(vector) => check_metric(&vector.inner),
        MetricExpr::LabelReplace { inner, .. } => check_metric(inner),
        MetricExpr::Literal(_) | MetricExpr::VectorLiteral(_) => Ok(()),
        MetricExpr::Binary(binary) => {
            check_set_operands(binary)?;
            check_metric(&binary.left)?;
            check_metric(&binary.right)
        }
    }
}

/// A set operator needs series on both sides.
fn check_set_operands(binary: &Binary) -> Result<(), ParseError> {
    let matching_on_literal = binary.matching.is_some();
    for (side, expr) in [("left", &binary.left), ("right", &binary.right)] {
        let MetricExpr::Literal(value) = expr else {
            continue;
        };
        let op = binary.op.symbol();
        if binary.op.is_set() {
            return Err(ParseError::whole(format!(
                "unexpected literal for {side} leg of logical/set binary operation ({op}): {value}"
            )));
        }
        if matching_on_literal {
            return Err(ParseError::whole(format!(
                "vector matching only allowed between vectors, the {side} leg of {op} is {value}"
            )));
        }
    }
    Ok(())
}
