//! The filters of a scan over the templates of a block: which templates' lines all pass, which none,
//! and of which the values have to be looked at.
//!
//! An expression passes a template only if every text that each of its matches has can be there, and
//! surely passes if it matches text of the template between two marks and does not look around. Its
//! texts are compared in ASCII lower case.
//!
//! Pure.

use regex::Regex;
use regex_syntax::hir::{Class, Hir, HirKind};
use taffrail_query::source::LineFilter;

use super::needle::{Needle, Sight};
use super::templates::{PLACE, Templates};
use super::variables::{VALUE_END, Values};

/// Longest regular expression that is looked into, in bytes.
const REGEX_BYTES_MAX: usize = 16 << 10;
/// Most texts of one expression that are looked for.
const TEXTS_MAX: usize = 16;

/// What is known of the lines of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// None passes.
    No,
    /// Each has to be looked at.
    Look,
    /// All pass.
    Yes,
}

/// The filters of a scan, prepared.
pub(super) struct Judge {
    filters: Vec<Prepared>,
}

enum Prepared {
    Texts { needles: Vec<Needle>, wanted: bool },
    Expressions { expressions: Vec<Expression>, wanted: bool },
}

struct Expression {
    regex: Regex,
    /// In lower case; each match has all of them.
    texts: Vec<Needle>,
    /// A match needs nothing of what is around it.
    is_local: bool,
}

/// What filters say of the templates of one block.
pub(super) struct Verdicts {
    /// Of all filters together, by template.
    pub(super) all: Vec<Verdict>,
    /// Of each filter, by template.
    each: Vec<Vec<Verdict>>,
}

impl Verdicts {
    /// Whether no line passes.
    pub(super) fn are_no(&self) -> bool {
        self.all.iter().all(|&verdict| verdict == Verdict::No)
    }

    /// Whether some values have to be looked at.
    pub(super) fn need_values(&self) -> bool {
        self.all.contains(&Verdict::Look)
    }
}

impl Judge {
    /// Prepares filters.
    pub(super) fn new(filters: &[LineFilter]) -> Self {
        let needles = |texts: &[String]| texts.iter().map(|t| Needle::new(t.as_bytes())).collect();
        let expressions = |all: &[Regex]| all.iter().map(Expression::new).collect();
        let prepared = filters.iter().map(|filter| match filter {
            LineFilter::Contains(texts) => {
                Prepared::Texts { needles: needles(texts), wanted: true }
            }
            LineFilter::NotContains(texts) => {
                Prepared::Texts { needles: needles(texts), wanted: false }
            }
            LineFilter::Matches(all) => {
                Prepared::Expressions { expressions: expressions(all), wanted: true }
            }
            LineFilter::NotMatches(all) => {
                Prepared::Expressions { expressions: expressions(all), wanted: false }
            }
        });
        Self { filters: prepared.collect() }
    }

    /// What the filters say of these templates.
    pub(super) fn verdicts(&self, templates: &Templates) -> Verdicts {
        let mut lower: Option<Vec<u8>> = None;
        let each: Vec<Vec<Verdict>> =
            self.filters.iter().map(|filter| filter.verdicts(templates, &mut lower)).collect();
        let mut all = vec![Verdict::Yes; templates.len()];
        for verdicts in &each {
            for (all, verdict) in all.iter_mut().zip(verdicts) {
                *all = (*all).min(*verdict);
            }
        }
        Verdicts { all, each }
    }

    /// Which rows of a template pass, by their number in it, where values have to be looked at.
    /// `line` puts a line together.
    pub(super) fn look(
        &self,
        templates: &Templates,
        template: usize,
        values: &Values,
        verdicts: &Verdicts,
        mut line: impl FnMut(usize, &mut Vec<u8>),
    ) -> Vec<bool> {
        let rows = templates.rows[template] as usize;
        let mut passes = vec![true; rows];
        let mut whole = Vec::new();
        for (filter, verdicts) in self.filters.iter().zip(&verdicts.each) {
            if verdicts[template] != Verdict::Look {
                continue;
            }
            match filter {
                Prepared::Texts { needles, wanted } if needles.iter().all(Needle::is_word) => {
                    let mut hits = vec![false; rows];
                    for needle in needles {
                        find_in_values(needle, templates, template, values, &mut hits);
                    }
                    for (passes, hit) in passes.iter_mut().zip(hits) {
                        *passes &= hit == *wanted;
                    }
                }
                filter => whole.push(filter),
            }
        }
        let mut text = Vec::new();
        for (index, passes) in passes.iter_mut().enumerate() {
            if *passes && !whole.is_empty() {
                text.clear();
                line(index, &mut text);
                *passes = str::from_utf8(&text)
                    .is_ok_and(|text| whole.iter().all(|filter| filter.passes(text)));
            }
        }
        passes
    }
}

impl Prepared {
    fn passes(&self, line: &str) -> bool {
        match self {
            Self::Texts { needles, wanted } => {
                needles.iter().any(|needle| needle.is_in(line.as_bytes())) == *wanted
            }
            Self::Expressions { expressions, wanted } => {
                expressions.iter().any(|expression| expression.regex.is_match(line)) == *wanted
            }
        }
    }

