//! Patterns of lines: what they have in common, with `<_>` where they differ, and how often each
//! comes over time.
//!
//! ```text
//! line -> template: each run of `word . : - / + _ @ %` with a digit in it is a variable
//!      -> merged with templates that differ in few words
//!      -> pattern: a variable that never varies is text again
//! ```
//! A pattern is a pattern filter that its lines match (`|> "…"`). Each line is counted once: memory is
//! bounded by [`TEMPLATES_MAX`] and [`SAMPLES_MAX`], and what comes beyond is counted under `<_>`.
//!
//! Pure.

use std::collections::{BTreeMap, HashMap};

use taffrail_model::{Level, Nanos};

/// Stands for what differs.
pub const PLACE: &str = "<_>";

/// Stands for a variable in a template. One that is in a line is a variable itself, so that this never
/// stands for itself.
const MARK: u8 = 0x11;

/// Distinct templates that are held.
const TEMPLATES_MAX: usize = 4000;
/// Counts that are held, one for each template and step.
const SAMPLES_MAX: usize = 1_000_000;
/// Bytes of a line that are looked at.
const LINE_BYTES_MAX: usize = 3000;
/// Words of two templates that must be the same, out of ten that do not vary, for them to be one.
const SAME_OF_TEN: usize = 7;
/// Templates of one kind that another is compared with.
const COMPARED_MAX: usize = 64;

/// Lines that have something in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// Their text, with `<_>` where they differ.
    pub text: String,
    /// Their level.
    pub level: Level,
    /// How many there are, by the beginning of each step.
    pub samples: BTreeMap<Nanos, u64>,
}

impl Pattern {
    /// How many lines there are.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.samples.values().sum()
    }
}

/// Collects lines.
#[derive(Debug)]
pub struct Patterns {
    step: Nanos,
    templates: HashMap<(Level, String), Template>,
    /// Counts of the templates.
    samples: usize,
    /// Lines that are of none of them.
    others: BTreeMap<Level, BTreeMap<Nanos, u64>>,
    /// The template of the line at hand, and where its values lie in it.
    key: String,
    values: Vec<(usize, usize)>,
}

#[derive(Debug)]
struct Template {
    /// The value of each variable, as long as it is always the same.
    values: Vec<Option<Box<str>>>,
    samples: BTreeMap<Nanos, u64>,
}

impl Patterns {
    /// Counts by steps of so many nanoseconds.
    #[must_use]
    pub fn new(step: Nanos) -> Self {
        Self {
            step: step.max(1),
            templates: HashMap::new(),
            samples: 0,
            others: BTreeMap::new(),
            key: String::new(),
            values: Vec::new(),
        }
    }

    /// Adds a line.
    pub fn add(&mut self, ts: Nanos, level: Level, line: &str) {
        let line = &line[..line.floor_char_boundary(LINE_BYTES_MAX)];
        self.split(line);
        let at = ts.div_euclid(self.step).saturating_mul(self.step);
        let key = (level, std::mem::take(&mut self.key));
        let full = self.samples >= SAMPLES_MAX;
        if let Some(template) = self.templates.get_mut(&key) {
            self.key = key.1;
            if !full || template.samples.contains_key(&at) {
                template.meet(line, &self.values);
                let count = template.samples.entry(at).or_insert(0);
                self.samples += usize::from(*count == 0);
                *count += 1;
                return;
            }
        } else if !full && self.templates.len() < TEMPLATES_MAX {
            let values = self.values.iter().map(|&(from, to)| Some(line[from..to].into()));
            let template =
                Template { values: values.collect(), samples: BTreeMap::from([(at, 1)]) };
            self.samples += 1;
            self.templates.insert(key, template);
            return;
        }
        *self.others.entry(level).or_default().entry(at).or_insert(0) += 1;
    }

    /// Fills `key` and `values` from a line.
    fn split(&mut self, line: &str) {
        self.key.clear();
        self.values.clear();
        let mut from = 0;
        while let Some((start, end)) = next_variable(line, from) {
            self.key.push_str(&line[from..start]);
            self.key.push(char::from(MARK));
            self.values.push((start, end));
            from = end;
        }
        self.key.push_str(&line[from..]);
    }

    /// The patterns, the one with most lines first.
    #[must_use]
    pub fn finish(self) -> Vec<Pattern> {
        let mut found: BTreeMap<(Level, String), BTreeMap<Nanos, u64>> = BTreeMap::new();
        for ((level, key), template) in self.templates {
            let text = template.text(&key);
            add_up(found.entry((level, text)).or_default(), template.samples);
        }
        let found = found.into_iter();
        let patterns = found.map(|((level, text), samples)| Pattern { text, level, samples });
        let mut merged = merge(by_lines(patterns.collect()));
        merged.extend(self.others.into_iter().map(|(level, samples)| Pattern {
            text: PLACE.to_owned(),
            level,
            samples,
        }));
        by_lines(merged)
    }
}

