//! The rules of OpenMetrics that span lines: families, groups, histograms.
//!
//! A pure state machine: [`Rules::check`] takes each line in order, [`Rules::finish`] the end. Names
//! and groups are remembered as 64-bit hashes, so memory grows by 8 bytes for each. It never looks
//! at the text of the body.

use std::collections::HashSet;

use taffrail_model::time::Millis;
use xxhash_rust::xxh3::xxh3_64;

use super::line::{FamilyType, LabelRef, Line, SampleLine};

/// A rule that was broken, in words.
type Rule = &'static str;

/// What has been seen of a body so far.
#[derive(Default)]
pub struct Rules {
    family: Option<Family>,
    /// Hashes of all sample names that the families before this one may use.
    names: HashSet<u64>,
}

/// The family to which the lines belong that are read now.
#[derive(Default)]
struct Family {
    name: String,
    declared: Option<FamilyType>,
    unit: Option<String>,
    help: bool,
    has_samples: bool,
    group: Option<Group>,
    /// Hashes of the label sets of the groups before this one.
    groups: HashSet<u64>,
}

/// The samples of one label set.
struct Group {
    id: u64,
    timestamp: Option<Millis>,
    histogram: Histogram,
}

/// What one histogram has said so far.
#[derive(Default)]
struct Histogram {
    bucket: Option<f64>,
    value: f64,
    count: Option<f64>,
    /// `_sum`, which only goes up.
    counter_sum: bool,
    /// `_gsum`.
    gauge_sum: Option<f64>,
    negative_buckets: bool,
}

impl Rules {
    /// Takes the next line of the body, with its labels if it is a sample.
    ///
    /// # Errors
    /// The rule that the line, or the family that it ends, breaks.
    pub fn check(&mut self, line: &Line<'_>, labels: &[LabelRef<'_>]) -> Result<(), Rule> {
        match line {
            Line::Sample(sample) => self.sample(sample, labels),
            Line::Type { family, declared } => {
                let family = self.metadata_of(family)?;
                once(family.declared.replace(*declared).is_none())
            }
            Line::Help { family, .. } => {
                let family = self.metadata_of(family)?;
                once(!std::mem::replace(&mut family.help, true))
            }
            Line::Unit { family, unit } => {
                let family = self.metadata_of(family)?;
                once(family.unit.replace((*unit).to_owned()).is_none())
            }
        }
    }

    /// The end of the body.
    ///
    /// # Errors
    /// The rule that the last family breaks.
    pub fn finish(&mut self) -> Result<(), Rule> {
        let Some(mut family) = self.family.take() else { return Ok(()) };
        family.finish()?;
        let declared = family.declared.unwrap_or_default();
        let own = declared.suffixes().iter().copied();
        let bare = (!declared.suffixes().contains(&"")).then_some("");
        for suffix in own.chain(bare) {
            if !self.names.insert(xxh3_64(format!("{}{suffix}", family.name).as_bytes())) {
                return Err("a name that belongs to two metric families");
            }
        }
        Ok(())
    }

    fn metadata_of(&mut self, name: &str) -> Result<&mut Family, Rule> {
        let same = self.family.as_ref().is_some_and(|family| family.name == name);
        if !same {
            self.finish()?;
        }
        let family = self
            .family
            .get_or_insert_with(|| Family { name: name.to_owned(), ..Family::default() });
        if family.has_samples { Err("metadata after the samples") } else { Ok(family) }
    }

    fn sample(&mut self, sample: &SampleLine<'_>, labels: &[LabelRef<'_>]) -> Result<(), Rule> {
        if !self.family.as_ref().is_some_and(|family| family.owns(&sample.name)) {
            self.finish()?;
            let name = sample.name.clone().into_owned();
            self.family = Some(Family { name, ..Family::default() });
        }
        self.family.as_mut().map_or(Ok(()), |family| family.sample(sample, labels))
    }
}

fn once(first: bool) -> Result<(), Rule> {
    if first { Ok(()) } else { Err("metadata that comes twice") }
}