    fn verdicts(&self, templates: &Templates, lower: &mut Option<Vec<u8>>) -> Vec<Verdict> {
        let mut found = vec![Verdict::No; templates.len()];
        let wanted = match self {
            Self::Texts { needles, wanted } => {
                let mut sights = Vec::new();
                for needle in needles {
                    needle.look(templates, &templates.text, &mut sights);
                    for (found, &sight) in found.iter_mut().zip(&sights) {
                        *found = (*found).max(sight.into());
                    }
                }
                wanted
            }
            Self::Expressions { expressions, wanted } => {
                let lower = lower.get_or_insert_with(|| templates.text.to_ascii_lowercase());
                for expression in expressions {
                    expression.judge(templates, lower, &mut found);
                }
                wanted
            }
        };
        if !wanted {
            for verdict in &mut found {
                *verdict = match *verdict {
                    Verdict::No => Verdict::Yes,
                    Verdict::Look => Verdict::Look,
                    Verdict::Yes => Verdict::No,
                };
            }
        }
        found
    }
}

impl From<Sight> for Verdict {
    fn from(sight: Sight) -> Self {
        match sight {
            Sight::Never => Self::No,
            Sight::Perhaps => Self::Look,
            Sight::Always => Self::Yes,
        }
    }
}

impl Expression {
    fn new(regex: &Regex) -> Self {
        let mut texts = Vec::new();
        let mut is_local = false;
        let pattern = regex.as_str();
        if pattern.len() <= REGEX_BYTES_MAX
            && let Ok(hir) = regex_syntax::parse(pattern)
        {
            is_local = hir.properties().look_set().is_empty();
            let mut run = Vec::new();
            needed(&hir, &mut run, &mut texts);
            texts.push(run);
        }
        texts.retain(|text| !text.is_empty());
        // The longest are the rarest, as a rule.
        texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
        texts.truncate(TEXTS_MAX);
        let texts = texts.iter().map(|text| Needle::new(text)).collect();
        Self { regex: regex.clone(), texts, is_local }
    }

    /// Raises the verdicts of templates whose lines it matches, or may match.
    fn judge(&self, templates: &Templates, lower: &[u8], found: &mut [Verdict]) {
        let mut possible = vec![true; templates.len()];
        let mut sights = Vec::new();
        for text in &self.texts {
            text.look(templates, lower, &mut sights);
            for (possible, &sight) in possible.iter_mut().zip(&sights) {
                *possible &= sight != Sight::Never;
            }
            if !possible.contains(&true) {
                return;
            }
        }
        for (template, verdict) in found.iter_mut().enumerate() {
            if possible[template] && *verdict != Verdict::Yes {
                *verdict = (*verdict).max(self.judge_one(templates, template));
            }
        }
    }

    fn judge_one(&self, templates: &Templates, template: usize) -> Verdict {
        let text = templates.text_of(template);
        let is_match = |text| str::from_utf8(text).is_ok_and(|text| self.regex.is_match(text));
        if templates.slots_of(template).is_empty() {
            return if is_match(text) { Verdict::Yes } else { Verdict::No };
        }
        let is_sure = self.is_local && text.split(|&byte| byte == PLACE).any(is_match);
        if is_sure { Verdict::Yes } else { Verdict::Look }
    }
}

/// Collects texts in lower case that every match has: `run` is the one that may go on.
fn needed(hir: &Hir, run: &mut Vec<u8>, texts: &mut Vec<Vec<u8>>) {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => {
            run.extend(literal.0.iter().map(u8::to_ascii_lowercase));
        }
        HirKind::Class(class) => match one_letter(class) {
            Some(byte) => run.push(byte),
            None => texts.push(std::mem::take(run)),
        },
        HirKind::Capture(capture) => needed(&capture.sub, run, texts),
        HirKind::Concat(parts) => parts.iter().for_each(|part| needed(part, run, texts)),
        HirKind::Repetition(repetition) => {
            texts.push(std::mem::take(run));
            if repetition.min >= 1 {
                needed(&repetition.sub, run, texts);
                texts.push(std::mem::take(run));
            }
        }
        HirKind::Alternation(_) => texts.push(std::mem::take(run)),
    }
}

/// The one byte that all members of a class become in ASCII lower case.
fn one_letter(class: &Class) -> Option<u8> {
    let mut letter = None;
    let mut take = |start: u32, end: u32| {
        (start..=end).all(|code| {
            let lower =
                u8::try_from(code).ok().filter(u8::is_ascii).map(|b| b.to_ascii_lowercase());
            let fits = lower.is_some() && (letter.is_none() || letter == lower);
            letter = lower;
            fits
        })
    };
    let fits = match class {
        Class::Unicode(class) => {
            class.ranges().iter().all(|r| take(u32::from(r.start()), u32::from(r.end())))
        }
        Class::Bytes(class) => {
            class.ranges().iter().all(|r| take(u32::from(r.start()), u32::from(r.end())))
        }
    };
    letter.filter(|_| fits)
}

/// Marks the rows of a template that have the needle, which is a part of one token, in a value.
fn find_in_values(
    needle: &Needle,
    templates: &Templates,
    template: usize,
    values: &Values,
    hits: &mut [bool],
) {
    for slot in templates.slots_of(template) {
        if !needle.may_touch(&templates.slots[slot]) {
            continue;
        }
        let (stretch, width) = values.stretch(slot, hits.len());
        if width > 0 {
            find_in_fixed(needle, stretch, width, hits);
            continue;
        }
        let (mut row, mut counted) = (0, 0);
        needle.each_in(stretch, |at| {
            // A needle without separators lies within one value.
            row += memchr::memchr_iter(VALUE_END, &stretch[counted..at]).count();
            counted = at;
            hits[row] = true;
        });
    }
}

/// Values of one width stand side by side: a hit over the edge of two is none, and may hide one.
fn find_in_fixed(needle: &Needle, stretch: &[u8], width: usize, hits: &mut [bool]) {
    if !needle.is_in(stretch) {
        return;
    }
    for (hit, value) in hits.iter_mut().zip(stretch.chunks_exact(width)) {
        *hit = *hit || needle.is_in(value);
    }
}
