//! From series to one number a pod.
//!
//! A pod's number is the sum over its fresh series of the metric. What is not known is left out and
//! never becomes 0: a series that is stale, has ended or has one sample where two are needed; and a
//! whole pod when one of its fresh series is not a number. The time of an item is that of its oldest
//! sample, the window of a rate what its samples really span.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use http::StatusCode;
use taffrail_model::sample::{METRIC_NAME, is_stale_nan};
use taffrail_model::time::Millis;
use taffrail_model::{Labels, MatchOp, Matcher, MetricKind};
use taffrail_query::source::{Cancel, SeriesSelect, SeriesSource, SourceError};

use super::explain;
use super::path::PodsMetric;
use super::quantity;
use super::selector::Selector;
use super::status::Status;

/// Most series that one answer may be summed from.
const SERIES_MAX: usize = 200_000;

/// How far the clocks of nodes may be ahead of ours.
const AHEAD_MS: Millis = 600_000;

/// How far back an answer looks that can only explain what is missing.
pub(super) const EXPLAIN_BACK_MS: Millis = 3_600_000;

/// Endings under which the rate of a counter is served, too.
pub(super) const RATE_SUFFIXES: [&str; 2] = ["_per_second", ":rate"];

/// What is asked.
pub(super) struct Question<'q> {
    pub(super) metric: &'q PodsMetric,
    /// Condition on the labels of the pods.
    pub(super) pods: &'q Selector,
    /// Condition on the labels of the series.
    pub(super) series: &'q Selector,
}

/// What "fresh" means at the moment of asking.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    pub(super) now: Millis,
    pub(super) stale_after: Millis,
    pub(super) window: Millis,
}

impl Timing {
    pub(super) fn new(now: Millis, stale_after: Duration, window: Duration) -> Self {
        let millis = |d: Duration| Millis::try_from(d.as_millis()).unwrap_or(Millis::MAX / 4);
        Self { now, stale_after: millis(stale_after), window: millis(window).max(1) }
    }

    fn is_fresh(&self, ts: Millis) -> bool {
        ts >= self.now.saturating_sub(self.stale_after)
    }
}

/// One pod's number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) pod: String,
    pub(super) timestamp: Millis,
    /// What a rate's samples span.
    pub(super) window: Option<Millis>,
    /// The number as Kubernetes writes it.
    pub(super) quantity: String,
}

/// Why a pod has no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    /// The newest sample is too old.
    Stale,
    /// The series has ended: its target went away.
    Ended,
    /// A rate needs two samples.
    OneSample,
    /// NaN or infinite.
    NotFinite,
    /// Beyond what a quantity can say.
    TooBig,
}

/// What was found of one pod.
#[derive(Debug)]
pub(super) struct Pod {
    /// Whether any of its series satisfies the selectors.
    pub(super) matched: bool,
    /// Labels of one of its series.
    pub(super) example: Labels,
    /// Time of its newest sample.
    pub(super) newest: Millis,
    pub(super) number: Result<(f64, Millis, Option<Millis>), Trouble>,
}

/// How a metric is read from its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    Last,
    Rate,
}

/// Answers a question, or explains why nobody can.
pub(super) fn ask(
    source: &dyn SeriesSource,
    question: &Question<'_>,
    timing: Timing,
    cancel: &Cancel,
) -> Result<Vec<Item>, Status> {
    let mut no_counter = None;
    for (name, measure) in readings(&question.metric.metric) {
        let mut reading = Reading {
            source,
            question,
            timing,
            cancel,
            name: &name,
            measure,
            known: BTreeSet::new(),
        };
        if measure == Measure::Rate && !is_counter(&source.metadata(), &name) {
            if !reading.pods(EXPLAIN_BACK_MS, false)?.is_empty() {
                no_counter = Some(name);
            }
            continue;
        }
        let back = match measure {
            Measure::Last => timing.stale_after,
            Measure::Rate => timing.stale_after.saturating_add(timing.window),
        };
        let found = items(&reading.pods(back, true)?);
        if !found.is_empty() {
            return Ok(found);
        }
        if !question.pods.is_empty() {
            reading.known = reading.pods_by_labels()?;
            let found = items(&reading.pods(back, false)?);
            if !found.is_empty() {
                return Ok(found);
            }
        }
        let all = reading.pods(EXPLAIN_BACK_MS.max(back), false)?;
        if !all.is_empty() {
            return Err(Status::not_found(explain::not_fresh(source, question, timing, &all)));
        }
    }
    Err(Status::not_found(match no_counter {
        Some(name) => explain::no_counter(question, &name),
        None => explain::unknown(source, question, timing),
    }))
}

