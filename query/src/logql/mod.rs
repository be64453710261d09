//! LogQL: text to syntax tree to plan to answer.
//!
//! In reading order: `lexer` and [`parse()`] make an [`ast`] of a text, `print` makes a text of it
//! again; [`plan`] decides what the store prunes and compiles the [`stage`]s that are
//! left; [`log`] runs log queries, [`metric`] metric queries. [`fields`] and [`patterns`] say what lines
//! have in common. [`oracle`] is a store for tests.
//!
//! What is parsed is evaluated, or refused with an error that names it: nothing is half answered.

pub mod ast;
mod check;
pub mod error;
pub mod fields;
mod go_regex;
mod ip;
mod json;
pub mod labels;
mod lexer;
pub mod log;
pub mod metric;
pub mod oracle;
mod parse;
pub mod patterns;
pub mod plan;
mod print;
pub mod stage;
mod template;
pub mod units;

pub use error::{ParseError, QueryError};
pub use parse::{DEPTH_MAX, LogqlOptions, OPERATORS_MAX, parse, parse_selector};

#[cfg(test)]
pub(crate) mod conformance;
