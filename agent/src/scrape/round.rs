//! One scrape of one target, from body to frames. Pure: time and duration are given.
//!
//! A body is taken whole or not at all: after an error in its last line nothing of it is sent, and
//! the series of the target end. Each round also reports on itself (`up` and its siblings).

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use taffrail_model::time::Millis;
use taffrail_model::{Labels, MetricKind};

use super::encode::{Encoder, resource};
use super::exposition::Lines;
use super::line::{FamilyType, Format, Line, ParseError};
use super::series::{Dropped, SeriesCache};

/// The series that each round writes about itself.
const REPORT: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];

/// Why a body is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("{format:?} body, {error}")]
    Parse {
        /// The format it was read in.
        format: Format,
        /// What is wrong, and where.
        error: ParseError,
    },
    /// It holds more samples than a target may have.
    #[error("more than {0} samples")]
    TooMany(usize),
}

/// What came of a round.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What is to be sent.
    pub frames: Vec<Bytes>,
    /// Samples in the body.
    pub scraped: usize,
    /// Samples that were left out because their series came twice.
    pub duplicates: usize,
    /// Samples that were left out because of a label that is too long.
    pub long_labels: usize,
    /// Series that were not there in the last round.
    pub added: usize,
    /// Why the body was refused.
    pub error: Option<Error>,
}

/// A target and what is known of it from its last scrape.
#[derive(Debug)]
pub struct TargetState {
    labels: Labels,
    resource: Box<[u8]>,
    cache: SeriesCache,
    reported: bool,
    samples_max: usize,
}

impl TargetState {
    /// A target that was not scraped yet.
    #[must_use]
    pub fn new(labels: Labels, samples_max: usize) -> Self {
        let resource = resource(&labels);
        Self { labels, resource, cache: SeriesCache::default(), reported: false, samples_max }
    }

    /// Allows so many samples from now on.
    pub fn limit(&mut self, samples_max: usize) {
        self.samples_max = samples_max;
    }

    /// Takes the body that the target answered, or `None` if it did not, at the time `ts`.
    pub fn take(
        &mut self,
        body: Option<(&[u8], Format)>,
        ts: Millis,
        duration: Duration,
    ) -> Outcome {
        self.cache.begin();
        let mut outcome = Outcome::default();
        let read = body.map(|(body, format)| self.read(body, format, ts, &mut outcome));
        let up = matches!(read, Some(Ok(_)));
        let resource = std::mem::take(&mut self.resource);
        let mut encoder = Encoder::new(&resource);
        if let Some(Ok(frames)) = read {
            outcome.frames = frames;
            outcome.added = self.cache.added();
        } else {
            self.cache.end_all(|s| encoder.point(&s.name, s.kind, &s.attributes, ts, None));
            outcome.error = read.and_then(Result::err);
        }
        let kept = if up { outcome.scraped - outcome.duplicates - outcome.long_labels } else { 0 };
        let values = [
            f64::from(u8::from(up)),
            duration.as_secs_f64(),
            outcome.scraped as f64,
            kept as f64,
            outcome.added as f64,
        ];
        for (name, value) in REPORT.into_iter().zip(values) {
            encoder.point(name, MetricKind::Gauge, &[], ts, Some(value));
        }
        outcome.frames.append(&mut encoder.finish());
        self.resource = resource;
        self.reported = true;
        outcome
    }

    /// The end of the target: what tells that all of its series have ended.
    pub fn end(&mut self, ts: Millis) -> Vec<Bytes> {
        // A new round, so that the last one's series count as earlier ones.
        self.cache.begin();
        let mut encoder = Encoder::new(&self.resource);
        self.cache.end_all(|s| encoder.point(&s.name, s.kind, &s.attributes, ts, None));
        if std::mem::take(&mut self.reported) {
            for name in REPORT {
                encoder.point(name, MetricKind::Gauge, &[], ts, None);
            }
        }
        encoder.finish()
    }

    fn read(
        &mut self,
        body: &[u8],
        format: Format,
        ts: Millis,
        outcome: &mut Outcome,
    ) -> Result<Vec<Bytes>, Error> {
        let parse = |error| Error::Parse { format, error };
        let mut encoder = Encoder::new(&self.resource);
        let mut types: HashMap<String, FamilyType> = HashMap::new();
        let mut lines = Lines::new(body, format).map_err(parse)?;
        while let Some(line) = lines.next_line().map_err(parse)? {
            let sample = match line {
                Line::Sample(sample) => sample,
                Line::Type { family, declared } => {
                    types.insert(family.into_owned(), declared);
                    continue;
                }
                Line::Help { .. } | Line::Unit { .. } => continue,
            };
            outcome.scraped += 1;
            if outcome.scraped > self.samples_max {
                return Err(Error::TooMany(self.samples_max));
            }
            let kind = || declared_kind(&types, &sample.name);
            match self.cache.see(&self.labels, &sample, lines.labels(), kind) {
                Ok(series) => encoder.point(
                    &series.name,
                    series.kind,
                    &series.attributes,
                    sample.timestamp.unwrap_or(ts),
                    Some(sample.value),
                ),
                Err(Dropped::Duplicate) => outcome.duplicates += 1,
                Err(Dropped::LongLabel) => outcome.long_labels += 1,
            }
        }
        self.cache.finish(|s| encoder.point(&s.name, s.kind, &s.attributes, ts, None));
        Ok(encoder.finish())
    }
}

/// The type that the body declares for the family of a sample.
fn declared_kind(types: &HashMap<String, FamilyType>, name: &str) -> MetricKind {
    if let Some(declared) = types.get(name) {
        return declared.kind();
    }
    let Some((family, _)) = name.rsplit_once('_') else { return MetricKind::Unknown };
    let suffix = &name[family.len()..];
    match types.get(family).filter(|declared| declared.suffixes().contains(&suffix)) {
        // The time of its creation, whatever the family counts.
        Some(_) if suffix == "_created" => MetricKind::Gauge,
        Some(declared) => declared.kind(),
        None => MetricKind::Unknown,
    }
}

#[cfg(test)]
#[path = "round_tests.rs"]
mod tests;
