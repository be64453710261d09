//! Binary operators on scalars and on a vector and a scalar; two vectors meet in
//! [`super::matching`].

use super::ast::{Binary, BinaryOp};
use super::error::Error;
use super::eval::{Evaluator, Value};
use super::frame::{ABSENT, Frame, Grid, is_present};
use super::matching;

/// Evaluates both operands and joins them.
pub(super) fn evaluate(
    evaluator: &mut Evaluator<'_>,
    binary: &Binary,
    grid: Grid,
) -> Result<Value, Error> {
    let lhs = evaluator.eval(&binary.lhs, grid)?;
    let rhs = evaluator.eval(&binary.rhs, grid)?;
    Ok(match (lhs, rhs) {
        (Value::Scalar(lhs), Value::Scalar(rhs)) => {
            let values = lhs.iter().zip(&rhs).map(|(l, r)| number(binary.op, *l, *r));
            Value::Scalar(values.collect())
        }
        (Value::Vector(lhs), Value::Scalar(rhs)) => {
            Value::Vector(with_scalar(binary, lhs, &rhs, false))
        }
        (Value::Scalar(lhs), Value::Vector(rhs)) => {
            Value::Vector(with_scalar(binary, rhs, &lhs, true))
        }
        (Value::Vector(lhs), Value::Vector(rhs)) => {
            if binary.op.is_set() {
                Value::Vector(matching::set_operation(evaluator, binary, lhs, &rhs)?)
            } else {
                Value::Vector(matching::join(evaluator, binary, &lhs, &rhs)?)
            }
        }
        _ => return Err(Error::execution("an operator has no meaning for strings")),
    })
}

fn with_scalar(binary: &Binary, mut frame: Frame, scalar: &[f64], scalar_left: bool) -> Frame {
    let op = binary.op;
    for row in 0..frame.len() {
        for (value, scalar) in frame.row_mut(row).iter_mut().zip(scalar) {
            if !is_present(*value) {
                continue;
            }
            let (lhs, rhs) = if scalar_left { (*scalar, *value) } else { (*value, *scalar) };
            if !op.is_comparison() || binary.bool_result {
                *value = number(op, lhs, rhs);
            } else if !compares(op, lhs, rhs) {
                *value = ABSENT;
            }
        }
    }
    if !op.is_comparison() || binary.bool_result {
        frame.drop_names();
    }
    frame
}

/// The result of an operator as a number; comparisons give 0 or 1.
pub(super) fn number(op: BinaryOp, lhs: f64, rhs: f64) -> f64 {
    if op.is_comparison() {
        f64::from(u8::from(compares(op, lhs, rhs)))
    } else {
        arithmetic(op, lhs, rhs)
    }
}

/// The result of an arithmetic operator.
pub(super) fn arithmetic(op: BinaryOp, lhs: f64, rhs: f64) -> f64 {
    match op {
        BinaryOp::Add => lhs + rhs,
        BinaryOp::Sub => lhs - rhs,
        BinaryOp::Mul => lhs * rhs,
        BinaryOp::Div => lhs / rhs,
        BinaryOp::Mod => lhs % rhs,
        BinaryOp::Pow => lhs.powf(rhs),
        BinaryOp::Atan2 => lhs.atan2(rhs),
        _ => f64::NAN,
    }
}

/// Whether a comparison holds.
pub(super) fn compares(op: BinaryOp, lhs: f64, rhs: f64) -> bool {
    match op {
        BinaryOp::Equal => lhs == rhs,
        BinaryOp::NotEqual => lhs != rhs,
        BinaryOp::Less => lhs < rhs,
        BinaryOp::LessEqual => lhs <= rhs,
        BinaryOp::Greater => lhs > rhs,
        BinaryOp::GreaterEqual => lhs >= rhs,
        _ => false,
    }
}
