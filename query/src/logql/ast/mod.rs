//! The syntax tree of LogQL. Plain data: what a query says, nothing of how it is answered. Selectors
//! and pipelines are in `log.rs`, metric expressions in `metric.rs`.

mod log;
mod metric;

pub use log::{
    Compare, Extract, FormatValue, LabelFilter, LabelFormat, LineFilterExpr, LineOp, LineTerm,
    LogExpr, Pick, StageExpr,
};
pub use metric::{
    Binary, BinaryOp, Cardinality, Conversion, Grouping, Matching, MetricExpr, RangeAgg, RangeOp,
    Unwrap, VectorAgg, VectorOp,
};

/// A whole query.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// Gives lines.
    Log(LogExpr),
    /// Gives numbers.
    Metric(MetricExpr),
}
