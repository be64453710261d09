//! The nouns of Taffrail, in reading order: [`time`], [`labels`], [`matcher`], [`record`],
//! [`sample`], [`wire`], [`limits`].
//!
//! Nothing here does I/O, asks for the time or starts a task; the crate depends on no other crate
//! of the workspace. What travels between agent, collector and query engine is made of these types.

pub mod labels;
pub mod level;
pub mod limits;
pub mod matcher;
pub mod record;
pub mod sample;
pub mod time;
pub mod wire;

pub use labels::Labels;
pub use level::Level;
pub use matcher::{MatchOp, Matcher};
pub use record::{LogEntry, SourceRange, StreamEntries};
pub use sample::{MetricKind, Sample, SeriesSamples};
pub use time::{Nanos, TimeRange};