fn by_lines(mut patterns: Vec<Pattern>) -> Vec<Pattern> {
    patterns.sort_by_cached_key(|pattern| std::cmp::Reverse(pattern.lines()));
    patterns
}

fn add_up(sums: &mut BTreeMap<Nanos, u64>, samples: BTreeMap<Nanos, u64>) {
    for (at, count) in samples {
        *sums.entry(at).or_insert(0) += count;
    }
}

impl Template {
    /// Forgets the values that are others in this line.
    fn meet(&mut self, line: &str, values: &[(usize, usize)]) {
        for (known, &(from, to)) in self.values.iter_mut().zip(values) {
            if known.as_deref().is_some_and(|known| known != &line[from..to]) {
                *known = None;
            }
        }
    }

    fn text(&self, key: &str) -> String {
        let mut text = String::with_capacity(key.len());
        let mut pieces = key.split(char::from(MARK));
        text.push_str(pieces.next().unwrap_or_default());
        for (piece, value) in pieces.zip(&self.values) {
            text.push_str(value.as_deref().unwrap_or(PLACE));
            text.push_str(piece);
        }
        text
    }
}

/// Where the next variable lies: a run of letters, digits and what joins them, with a digit in it.
fn next_variable(line: &str, mut from: usize) -> Option<(usize, usize)> {
    let bytes = line.as_bytes();
    while from < bytes.len() {
        let start = from + bytes[from..].iter().position(|&byte| joins(byte) || byte == MARK)?;
        if bytes[start] == MARK {
            return Some((start, start + 1));
        }
        let run = bytes[start..].iter().take_while(|&&byte| joins(byte)).count();
        let mut end = start + run;
        from = end;
        if !bytes[start..end].iter().any(u8::is_ascii_digit) {
            continue;
        }
        // What ends a sentence or names a field is no part of the value.
        while matches!(bytes[end - 1], b'.' | b':' | b'-') {
            end -= 1;
        }
        return Some((start, end));
    }
    None
}

fn joins(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'_' | b'.' | b':' | b'-' | b'/' | b'+' | b'@' | b'%')
        || !byte.is_ascii()
}

/// Merges patterns that differ in few words, bigger ones first.
fn merge(patterns: Vec<Pattern>) -> Vec<Pattern> {
    let mut merged: Vec<(Vec<String>, Pattern)> = Vec::new();
    let mut kinds: HashMap<(Level, usize, String), Vec<usize>> = HashMap::new();
    for pattern in patterns {
        let words: Vec<String> = pattern.text.split(' ').map(str::to_owned).collect();
        let first = words.first().map_or("", |word| name_of(word)).to_owned();
        let kind = kinds.entry((pattern.level, words.len(), first)).or_default();
        let near = |at: &&usize| is_near(&merged[**at].0, &words);
        match kind.iter().take(COMPARED_MAX).find(near).copied() {
            Some(at) => {
                let (known, into) = &mut merged[at];
                known.iter_mut().zip(&words).for_each(|(known, word)| common(known, word));
                into.text = known.join(" ");
                add_up(&mut into.samples, pattern.samples);
            }
            None => {
                kind.push(merged.len());
                merged.push((words, pattern));
            }
        }
    }
    merged.into_iter().map(|(_, pattern)| pattern).collect()
}

/// Whether most of the words that do not vary are the same.
fn is_near(one: &[String], other: &[String]) -> bool {
    let (mut words, mut same) = (0, 0);
    for (one, other) in one.iter().zip(other) {
        let equal = one == other;
        if !equal || !one.contains(PLACE) {
            words += 1;
            same += usize::from(equal);
        }
    }
    same * 10 >= words * SAME_OF_TEN
}

/// What stands before the value in `name=value`.
fn name_of(word: &str) -> &str {
    word.split_once('=').map_or(word, |(name, _)| name)
}

