//! From the syntax tree to what runs: what the store prunes by, and the stages that are left.
//!
//! A filter on the text moves to the store as long as no stage before it rewrites the text: such
//! filters and the stages before them may change places without changing the answer, since a filter
//! looks at nothing else and a stage that does not rewrite keeps every line's text.

use std::borrow::Cow;

use taffrail_model::Matcher;

use crate::source::{LineFilter, LogRow};

use super::ast::{Conversion, LineOp, LineTerm, LogExpr, RangeAgg, StageExpr};
use super::error::ParseError;
use super::labels::LineLabels;
use super::stage::{CompiledLabelFilter, Row, SAMPLE_ERROR, Stage, line_regex};
use super::units;

/// A pipeline, ready to run.
#[derive(Debug)]
pub struct LogPlan {
    /// Conditions on the stream.
    pub matchers: Vec<Matcher>,
    /// Conditions on the text, for the store.
    pub filters: Vec<LineFilter>,
    /// The rest, in order.
    pub stages: Vec<Stage>,
}

impl LogPlan {
    /// Compiles a log expression.
    ///
    /// # Errors
    /// [`ParseError`] for a stage that is wrong in itself.
    pub fn new(log: &LogExpr) -> Result<Self, ParseError> {
        let mut plan =
            Self { matchers: log.matchers.clone(), filters: Vec::new(), stages: Vec::new() };
        let mut rewritten = false;
        for stage in &log.stages {
            let pushed = if rewritten { None } else { pushed_down(stage)? };
            match pushed {
                Some(filter) => plan.filters.push(filter),
                None => plan.stages.push(Stage::compile(stage)?),
            }
            rewritten |= Stage::rewrites_line(stage);
        }
        Ok(plan)
    }

    /// Sends a line through the stages. False: it does not come out.
    #[must_use]
    pub fn run(&self, row: &mut Row<'_, '_>) -> bool {
        self.stages.iter().all(|stage| stage.apply(row))
    }

    /// Begins a line of the store and sends it through the stages.
    #[must_use]
    pub fn admit<'r>(
        &self,
        stream: &taffrail_model::Labels,
        row: &LogRow<'r>,
        labels: &mut LineLabels,
    ) -> Option<Cow<'r, str>> {
        labels.begin(stream, row);
        let mut line = Row { ts: row.ts, line: Cow::Borrowed(row.line), labels };
        self.run(&mut line).then_some(line.line)
    }
}

/// The store's form of a stage, if it has one.
fn pushed_down(stage: &StageExpr) -> Result<Option<LineFilter>, ParseError> {
    let StageExpr::Line(filter) = stage else {
        return Ok(None);
    };
    let mut texts = Vec::with_capacity(filter.terms.len());
    for term in &filter.terms {
        match term {
            LineTerm::Text(text) => texts.push(text.clone()),
            LineTerm::Ip(_) => return Ok(None),
        }
    }
    let regexes = || {
        texts
            .iter()
            .map(|t| line_regex(t))
            .collect::<Result<Vec<_>, _>>()
            .map_err(ParseError::whole)
    };
    Ok(Some(match filter.op {
        LineOp::Contains => LineFilter::Contains(texts),
        LineOp::NotContains => LineFilter::NotContains(texts),
        LineOp::Matches => LineFilter::Matches(regexes()?),
        LineOp::NotMatches => LineFilter::NotMatches(regexes()?),
        LineOp::Pattern | LineOp::NotPattern => return Ok(None),
    }))
}

/// What number a line stands for.
#[derive(Debug)]
pub struct UnwrapPlan {
    label: String,
    conversion: Conversion,
    filters: Vec<CompiledLabelFilter>,
}

impl UnwrapPlan {
    /// The label that becomes the number and is no label any more.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The number of a line; `None`: the line does not count. A label that is no number sets the
    /// error of the line.
    #[must_use]
    pub fn value(&self, labels: &mut LineLabels) -> Option<f64> {
        let text = labels.get(&self.label).filter(|text| !text.is_empty())?;
        let read = match self.conversion {
            Conversion::Number => units::go_float(text),
            Conversion::Bytes => units::bytes(text).map(|bytes| bytes as f64),
            Conversion::Duration => units::go_duration(text).map(|nanos| nanos as f64 / 1e9),
        };
        let value = read.unwrap_or_else(|why| {
            labels.set_error(SAMPLE_ERROR, &why);
            0.0
        });
        self.filters.iter().all(|filter| filter.passes(labels)).then_some(value)
    }
}

/// A range expression, ready to run.
#[derive(Debug)]
pub struct RangePlan {
    /// Its lines.
    pub log: LogPlan,
    /// Their numbers, if they are not 1.
    pub unwrap: Option<UnwrapPlan>,
}

impl RangePlan {
    /// Compiles the log part of a range aggregation.
    ///
    /// # Errors
    /// As [`LogPlan::new`].
    pub fn new(agg: &RangeAgg) -> Result<Self, ParseError> {
        let log = LogPlan::new(&agg.log)?;
        let Some(unwrap) = &agg.unwrap else {
            return Ok(Self { log, unwrap: None });
        };
        let mut filters = Vec::with_capacity(unwrap.filters.len());
        for filter in &unwrap.filters {
            filters.push(CompiledLabelFilter::compile(filter).map_err(ParseError::whole)?);
        }
        let (label, conversion) = (unwrap.label.clone(), unwrap.conversion);
        Ok(Self { log, unwrap: Some(UnwrapPlan { label, conversion, filters }) })
    }
}