impl Family {
    fn owns(&self, sample: &str) -> bool {
        let suffixes = self.declared.unwrap_or_default().suffixes();
        sample.strip_prefix(&*self.name).is_some_and(|suffix| suffixes.contains(&suffix))
    }

    fn sample(&mut self, sample: &SampleLine<'_>, labels: &[LabelRef<'_>]) -> Result<(), Rule> {
        self.has_samples = true;
        let declared = self.declared.unwrap_or_default();
        let suffix = sample.name.get(self.name.len()..).unwrap_or_default();
        let special = special_label(declared, suffix, &self.name);
        let special_value = match special {
            Some(name) => labels.iter().find(|label| label.name() == name).map(LabelRef::value),
            None => None,
        };
        let number = check_special_label(declared, suffix, special_value.as_deref())?;
        check_value(declared, suffix, sample)?;
        self.enter_group(sample, group_id(declared, labels, special))?;
        if let Some(group) = &mut self.group
            && matches!(declared, FamilyType::Histogram | FamilyType::GaugeHistogram)
        {
            group.histogram.add(suffix, number, sample.value)?;
        }
        Ok(())
    }

    fn enter_group(&mut self, sample: &SampleLine<'_>, id: u64) -> Result<(), Rule> {
        let histogram =
            matches!(self.declared, Some(FamilyType::Histogram | FamilyType::GaugeHistogram));
        if let Some(group) = &mut self.group
            && group.id == id
        {
            if group.timestamp.is_some() != sample.timestamp.is_some() {
                return Err("some samples of a group with a time and some without");
            }
            if sample.timestamp < group.timestamp && self.declared != Some(FamilyType::Info) {
                return Err("times that go backwards within a group");
            }
            if histogram && sample.timestamp != group.timestamp {
                std::mem::take(&mut group.histogram).finish()?;
            }
            group.timestamp = sample.timestamp;
            return Ok(());
        }
        if let Some(group) = self.group.take() {
            if histogram {
                group.histogram.finish()?;
            }
            self.groups.insert(group.id);
        }
        if self.groups.contains(&id) {
            return Err("samples of one group that are not together");
        }
        self.group =
            Some(Group { id, timestamp: sample.timestamp, histogram: Histogram::default() });
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Rule> {
        let declared = self.declared.unwrap_or_default();
        if let Some(unit) = self.unit.as_deref().filter(|unit| !unit.is_empty()) {
            let named = self.name.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_'));
            if !named {
                return Err("a unit that is not the end of the family's name");
            }
            if matches!(declared, FamilyType::Info | FamilyType::StateSet) {
                return Err("a unit on an info or a stateset");
            }
        }
        match self.group.take() {
            Some(group)
                if matches!(declared, FamilyType::Histogram | FamilyType::GaugeHistogram) =>
            {
                group.histogram.finish()
            }
            _ => Ok(()),
        }
    }
}

impl Histogram {
    fn add(&mut self, suffix: &str, bound: Option<f64>, value: f64) -> Result<(), Rule> {
        match (suffix, bound) {
            ("_bucket", Some(bound)) => {
                if self.bucket.is_some_and(|before| bound <= before) {
                    return Err("buckets out of order");
                }
                if value < self.value {
                    return Err("a bucket with less than the one before it");
                }
                self.negative_buckets |= bound < 0.0;
                self.bucket = Some(bound);
                self.value = value;
            }
            ("_count" | "_gcount", _) => self.count = Some(value),
            ("_sum", _) => self.counter_sum = true,
            ("_gsum", _) => self.gauge_sum = Some(value),
            _ => {}
        }
        Ok(())
    }

