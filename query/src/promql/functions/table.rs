//! Which functions there are, what they take and give.

use crate::promql::ast::ValueType::{self, Matrix, Scalar, String, Vector};

use super::Id;

/// A function of the language.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// Which one it is.
    pub(in crate::promql) id: Id,
    /// The types of its arguments.
    pub args: &'static [ValueType],
    /// How many of the last arguments may be left out.
    pub optional: usize,
    /// Whether the last argument may be repeated, or left out.
    pub repeats: bool,
    /// The type of its value.
    pub returns: ValueType,
}

impl Function {
    /// Finds a function by its name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        FUNCTIONS.iter().find(|function| function.name == name)
    }

    /// Whether the function exists in Prometheus, but needs native histograms or features that this
    /// engine does not have.
    #[must_use]
    pub fn is_refused(name: &str) -> bool {
        REFUSED.contains(&name)
    }

    /// The fewest arguments of a call.
    #[must_use]
    pub fn args_min(&self) -> usize {
        self.args.len() - self.optional - usize::from(self.repeats)
    }

    /// The most arguments of a call, if there is a most.
    #[must_use]
    pub fn args_max(&self) -> Option<usize> {
        (!self.repeats).then_some(self.args.len())
    }

    /// The type of the argument at `index`.
    #[must_use]
    pub fn arg(&self, index: usize) -> Option<ValueType> {
        self.args.get(index.min(self.args.len().checked_sub(1)?)).copied()
    }
}

const REFUSED: [&str; 7] = [
    "histogram_avg",
    "histogram_count",
    "histogram_stddev",
    "histogram_stdvar",
    "histogram_sum",
    "integral",
    "start_timestamp",
];

const fn function(
    name: &'static str,
    id: Id,
    args: &'static [ValueType],
    returns: ValueType,
) -> Function {
    Function { name, id, args, optional: 0, repeats: false, returns }
}

const fn over_vector(name: &'static str, id: Id) -> Function {
    function(name, id, &[Vector], Vector)
}

const fn over_range(name: &'static str, id: Id) -> Function {
    function(name, id, &[Matrix], Vector)
}

/// A function of a vector of times that takes the step's time when it is left out.
const fn over_time(name: &'static str, id: Id) -> Function {
    Function { optional: 1, ..function(name, id, &[Vector], Vector) }
}

const fn sorting(name: &'static str, id: Id) -> Function {
    Function { repeats: true, ..function(name, id, &[Vector, String], Vector) }
}

const fn scalar(name: &'static str, id: Id) -> Function {
    function(name, id, &[], Scalar)
}

