//! The stages of a pipeline, ready to run: one file each.
//!
//! A stage sees one line with its labels and says whether the line goes on. A line that a parser or
//! filter cannot read goes on too, with `__error__` set: nothing is lost silently.

mod decolorize;
mod format;
mod json;
mod label_filter;
mod line;
mod logfmt;
mod pattern;
mod pick;
mod regexp;
mod unpack;

use std::borrow::Cow;

use regex::Regex;
use taffrail_model::Nanos;
use taffrail_model::labels::is_valid_name;

use super::ast::StageExpr;
use super::error::ParseError;
use super::labels::LineLabels;

pub use label_filter::CompiledLabelFilter;

/// `__error__` of a line that is no JSON.
pub const JSON_ERROR: &str = "JSONParserErr";
/// `__error__` of a line with a malformed pair.
pub const LOGFMT_ERROR: &str = "LogfmtParserErr";
/// `__error__` of a label that is no number.
pub const LABEL_FILTER_ERROR: &str = "LabelFilterErr";
/// `__error__` of a template that could not be filled.
pub const TEMPLATE_ERROR: &str = "TemplateFormatErr";
/// `__error__` of an unwrapped label that is no number.
pub const SAMPLE_ERROR: &str = "SampleExtractionErr";

/// One line on its way.
pub struct Row<'r, 'l> {
    /// Its time.
    pub ts: Nanos,
    /// Its text, as the stages so far have left it.
    pub line: Cow<'r, str>,
    /// Its labels.
    pub labels: &'l mut LineLabels,
}

/// A stage, compiled.
#[derive(Debug)]
pub enum Stage {
    /// Filters by text.
    Line(line::LineStage),
    /// Reads JSON.
    Json(json::JsonStage),
    /// Reads `key=value` pairs.
    Logfmt(logfmt::LogfmtStage),
    /// Reads by an expression with named groups.
    Regexp(regexp::RegexpStage),
    /// Reads by a pattern.
    Pattern(pattern::PatternStage),
    /// Reads JSON that Promtail's `pack` wrote.
    Unpack,
    /// Filters by labels.
    Labels(CompiledLabelFilter),
    /// Rewrites the text.
    LineFormat(format::LineFormat),
    /// Rewrites labels.
    LabelFormat(format::LabelFormats),
    /// Takes colours out of the text.
    Decolorize,
    /// Removes labels.
    Drop(Vec<super::ast::Pick>),
    /// Removes all other labels.
    Keep(Vec<super::ast::Pick>),
}

impl Stage {
    /// Compiles a stage.
    ///
    /// # Errors
    /// [`ParseError`] for an expression, pattern, path, address or template that is wrong.
    pub fn compile(expr: &StageExpr) -> Result<Self, ParseError> {
        let stage = match expr {
            StageExpr::Line(filter) => line::LineStage::compile(filter).map(Self::Line),
            StageExpr::Json(extracts) => json::JsonStage::compile(extracts).map(Self::Json),
            StageExpr::Logfmt { strict, keep_empty, extracts } => {
                Ok(Self::Logfmt(logfmt::LogfmtStage::new(*strict, *keep_empty, extracts)))
            }
            StageExpr::Regexp(text) => regexp::RegexpStage::compile(text).map(Self::Regexp),
            StageExpr::Pattern(text) => pattern::PatternStage::compile(text).map(Self::Pattern),
            StageExpr::Unpack => Ok(Self::Unpack),
            StageExpr::Labels(filter) => CompiledLabelFilter::compile(filter).map(Self::Labels),
            StageExpr::LineFormat(text) => format::LineFormat::compile(text).map(Self::LineFormat),
            StageExpr::LabelFormat(formats) => {
                format::LabelFormats::compile(formats).map(Self::LabelFormat)
            }
            StageExpr::Decolorize => Ok(Self::Decolorize),
            StageExpr::Drop(picks) => Ok(Self::Drop(picks.clone())),
            StageExpr::Keep(picks) => Ok(Self::Keep(picks.clone())),
        };
        stage.map_err(ParseError::whole)
    }

    /// Runs the stage. False: the line ends here.
    #[must_use]
    pub fn apply(&self, row: &mut Row<'_, '_>) -> bool {
        match self {
            Self::Line(filter) => return filter.passes(&row.line),
            Self::Labels(filter) => return filter.passes(row.labels),
            Self::Json(parser) => parser.apply(&row.line, row.labels),
            Self::Logfmt(parser) => parser.apply(&row.line, row.labels),
            Self::Regexp(parser) => parser.apply(&row.line, row.labels),
            Self::Pattern(parser) => parser.apply(&row.line, row.labels),
            Self::Unpack => unpack::apply(row),
            Self::LineFormat(format) => format.apply(row),
            Self::LabelFormat(formats) => formats.apply(row),
            Self::Decolorize => decolorize::apply(&mut row.line),
            Self::Drop(picks) => pick::drop_labels(picks, row.labels),
            Self::Keep(picks) => pick::keep_labels(picks, row.labels),
        }
        true
    }

    /// Whether the stage may change the text of a line.
    #[must_use]
    pub fn rewrites_line(expr: &StageExpr) -> bool {
        matches!(expr, StageExpr::Unpack | StageExpr::LineFormat(_) | StageExpr::Decolorize)
    }
}

/// Compiles an expression for the text of lines: not anchored, and the dot matches newlines.
pub(super) fn line_regex(text: &str) -> Result<Regex, String> {
    regex::RegexBuilder::new(text).dot_matches_new_line(true).size_limit(10 << 20).build().map_err(
        |error| {
            let why = error.to_string();
            let why = why.lines().last().unwrap_or_default().trim().trim_start_matches("error: ");
            format!("error parsing regexp: {why}: `{text}`")
        },
    )
}

/// Appends `key` as a label name: what is not allowed becomes `_`.
fn push_sanitized(out: &mut String, key: &str) {
    let key = key.trim();
    if out.is_empty() && key.starts_with(|c: char| c.is_ascii_digit()) {
        out.push('_');
    }
    out.extend(
        key.chars().map(
            |c| {
                if c.is_ascii_alphanumeric() || c == '_' || c == ':' { c } else { '_' }
            },
        ),
    );
}

fn check_label_name(name: &str) -> Result<(), String> {
    if is_valid_name(name) { Ok(()) } else { Err(format!("invalid extracted label name '{name}'")) }
}

#[cfg(test)]
mod tests;