/// The series that a metric's name may mean, and how.
fn readings(metric: &str) -> Vec<(String, Measure)> {
    let mut readings = vec![(metric.to_owned(), Measure::Last)];
    let base = RATE_SUFFIXES.iter().find_map(|suffix| metric.strip_suffix(suffix));
    if let Some(base) = base.filter(|base| !base.is_empty()) {
        readings.push((base.to_owned(), Measure::Rate));
        if !base.ends_with("_total") {
            readings.push((format!("{base}_total"), Measure::Rate));
        }
    }
    readings
}

/// Whether a series only goes up: declared so, part of a histogram or summary, or named so.
pub(super) fn is_counter(kinds: &BTreeMap<String, MetricKind>, name: &str) -> bool {
    match kinds.get(name) {
        Some(MetricKind::Counter) => return true,
        Some(MetricKind::Unknown) | None => {}
        Some(_) => return false,
    }
    let of = |suffix: &str| name.strip_suffix(suffix).and_then(|family| kinds.get(family));
    let parts = ["_bucket", "_count", "_sum"].iter().filter_map(|suffix| of(suffix));
    name.ends_with("_total")
        || parts.into_iter().any(|k| matches!(k, MetricKind::Histogram | MetricKind::Summary))
        || of("_total").is_some_and(|kind| *kind == MetricKind::Counter)
}

fn items(pods: &BTreeMap<String, Pod>) -> Vec<Item> {
    let mut items = Vec::with_capacity(pods.len());
    for (name, pod) in pods.iter().filter(|(_, pod)| pod.matched) {
        let Ok((value, timestamp, window)) = pod.number else { continue };
        if let Some(quantity) = quantity::format(value) {
            items.push(Item { pod: name.clone(), timestamp, window, quantity });
        }
    }
    items
}

/// One way to read a metric.
struct Reading<'r> {
    source: &'r dyn SeriesSource,
    question: &'r Question<'r>,
    timing: Timing,
    cancel: &'r Cancel,
    name: &'r str,
    measure: Measure,
    /// Pods that satisfy the selector by what other series say of them.
    known: BTreeSet<String>,
}