static FUNCTIONS: [Function; 84] = [
    over_vector("abs", Id::Abs),
    over_vector("absent", Id::Absent),
    over_range("absent_over_time", Id::AbsentOverTime),
    over_vector("acos", Id::Acos),
    over_vector("acosh", Id::Acosh),
    over_vector("asin", Id::Asin),
    over_vector("asinh", Id::Asinh),
    over_vector("atan", Id::Atan),
    over_vector("atanh", Id::Atanh),
    over_range("avg_over_time", Id::AvgOverTime),
    over_vector("ceil", Id::Ceil),
    over_range("changes", Id::Changes),
    function("clamp", Id::Clamp, &[Vector, Scalar, Scalar], Vector),
    function("clamp_max", Id::ClampMax, &[Vector, Scalar], Vector),
    function("clamp_min", Id::ClampMin, &[Vector, Scalar], Vector),
    over_vector("cos", Id::Cos),
    over_vector("cosh", Id::Cosh),
    over_range("count_over_time", Id::CountOverTime),
    over_time("day_of_month", Id::DayOfMonth),
    over_time("day_of_week", Id::DayOfWeek),
    over_time("day_of_year", Id::DayOfYear),
    over_time("days_in_month", Id::DaysInMonth),
    over_vector("deg", Id::Deg),
    over_range("delta", Id::Delta),
    over_range("deriv", Id::Deriv),
    function(
        "double_exponential_smoothing",
        Id::DoubleExponentialSmoothing,
        &[Matrix, Scalar, Scalar],
        Vector,
    ),
    scalar("end", Id::End),
    over_vector("exp", Id::Exp),
    over_range("first_over_time", Id::FirstOverTime),
    over_vector("floor", Id::Floor),
    function("histogram_fraction", Id::HistogramFraction, &[Scalar, Scalar, Vector], Vector),
    function("histogram_quantile", Id::HistogramQuantile, &[Scalar, Vector], Vector),
    Function {
        repeats: false,
        optional: 9,
        ..function(
            "histogram_quantiles",
            Id::HistogramQuantiles,
            &[
                Vector, String, Scalar, Scalar, Scalar, Scalar, Scalar, Scalar, Scalar, Scalar,
                Scalar, Scalar,
            ],
            Vector,
        )
    },
    over_time("hour", Id::Hour),
    over_range("idelta", Id::Idelta),
    over_range("increase", Id::Increase),
    Function { optional: 1, ..function("info", Id::Info, &[Vector, Vector], Vector) },
    over_range("irate", Id::Irate),
    Function {
        repeats: true,
        ..function("label_join", Id::LabelJoin, &[Vector, String, String, String], Vector)
    },
    function("label_replace", Id::LabelReplace, &[Vector, String, String, String, String], Vector),
    over_range("last_over_time", Id::LastOverTime),
    over_vector("ln", Id::Ln),
    over_vector("log10", Id::Log10),
    over_vector("log2", Id::Log2),
    over_range("mad_over_time", Id::MadOverTime),
    function("max_of", Id::MaxOf, &[Scalar, Scalar], Scalar),
    over_range("max_over_time", Id::MaxOverTime),
    function("min_of", Id::MinOf, &[Scalar, Scalar], Scalar),
    over_range("min_over_time", Id::MinOverTime),
    over_time("minute", Id::Minute),
    over_time("month", Id::Month),
    scalar("pi", Id::Pi),
    function("predict_linear", Id::PredictLinear, &[Matrix, Scalar], Vector),
    over_range("present_over_time", Id::PresentOverTime),
    function("quantile_over_time", Id::QuantileOverTime, &[Scalar, Matrix], Vector),
    over_vector("rad", Id::Rad),
    scalar("range", Id::Range),
    over_range("rate", Id::Rate),
    over_range("resets", Id::Resets),
    Function { optional: 1, ..function("round", Id::Round, &[Vector, Scalar], Vector) },
    function("scalar", Id::Scalar, &[Vector], Scalar),
    over_vector("sgn", Id::Sgn),
    over_vector("sin", Id::Sin),
    over_vector("sinh", Id::Sinh),
    over_vector("sort", Id::Sort),
    sorting("sort_by_label", Id::SortByLabel),
    sorting("sort_by_label_desc", Id::SortByLabelDesc),
    over_vector("sort_desc", Id::SortDesc),
    over_vector("sqrt", Id::Sqrt),
    scalar("start", Id::Start),
    over_range("stddev_over_time", Id::StddevOverTime),
    over_range("stdvar_over_time", Id::StdvarOverTime),
    scalar("step", Id::Step),
    over_range("sum_over_time", Id::SumOverTime),
    over_vector("tan", Id::Tan),
    over_vector("tanh", Id::Tanh),
    scalar("time", Id::Time),
    over_vector("timestamp", Id::Timestamp),
    over_range("ts_of_first_over_time", Id::TsOfFirstOverTime),
    over_range("ts_of_last_over_time", Id::TsOfLastOverTime),
    over_range("ts_of_max_over_time", Id::TsOfMaxOverTime),
    over_range("ts_of_min_over_time", Id::TsOfMinOverTime),
    function("vector", Id::Vector, &[Scalar], Vector),
    over_time("year", Id::Year),
];