/// Makes a word stand for another one too.
fn common(known: &mut String, word: &str) {
    if known == word {
        return;
    }
    match (known.split_once('='), word.split_once('=')) {
        (Some((name, _)), Some((other, _))) if name == other => *known = format!("{name}={PLACE}"),
        _ => *known = PLACE.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logql::plan::LogPlan;
    use crate::logql::{LogqlOptions, ast::Expr, parse};
    use proptest::prelude::*;
    use taffrail_model::Labels;

    fn patterns(lines: &[&str]) -> Vec<(String, u64)> {
        let mut patterns = Patterns::new(10);
        for line in lines {
            patterns.add(5, Level::Info, line);
        }
        patterns.finish().into_iter().map(|it| (it.lines(), it.text)).map(|(n, t)| (t, n)).collect()
    }

    #[test]
    fn what_lines_have_in_common() {
        type Case<'a> = (&'a [&'a str], &'a [(&'a str, u64)]);
        let cases: [Case; 7] = [
            (&["a b", "a b"], &[("a b", 2)]),
            (
                &[
                    "level=info path=/api/1 status=200 dur=3ms",
                    "level=info path=/api/2 status=200 dur=14ms",
                ],
                &[("level=info path=<_> status=200 dur=<_>", 2)],
            ),
            (&["took 3ms.", "took 34ms."], &[("took <_>.", 2)]),
            (
                &["2026-11-20T10:00:01.5Z ok", "2026-11-20T10:00:02.7Z ok", "other"],
                &[("<_> ok", 2), ("other", 1)],
            ),
            (
                &[
                    "the user alice has logged in to the shop now",
                    "the user bob has logged in to the shop now",
                ],
                &[("the user <_> has logged in to the shop now", 2)],
            ),
            (
                &[
                    "a=1 b=2 c=3 d=4 paid card",
                    "a=2 b=3 c=4 d=5 paid card",
                    "a=2 b=3 c=4 d=5 no card",
                ],
                &[("a=<_> b=<_> c=<_> d=<_> paid card", 2), ("a=2 b=3 c=4 d=5 no card", 1)],
            ),
            (
                &["connection refused by db", "disk almost full now"],
                &[("connection refused by db", 1), ("disk almost full now", 1)],
            ),
        ];
        for (lines, expected) in cases {
            let expected: Vec<_> = expected.iter().map(|(t, n)| ((*t).to_owned(), *n)).collect();
            assert_eq!(patterns(lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn levels_and_steps_are_counted_apart() {
        let mut patterns = Patterns::new(10);
        for (ts, level) in
            [(1, Level::Info), (9, Level::Info), (10, Level::Info), (3, Level::Error)]
        {
            patterns.add(ts, level, "x 1");
        }
        let found = patterns.finish();
        let info = Pattern {
            text: "x 1".into(),
            level: Level::Info,
            samples: BTreeMap::from([(0, 2), (10, 1)]),
        };
        assert_eq!(found[0], info);
        assert_eq!((found[1].level, found[1].lines()), (Level::Error, 1));
    }

    #[test]
    fn memory_is_bounded() {
        let mut patterns = Patterns::new(1);
        let words = ["ab", "cd", "ef", "gh", "ij", "kl", "mn", "op", "qr", "st"];
        for number in 0..10_000_usize {
            let line: Vec<&str> = (0..4).map(|at| words[number / 10_usize.pow(at) % 10]).collect();
            patterns.add(1, Level::Info, &line.join(" "));
        }
        assert_eq!(patterns.templates.len(), TEMPLATES_MAX);
        let found = patterns.finish();
        assert_eq!(found.iter().map(Pattern::lines).sum::<u64>(), 10_000, "each line is counted");
        assert!(found.iter().any(|pattern| pattern.text == PLACE && pattern.lines() == 6000));
    }

    proptest! {
        /// Each line matches, as a pattern filter, one of the patterns; and all lines are counted.
        #[test]
        fn a_pattern_is_a_filter_for_its_lines(
            lines in proptest::collection::vec("([ab1=./ é\u{11}-]|<_>){0,12}", 1..8)
        ) {
            let mut patterns = Patterns::new(10);
            lines.iter().for_each(|line| patterns.add(1, Level::Info, line));
            let found = patterns.finish();
            prop_assert_eq!(found.iter().map(Pattern::lines).sum::<u64>(), lines.len() as u64);
            for line in &lines {
                let fits = |pattern: &Pattern| {
                    // A pattern of places alone is no filter; it fits any line.
                    if pattern.text.replace(PLACE, "").trim().is_empty() { return true; }
                    let query = format!("{{a=\"b\"}} |> {:?}", pattern.text);
                    let Ok(Expr::Log(log)) = parse(&query, LogqlOptions::default()) else { return true };
                    let plan = LogPlan::new(&log).expect("a plan");
                    let row = crate::source::LogRow { ts: 1, line, level: Level::Info, metadata: &[] };
                    plan.admit(&Labels::from_pairs([("a", "b")]), &row, &mut crate::logql::labels::LineLabels::new()).is_some()
                };
                prop_assert!(found.iter().any(fits), "{line:?} in {found:?}");
            }
        }

        #[test]
        fn no_line_is_too_odd(line in "\\PC{0,40}") {
            let mut patterns = Patterns::new(1);
            patterns.add(i64::MIN, Level::Unknown, &line);
            prop_assert_eq!(patterns.finish().len(), 1);
        }
    }
}
