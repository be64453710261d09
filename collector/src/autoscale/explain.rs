//! Sentences for the person who reads `kubectl describe hpa`: what was looked for, what there is,
//! how old it is.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use taffrail_model::Matcher;
use taffrail_model::sample::METRIC_NAME;
use taffrail_query::source::{Cancel, SeriesSelect, SeriesSource};

use super::quantity;
use super::values::{EXPLAIN_BACK_MS, Pod, Question, Timing, Trouble, some_pod};

/// Names that a sentence lists at the most.
const NAMES_MAX: usize = 8;

/// Characters of an example.
const EXAMPLE_CHARS_MAX: usize = 400;

/// There are such series, but no fresh one that is asked for.
pub(super) fn not_fresh(
    source: &dyn SeriesSource,
    question: &Question<'_>,
    timing: Timing,
    pods: &BTreeMap<String, Pod>,
) -> String {
    let metric = &question.metric.metric;
    let matched: Vec<(&String, &Pod)> = pods.iter().filter(|(_, pod)| pod.matched).collect();
    if matched.is_empty() {
        return none_matches(question, pods);
    }
    let seconds = timing.stale_after / 1000;
    let mut text = format!(
        "metric {metric}: {} in namespace {} {}{}, 0 have a usable sample of the last {seconds}s",
        counted(matched.len(), "pod"),
        question.metric.namespace,
        if matched.len() == 1 { "has it" } else { "have it" },
        selectors(question),
    );
    if let Some((name, pod)) = matched.iter().max_by_key(|(_, pod)| pod.newest) {
        let age = timing.now.saturating_sub(pod.newest).max(0) / 1000;
        text.push_str(&format!("; newest {age}s old ({name})"));
    }
    let mut troubles: BTreeMap<Trouble, Vec<&str>> = BTreeMap::new();
    for (name, pod) in &matched {
        troubles.entry(trouble(pod)).or_default().push(name);
    }
    for (trouble, names) in troubles {
        text.push_str(&format!("; {} {}", in_words(trouble), listed(&names)));
    }
    let failing = failing_scrapes(source, question, timing);
    let failing: Vec<&str> =
        matched.iter().map(|(name, _)| name.as_str()).filter(|n| failing.contains(*n)).collect();
    if !failing.is_empty() {
        text.push_str(&format!("; the last scrape failed: {}", listed(&failing)));
    }
    text
}

/// Pods whose newest `up` is 0.
fn failing_scrapes(
    source: &dyn SeriesSource,
    question: &Question<'_>,
    timing: Timing,
) -> BTreeSet<String> {
    let namespace = Matcher::equal("namespace", &question.metric.namespace);
    let select = SeriesSelect {
        matchers: vec![Matcher::equal(METRIC_NAME, "up"), namespace, some_pod()],
        start: timing.now.saturating_sub(EXPLAIN_BACK_MS),
        end: timing.now,
        cancel: Cancel::new(),
    };
    let mut failing = BTreeSet::new();
    let selected = source.select(&select, &mut |labels, _, values| {
        if values.last() == Some(&0.0) {
            failing.extend(labels.get("pod").map(str::to_owned));
        }
        ControlFlow::Continue(())
    });
    // What cannot be found out is left unsaid.
    selected.map_or_else(|_| BTreeSet::new(), |()| failing)
}

fn none_matches(question: &Question<'_>, pods: &BTreeMap<String, Pod>) -> String {
    let mut text = format!(
        "metric {}: {} in namespace {} {} it, but none is{}",
        question.metric.metric,
        counted(pods.len(), "pod"),
        question.metric.namespace,
        if pods.len() == 1 { "has" } else { "have" },
        selectors(question),
    );
    if let Some((name, pod)) = pods.iter().next() {
        let labels: String = pod.example.to_string().chars().take(EXAMPLE_CHARS_MAX).collect();
        text.push_str(&format!("; for example {name} has the labels {labels}"));
    }
    text
}

/// The base of a rate is no counter.
pub(super) fn no_counter(question: &Question<'_>, base: &str) -> String {
    format!(
        "metric {}: {base} is not a counter, so it has no rate: ask for {base} itself",
        question.metric.metric
    )
}

/// There is no such series at all.
pub(super) fn unknown(
    source: &dyn SeriesSource,
    question: &Question<'_>,
    timing: Timing,
) -> String {
    let wanted = question.metric;
    let whom = match &wanted.pod {
        None => format!("no pod in namespace {} had it", wanted.namespace),
        Some(pod) => format!("pod {pod} in namespace {} did not have it", wanted.namespace),
    };
    let mut text = format!("metric {}: {whom} within the last hour", wanted.metric);
    let matchers = [Matcher::equal("namespace", &wanted.namespace), some_pod()];
    let start = timing.now.saturating_sub(EXPLAIN_BACK_MS);
    let Ok(series) = source.series(&matchers, start, timing.now) else { return text };
    let names: BTreeSet<&str> = series.iter().filter_map(|s| s.get(METRIC_NAME)).collect();
    if names.is_empty() {
        text.push_str("; its pods have no metrics at all: are they scraped, or do they send any?");
        return text;
    }
    let mut names: Vec<&str> = names.into_iter().collect();
    let total = names.len();
    names.sort_by_key(|name| std::cmp::Reverse(alike(name, &wanted.metric)));
    names.truncate(NAMES_MAX);
    text.push_str(&format!(
        "; of the {total} metrics of its pods the most alike are {}",
        names.join(", ")
    ));
    text
}

/// How many words two names share, then how long their common beginning is.
fn alike(a: &str, b: &str) -> (usize, usize) {
    let set: BTreeSet<&str> = a.split(['_', ':']).collect();
    let shared = b.split(['_', ':']).filter(|word| set.contains(word)).count();
    let beginning = a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count();
    (shared, beginning)
}

fn trouble(pod: &Pod) -> Trouble {
    match pod.number {
        Err(trouble) => trouble,
        Ok((value, ..)) if quantity::format(value).is_none() => Trouble::TooBig,
        Ok(_) => Trouble::Stale,
    }
}

fn in_words(trouble: Trouble) -> &'static str {
    match trouble {
        Trouble::Stale => "too old:",
        Trouble::Ended => "no longer there:",
        Trouble::OneSample => "one sample, a rate needs two:",
        Trouble::NotFinite => "not a finite number:",
        Trouble::TooBig => "greater than a Kubernetes quantity can be:",
    }
}

fn listed(names: &[&str]) -> String {
    let shown = names[..names.len().min(NAMES_MAX)].join(", ");
    match names.len().saturating_sub(NAMES_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn selectors(question: &Question<'_>) -> String {
    let mut text = String::new();
    let mut joint = " matching";
    for (name, selector) in
        [("labelSelector", question.pods), ("metricLabelSelector", question.series)]
    {
        if !selector.is_empty() {
            text.push_str(&format!("{joint} {name} {selector}"));
            joint = " and";
        }
    }
    text
}