    fn finish(self) -> Result<(), Rule> {
        if self.bucket != Some(f64::INFINITY) {
            return Err("a histogram without the bucket le=\"+Inf\"");
        }
        if self.count.is_some_and(|count| count != self.value) {
            return Err("a count that is not the value of the bucket le=\"+Inf\"");
        }
        if (self.counter_sum || self.gauge_sum.is_some()) != self.count.is_some() {
            return Err("a sum without a count, or a count without a sum");
        }
        if self.counter_sum && self.negative_buckets {
            return Err("a sum that only goes up beside buckets below zero");
        }
        if self.gauge_sum.is_some_and(|sum| sum < 0.0) && !self.negative_buckets {
            return Err("a negative sum without buckets below zero");
        }
        Ok(())
    }
}

/// The label that tells samples of one group apart.
fn special_label<'n>(declared: FamilyType, suffix: &str, family: &'n str) -> Option<&'n str> {
    match (declared, suffix) {
        (FamilyType::Histogram | FamilyType::GaugeHistogram, "_bucket") => Some("le"),
        (FamilyType::Summary, "") => Some("quantile"),
        (FamilyType::StateSet, _) => Some(family),
        _ => None,
    }
}

/// Checks the special label and gives its number if it is one.
fn check_special_label(
    declared: FamilyType,
    suffix: &str,
    value: Option<&str>,
) -> Result<Option<f64>, Rule> {
    match (declared, suffix) {
        (FamilyType::Histogram | FamilyType::GaugeHistogram, "_bucket") => {
            let bound = value.and_then(|v| v.parse::<f64>().ok()).filter(|b| !b.is_nan());
            let bound = bound.ok_or("a bucket without a number in the label le")?;
            if bound == f64::INFINITY && value != Some("+Inf") {
                return Err("an infinite bucket that is not written +Inf");
            }
            Ok(Some(bound))
        }
        (FamilyType::Summary, "") => {
            let quantile = value.and_then(|v| v.parse::<f64>().ok());
            let good = quantile.filter(|q| (0.0..=1.0).contains(q));
            good.map(Some).ok_or("a quantile that is not between 0 and 1")
        }
        (FamilyType::StateSet, _) if value.is_none() => {
            Err("a stateset without the label of its own name")
        }
        _ => Ok(None),
    }
}

fn check_value(declared: FamilyType, suffix: &str, sample: &SampleLine<'_>) -> Result<(), Rule> {
    let value = sample.value;
    let counts = matches!(suffix, "_total" | "_sum" | "_count" | "_bucket" | "_gcount");
    if value.is_nan() && (counts || suffix == "_gsum") {
        return Err("NaN where something is counted");
    }
    if value < 0.0 && counts {
        return Err("a negative value where something is counted");
    }
    if matches!(suffix, "_bucket" | "_count" | "_gcount")
        && value.is_finite()
        && value.fract() != 0.0
    {
        return Err("a count that is not whole");
    }
    match declared {
        FamilyType::Info if value != 1.0 => return Err("an info that is not 1"),
        FamilyType::StateSet if value != 0.0 && value != 1.0 => {
            return Err("a state that is neither 0 nor 1");
        }
        FamilyType::Summary if suffix.is_empty() && value < 0.0 => {
            return Err("a negative quantile");
        }
        _ => {}
    }
    let buckets = matches!(declared, FamilyType::Histogram | FamilyType::GaugeHistogram);
    let may =
        buckets && suffix == "_bucket" || declared == FamilyType::Counter && suffix == "_total";
    if sample.exemplar && !may {
        return Err("an exemplar on something else than a bucket or a counter's total");
    }
    Ok(())
}

/// A hash of the labels without the special one; their order does not matter.
fn group_id(declared: FamilyType, labels: &[LabelRef<'_>], special: Option<&str>) -> u64 {
    if declared == FamilyType::Info {
        return 0;
    }
    let mut id = 0_u64;
    for label in labels {
        let name = label.name();
        if special.is_some_and(|special| special == name) {
            continue;
        }
        let seed = xxh3_64(name.as_bytes());
        let hash = xxhash_rust::xxh3::xxh3_64_with_seed(label.value().as_bytes(), seed);
        id = id.wrapping_add(hash);
    }
    id
}
