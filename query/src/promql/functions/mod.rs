//! The functions of the language, a family a file.
//!
//! [`table`] says which there are; [`call`] sends each to its family. A function gets its vectors
//! already evaluated over all steps, or folds the windows of a range.

mod absent;
mod borders;
mod histogram;
mod info;
mod labels;
mod math;
mod over_time;
pub(super) mod quantile;
mod rate;
mod sort;
mod table;
mod time;

pub use table::Function;

use super::ast::{Expr, Kind, WindowMode};
use super::error::Error;
use super::eval::{Evaluator, Value};
use super::frame::{Grid, is_present};

/// Which function it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Id {
    Abs,
    Absent,
    AbsentOverTime,
    Acos,
    Acosh,
    Asin,
    Asinh,
    Atan,
    Atanh,
    AvgOverTime,
    Ceil,
    Changes,
    Clamp,
    ClampMax,
    ClampMin,
    Cos,
    Cosh,
    CountOverTime,
    DayOfMonth,
    DayOfWeek,
    DayOfYear,
    DaysInMonth,
    Deg,
    Delta,
    Deriv,
    DoubleExponentialSmoothing,
    End,
    Exp,
    FirstOverTime,
    Floor,
    HistogramFraction,
    HistogramQuantile,
    HistogramQuantiles,
    Hour,
    Idelta,
    Increase,
    Info,
    Irate,
    LabelJoin,
    LabelReplace,
    LastOverTime,
    Ln,
    Log10,
    Log2,
    MadOverTime,
    MaxOf,
    MaxOverTime,
    MinOf,
    MinOverTime,
    Minute,
    Month,
    Pi,
    PredictLinear,
    PresentOverTime,
    QuantileOverTime,
    Rad,
    Range,
    Rate,
    Resets,
    Round,
    Scalar,
    Sgn,
    Sin,
    Sinh,
    Sort,
    SortByLabel,
    SortByLabelDesc,
    SortDesc,
    Sqrt,
    Start,
    StddevOverTime,
    StdvarOverTime,
    Step,
    SumOverTime,
    Tan,
    Tanh,
    Time,
    Timestamp,
    TsOfFirstOverTime,
    TsOfLastOverTime,
    TsOfMaxOverTime,
    TsOfMinOverTime,
    Vector,
    Year,
}

/// Whether the value of a call depends on the step even when its arguments do not.
pub(super) fn reads_step(function: &Function, args: &[Expr]) -> bool {
    match function.id {
        Id::Time | Id::PredictLinear | Id::Timestamp => true,
        id => args.is_empty() && time::is_date(id),
    }
}

/// Evaluates a call; `at` is where it starts in the text.
pub(super) fn call(
    evaluator: &mut Evaluator<'_>,
    function: &'static Function,
    args: &[Expr],
    grid: Grid,
    at: usize,
) -> Result<Value, Error> {
    let id = function.id;
    if let Some(values) = scalar(evaluator, id, args, grid)? {
        return Ok(Value::Scalar(values));
    }
    let frame = match id {
        Id::Rate | Id::Increase | Id::Delta | Id::Irate | Id::Idelta => {
            rate::evaluate(evaluator, id, &args[0], grid)?
        }
        Id::Absent => absent::absent(evaluator, &args[0], grid)?,
        Id::AbsentOverTime => absent::absent_over_time(evaluator, &args[0], grid)?,
        Id::HistogramQuantile | Id::HistogramFraction | Id::HistogramQuantiles => {
            histogram::evaluate(evaluator, id, args, grid)?
        }
        Id::LabelReplace => labels::replace(evaluator, args, grid)?,
        Id::LabelJoin => labels::join(evaluator, args, grid)?,
        Id::Info => info::evaluate(evaluator, args, grid)?,
        Id::Sort | Id::SortDesc | Id::SortByLabel | Id::SortByLabelDesc => {
            sort::evaluate(evaluator, id, args, grid, at)?
        }
        Id::Vector => {
            let values = evaluator.scalar(&args[0], grid)?;
            evaluator.frame_of(&values, grid)?
        }
        Id::Timestamp => time::timestamp(evaluator, &args[0], grid)?,
        id if time::is_date(id) => time::date(evaluator, id, args.first(), grid)?,
        id if over_time::is_one(id) => over_time::evaluate(evaluator, id, args, grid)?,
        id => math::evaluate(evaluator, id, args, grid)?,
    };
    Ok(Value::Vector(frame))
}

/// The functions that give a scalar.
#[expect(clippy::cast_precision_loss, reason = "times are far below 2^53 ms")]
fn scalar(
    evaluator: &mut Evaluator<'_>,
    id: Id,
    args: &[Expr],
    grid: Grid,
) -> Result<Option<Vec<f64>>, Error> {
    let query = evaluator.query;
    let constant = match id {
        Id::Pi => std::f64::consts::PI,
        Id::Start => query.start as f64 / 1000.0,
        Id::End => query.end() as f64 / 1000.0,
        Id::Range => (query.end() - query.start) as f64 / 1000.0,
        Id::Step if evaluator.instant => 0.0,
        Id::Step => query.step as f64 / 1000.0,
        Id::Time => {
            evaluator.budget.check(grid.steps)?;
            return Ok(Some(grid.times().map(|time| time as f64 / 1000.0).collect()));
        }
        Id::Scalar => return only_value(evaluator, &args[0], grid).map(Some),
        Id::MaxOf | Id::MinOf => {
            let mut values = evaluator.scalar(&args[0], grid)?;
            let others = evaluator.scalar(&args[1], grid)?;
            let choose = if id == Id::MaxOf { math::max } else { math::min };
            for (value, other) in values.iter_mut().zip(others) {
                *value = choose(*value, other);
            }
            return Ok(Some(values));
        }
        _ => return Ok(None),
    };
    evaluator.budget.check(grid.steps)?;
    Ok(Some(vec![constant; grid.steps]))
}

/// `scalar(v)`: the value of the only series that is present, else NaN.
fn only_value(evaluator: &mut Evaluator<'_>, arg: &Expr, grid: Grid) -> Result<Vec<f64>, Error> {
    let frame = evaluator.vector(arg, grid)?;
    let mut found = vec![(f64::NAN, 0_u8); grid.steps];
    for (_, row) in frame.rows() {
        for (slot, value) in found.iter_mut().zip(row).filter(|(_, value)| is_present(**value)) {
            *slot = (*value, slot.1.saturating_add(1));
        }
    }
    Ok(found.into_iter().map(|(value, count)| if count == 1 { value } else { f64::NAN }).collect())
}

/// How a range argument treats the borders of its windows.
fn window_mode(arg: &Expr) -> WindowMode {
    match &arg.bare().kind {
        Kind::Selector(selector) => selector.mode,
        _ => WindowMode::Plain,
    }
}
