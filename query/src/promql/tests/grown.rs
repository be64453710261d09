//! Queries grown at random from the grammar and the table of functions: whatever is asked, the engine
//! answers or says why not, within its budget, and never panics.

use proptest::prelude::*;
use taffrail_model::Labels;

use crate::promql::oracle::VecSource;
use crate::promql::{Function, Options, Query, Steps, ValueType, instant, range};
use crate::source::Cancel;

const AGGREGATES: [&str; 14] = [
    "sum",
    "avg",
    "count",
    "min",
    "max",
    "group",
    "stddev",
    "stdvar",
    "topk",
    "bottomk",
    "limitk",
    "limit_ratio",
    "quantile",
    "count_values",
];
const OPERATORS: [&str; 16] = [
    "+",
    "-",
    "*",
    "/",
    "%",
    "^",
    "atan2",
    "== bool",
    "!=",
    "<",
    ">= bool",
    "> on(x)",
    "and",
    "or",
    "unless on(y)",
    "+ on(x, y) group_left(z)",
];

/// A choice of numbers that a query is grown from; the same choices give the same query.
struct Choices<'c> {
    numbers: std::slice::Iter<'c, u32>,
}

impl Choices<'_> {
    fn next(&mut self, below: usize) -> usize {
        self.numbers.next().map_or(0, |number| *number as usize % below)
    }

    fn of<'t>(&mut self, items: &[&'t str]) -> &'t str {
        items[self.next(items.len())]
    }

    fn grow(&mut self, kind: ValueType, depth: usize) -> String {
        if depth == 0 || kind == ValueType::String {
            return self.leaf(kind).to_owned();
        }
        match (self.next(4), kind) {
            (0, _) => self.leaf(kind).to_owned(),
            (_, ValueType::Matrix) => {
                let inner = self.grow(ValueType::Vector, depth - 1);
                let window = self.of(&["[2m:30s]", "[5m:]", "[1m:1m] offset 1m", "[3m:1m] @ 120"]);
                format!("({inner}){window}")
            }
            (1, ValueType::Vector) => self.aggregate(depth),
            (1 | 2, kind) => {
                let (lhs, rhs) = (self.grow(kind, depth - 1), self.grow(kind, depth - 1));
                format!("({lhs} {} {rhs})", self.of(&OPERATORS))
            }
            (_, kind) => self.call(kind, depth),
        }
    }

    fn aggregate(&mut self, depth: usize) -> String {
        let op = self.of(&AGGREGATES);
        let parameter = match op {
            "topk" | "bottomk" | "limitk" | "limit_ratio" | "quantile" => {
                self.grow(ValueType::Scalar, depth - 1) + ", "
            }
            "count_values" => "'v', ".to_owned(),
            _ => String::new(),
        };
        let grouping = self.of(&["", " by (x)", " without (y)", " by (__name__, z)"]);
        format!("{op}{grouping}({parameter}{})", self.grow(ValueType::Vector, depth - 1))
    }

    fn call(&mut self, kind: ValueType, depth: usize) -> String {
        let all: Vec<&Function> = Function::all().iter().filter(|f| f.returns == kind).collect();
        let function = all[self.next(all.len())];
        let most = function.args_max().unwrap_or(function.args.len() + 2);
        let count = function.args_min() + self.next(most - function.args_min() + 1);
        let args: Vec<String> = (0..count)
            .filter_map(|index| Some(self.grow(function.arg(index)?, depth - 1)))
            .collect();
        format!("{}({})", function.name, args.join(", "))
    }

    fn leaf(&mut self, kind: ValueType) -> &'static str {
        match kind {
            ValueType::Scalar => {
                self.of(&["0", "1", "-2.5", "NaN", "Inf", "1e300", "time()", "0.5"])
            }
            ValueType::Vector => self.of(&[
                "m",
                "m{x='1'}",
                "m offset 1m",
                "m @ 90",
                "{__name__=~'m|n'}",
                "n",
                "m @ end()",
                "vector(1)",
                "m smoothed",
            ]),
            ValueType::Matrix => {
                self.of(&["m[1m]", "n[5m]", "m[90s] offset -30s", "m[2m] anchored"])
            }
            ValueType::String => self.of(&["'x'", "''", "'(.*)'", "'$1'", "'__name__'", "'('"]),
        }
    }
}

fn store() -> VecSource {
    let mut source = VecSource::new();
    for index in 0..8_u32 {
        let labels = Labels::from_pairs([
            ("__name__", if index < 5 { "m" } else { "n" }.to_owned()),
            ("x", (index % 3).to_string()),
            ("y", (index / 2).to_string()),
            ("le", ["0.5", "1", "+Inf", "odd"][index as usize % 4].to_owned()),
        ]);
        let values = [0.0, 1.0, -1.0, f64::NAN, f64::INFINITY, 1e308, 5e-324, 7.0];
        let value = |i: i64| values[(i as usize + index as usize) % values.len()];
        source.push(labels, (0..12).map(|i| (i * 30_000, value(i))));
    }
    source
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn nothing_panics(numbers in proptest::collection::vec(any::<u32>(), 60), scalar in any::<bool>()) {
        let kind = if scalar { ValueType::Scalar } else { ValueType::Vector };
        let text = Choices { numbers: numbers.iter() }.grow(kind, 4);
        let Ok(query) = Query::new(&text) else {
            return Ok(());
        };
        let printed = query.expr.to_string();
        let again = Query::new(&printed).map(|query| query.expr.to_string());
        prop_assert_eq!(again.ok(), Some(printed));
        let (source, options) = (store(), Options { samples_max: 20_000, ..Options::default() });
        let steps = Steps { start: 0, end: 400_000, step: 25_000 };
        let at_once = instant(&source, &query, 200_000, &options, &Cancel::new());
        let over_time = range(&source, &query, steps, &options, &Cancel::new());
        for error in [at_once.err(), over_time.err()].into_iter().flatten() {
            // The parser has checked all types.
            prop_assert!(!error.to_string().starts_with("expected a"), "{}: {}", text, error);
        }
    }
}