impl Reading<'_> {
    /// The pods of which any series carries labels that satisfy the selector: not every source of
    /// metrics knows the labels of its pod.
    fn pods_by_labels(&self) -> Result<BTreeSet<String>, Status> {
        let selector = self.question.pods;
        let mut matchers =
            vec![Matcher::equal("namespace", &self.question.metric.namespace), some_pod()];
        matchers.extend(selector.matchers());
        let start = self.timing.now.saturating_sub(EXPLAIN_BACK_MS);
        let series = self.source.series(&matchers, start, self.timing.now);
        let series = series.map_err(|error| failed(&error))?;
        let satisfying = series.iter().filter(|labels| selector.matches(labels));
        Ok(satisfying.filter_map(|labels| labels.get("pod")).map(str::to_owned).collect())
    }

    /// What there is of each pod, looking `back` so far. When `narrow`, only what can match.
    fn pods(&self, back: Millis, narrow: bool) -> Result<BTreeMap<String, Pod>, Status> {
        let now = self.timing.now;
        let select = SeriesSelect {
            matchers: self.matchers(narrow),
            start: now.saturating_sub(back),
            end: now.saturating_add(AHEAD_MS),
            cancel: self.cancel.clone(),
        };
        let mut pods: BTreeMap<String, Pod> = BTreeMap::new();
        let mut count = 0;
        let selected = self.source.select(&select, &mut |labels, times, values| {
            count += 1;
            if count > SERIES_MAX {
                return ControlFlow::Break(());
            }
            self.add(&mut pods, labels, times, values);
            ControlFlow::Continue(())
        });
        selected.map_err(|error| failed(&error))?;
        if count > SERIES_MAX {
            return Err(Status {
                code: StatusCode::PAYLOAD_TOO_LARGE,
                message: format!(
                    "metric {}: more than {SERIES_MAX} series in namespace {}: narrow the selector",
                    self.question.metric.metric, self.question.metric.namespace
                ),
            });
        }
        Ok(pods)
    }

    fn matchers(&self, narrow: bool) -> Vec<Matcher> {
        let wanted = self.question.metric;
        let mut matchers = vec![
            Matcher::equal(METRIC_NAME, self.name),
            Matcher::equal("namespace", &wanted.namespace),
            wanted.pod.as_ref().map_or_else(some_pod, |pod| Matcher::equal("pod", pod)),
        ];
        if narrow {
            matchers.extend(self.question.pods.matchers());
            matchers.extend(self.question.series.matchers());
        }
        matchers
    }

    fn add(
        &self,
        pods: &mut BTreeMap<String, Pod>,
        labels: &Labels,
        times: &[Millis],
        values: &[f64],
    ) {
        let (Some(name), Some(newest)) = (labels.get("pod"), times.last()) else { return };
        let matched = self.question.series.matches(labels)
            && (self.question.pods.matches(labels) || self.known.contains(name));
        let number = self.number(times, values);
        let pod = pods.entry(name.to_owned()).or_insert_with(|| Pod {
            matched: false,
            example: labels.clone(),
            newest: Millis::MIN,
            number: Err(Trouble::Stale),
        });
        // Series that are not asked for count only while none is that is.
        if matched && !pod.matched {
            *pod = Pod { matched, example: labels.clone(), newest: *newest, number };
        } else if matched == pod.matched {
            let first = pod.newest == Millis::MIN;
            pod.newest = pod.newest.max(*newest);
            pod.number = if first { number } else { joined(pod.number, number) };
        }
    }

    /// The number of one series, its time, and the window of a rate.
    fn number(
        &self,
        times: &[Millis],
        values: &[f64],
    ) -> Result<(f64, Millis, Option<Millis>), Trouble> {
        let (Some(last), Some(value)) = (times.last(), values.last()) else {
            return Err(Trouble::Stale);
        };
        if is_stale_nan(*value) {
            return Err(Trouble::Ended);
        }
        if !self.timing.is_fresh(*last) {
            return Err(Trouble::Stale);
        }
        match self.measure {
            Measure::Last if value.is_finite() => Ok((*value, *last, None)),
            Measure::Last => Err(Trouble::NotFinite),
            Measure::Rate => rate(times, values, self.timing.window)
                .map(|(rate, window)| (rate, *last, Some(window))),
        }
    }
}

/// The matcher of series that belong to a pod.
pub(super) fn some_pod() -> Matcher {
    Matcher::new("pod", MatchOp::NotEqual, "", true).expect("no regular expression")
}

/// The increase a second over the last samples that span at most `window`, or over the last two when
/// those are further apart; and what they span. A value below the one before is a restart from 0.
fn rate(times: &[Millis], values: &[f64], window: Millis) -> Result<(f64, Millis), Trouble> {
    let last = *times.last().ok_or(Trouble::OneSample)?;
    let from = times.partition_point(|ts| *ts < last.saturating_sub(window));
    let from = from.min(times.len().saturating_sub(2));
    let mut increase = 0.0;
    let mut before: Option<(Millis, f64)> = None;
    let mut first = last;
    for (ts, value) in times[from..].iter().zip(&values[from..]) {
        // A gap marked as stale: what comes after it continues or restarts the counter.
        if is_stale_nan(*value) {
            continue;
        }
        if !value.is_finite() {
            return Err(Trouble::NotFinite);
        }
        match before {
            None => first = *ts,
            Some((_, old)) if *value < old => increase += value,
            Some((_, old)) => increase += value - old,
        }
        before = Some((*ts, *value));
    }
    let span = last.saturating_sub(first);
    if span <= 0 {
        return Err(Trouble::OneSample);
    }
    Ok((increase * 1000.0 / span as f64, span))
}

type Number = Result<(f64, Millis, Option<Millis>), Trouble>;

