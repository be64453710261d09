//! Functions of one value at a time: rounding, clamping, logarithms, trigonometry.

use crate::promql::ast::Expr;
use crate::promql::error::Error;
use crate::promql::eval::Evaluator;
use crate::promql::frame::{Frame, Grid};

use super::Id;

pub(super) fn evaluate(
    evaluator: &mut Evaluator<'_>,
    id: Id,
    args: &[Expr],
    grid: Grid,
) -> Result<Frame, Error> {
    let mut parameters = Vec::new();
    for arg in &args[1..] {
        parameters.push(evaluator.scalar(arg, grid)?);
    }
    let frame = evaluator.vector(&args[0], grid)?;
    let parameter = |index: usize, step: usize| parameters.get(index).map(|values| values[step]);
    Ok(match id {
        Id::Clamp => clamp(frame, &parameters[0], &parameters[1]),
        Id::ClampMin => frame.map(|v, step| max(v, parameter(0, step).unwrap_or(v))),
        Id::ClampMax => frame.map(|v, step| min(v, parameter(0, step).unwrap_or(v))),
        Id::Round => frame.map(|v, step| {
            // Dividing by the inverse avoids representation errors of fractions such as 0.1.
            let inverse = 1.0 / parameter(0, step).unwrap_or(1.0);
            (v * inverse + 0.5).floor() / inverse
        }),
        id => frame.map(|value, _| of_value(id, value)),
    })
}

fn clamp(frame: Frame, least: &[f64], most: &[f64]) -> Frame {
    use crate::promql::frame::ABSENT;
    let mut frame = frame.map(|v, step| max(least[step], min(most[step], v)));
    for row in 0..frame.len() {
        for (step, value) in frame.row_mut(row).iter_mut().enumerate() {
            if least[step] > most[step] {
                *value = ABSENT;
            }
        }
    }
    frame
}

/// The larger of two; NaN when one is NaN.
pub(super) fn max(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// The smaller of two; NaN when one is NaN.
pub(super) fn min(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}

fn of_value(id: Id, value: f64) -> f64 {
    match id {
        Id::Abs => value.abs(),
        Id::Ceil => value.ceil(),
        Id::Floor => value.floor(),
        Id::Exp => value.exp(),
        Id::Sqrt => value.sqrt(),
        Id::Ln => value.ln(),
        Id::Log2 => value.log2(),
        Id::Log10 => value.log10(),
        Id::Sgn if value == 0.0 || value.is_nan() => value,
        Id::Sgn => value.signum(),
        Id::Deg => value * 180.0 / std::f64::consts::PI,
        Id::Rad => value * std::f64::consts::PI / 180.0,
        Id::Sin => value.sin(),
        Id::Cos => value.cos(),
        Id::Tan => value.tan(),
        Id::Asin => value.asin(),
        Id::Acos => value.acos(),
        Id::Atan => value.atan(),
        Id::Sinh => value.sinh(),
        Id::Cosh => value.cosh(),
        Id::Tanh => value.tanh(),
        Id::Asinh => value.asinh(),
        Id::Acosh => value.acosh(),
        Id::Atanh => value.atanh(),
        // The table sends no other function here.
        _ => f64::NAN,
    }
}