/// The sum of two series of a pod. One that is not a number spoils the pod, one that is not there
/// any more does not.
fn joined(a: Number, b: Number) -> Number {
    match (a, b) {
        (Ok((a, a_time, a_window)), Ok((b, b_time, b_window))) => {
            let sum = a + b;
            if sum.is_finite() {
                Ok((sum, a_time.min(b_time), a_window.max(b_window)))
            } else {
                Err(Trouble::NotFinite)
            }
        }
        (Err(Trouble::NotFinite), _) | (_, Err(Trouble::NotFinite)) => Err(Trouble::NotFinite),
        (Ok(number), Err(_)) | (Err(_), Ok(number)) => Ok(number),
        (Err(a), Err(b)) => Err(a.max(b)),
    }
}

/// What a failure of the store is to the client.
pub(super) fn failed(error: &SourceError) -> Status {
    let code = match error {
        SourceError::Cancelled(_) => StatusCode::GATEWAY_TIMEOUT,
        SourceError::TooMuch(_) => StatusCode::PAYLOAD_TOO_LARGE,
        SourceError::Storage(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Status { code, message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rates_handle_restarts_and_gaps() {
        let stale = taffrail_model::sample::stale_nan();
        type Case = (&'static [Millis], [f64; 3], Result<(f64, Millis), Trouble>);
        let cases: [Case; 8] = [
            (&[0, 60_500], [0.0, 121.0, 0.0], Ok((2.0, 60_500))),
            (&[0, 10_000, 20_000], [0.0, 10.0, 30.0], Ok((1.5, 20_000))),
            (&[0, 10_000, 20_000], [100.0, 5.0, 15.0], Ok((0.75, 20_000))),
            (&[0, 10_000, 20_000], [0.0, stale, 20.0], Ok((1.0, 20_000))),
            (&[0, 50_000, 100_000], [0.0, 10.0, 60.0], Ok((1.0, 50_000))),
            (&[0], [7.0, 0.0, 0.0], Err(Trouble::OneSample)),
            (&[0, 1000], [7.0, f64::NAN, 0.0], Err(Trouble::NotFinite)),
            (&[], [0.0; 3], Err(Trouble::OneSample)),
        ];
        for (times, values, expected) in cases {
            let values = &values[..times.len()];
            assert_eq!(rate(times, values, 60_000), expected, "{values:?}");
        }
    }

    proptest! {
        #[test]
        fn a_counter_that_never_restarts_rises_by_its_difference(
            steps in proptest::collection::vec((1i64..20_000, 0u32..1000), 1..20),
        ) {
            let (mut times, mut values) = (vec![0], vec![0.0]);
            for (step, more) in steps {
                times.push(times[times.len() - 1] + step);
                values.push(values[values.len() - 1] + f64::from(more));
            }
            let last = times.len() - 1;
            let (rate, span) = rate(&times, &values, Millis::MAX).expect("two samples");
            prop_assert_eq!(span, times[last]);
            prop_assert!((rate * span as f64 / 1000.0 - values[last]).abs() < 1e-6);
        }
    }

    #[test]
    fn counters_are_declared_or_named_so() {
        let kinds = BTreeMap::from([
            ("hits".to_owned(), MetricKind::Counter),
            ("rt".to_owned(), MetricKind::Histogram),
            ("odd_total".to_owned(), MetricKind::Gauge),
        ]);
        let cases = [
            ("hits", true),
            ("x_total", true),
            ("odd_total", false),
            ("rt_count", true),
            ("y", false),
        ];
        for (name, expected) in cases {
            assert_eq!(is_counter(&kinds, name), expected, "{name}");
        }
    }

    #[test]
    fn names_mean_series_or_rates() {
        let names = |metric| {
            readings(metric).into_iter().map(|(n, m)| format!("{n} {m:?}")).collect::<Vec<_>>()
        };
        assert_eq!(names("a"), ["a Last"]);
        assert_eq!(names("a_per_second"), ["a_per_second Last", "a Rate", "a_total Rate"]);
        assert_eq!(names("a_total:rate"), ["a_total:rate Last", "a_total Rate"]);
        assert_eq!(names(":rate"), [":rate Last"]);
    }
}
