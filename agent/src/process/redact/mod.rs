//! Takes out of a record what must not leave the node: before the batch, the spool and the wire.
//!
//! Each detector looks for what nearly no other text has (an `@`, a run of digits, a key word), and
//! only there looks closer; so a line without any of it costs a few vectorised searches. What was
//! found is masked (`[card]`), hashed with a key (`[card:1f3a…]`, so that equal values can still be
//! counted and joined), or the record is dropped.
//!
//! Invariants:
//! - What a detector finds is never in the output, whatever else was found around it: overlapping
//!   finds are taken out as one.
//! - Text without a find is not copied.
//! - A hash needs a key: HMAC-SHA-256, the first 16 digits. Without one it would be a matter of
//!   seconds to find the card behind a hash.
//!
//! Pure. What is not found is in `docs/redaction.md`.

mod contact;
mod keys;
mod named;
mod numbers;
mod shapes;
mod spec;
mod values;
mod words;

use std::fmt;

use aho_corasick::packed;
use regex::bytes::Regex;
use ring::hmac;

pub use spec::{Action, Detector, named, names};

/// Most own patterns of one container.
pub const RULES_MAX: usize = 32;

/// What was found, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Find {
    begin: usize,
    end: usize,
    detector: Detector,
}

/// A pattern of the user's.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Stands in place of what was found.
    pub name: String,
    /// What is looked for; of a pattern with a group, the first group is what is taken out.
    pub regex: Regex,
    /// What is done with it.
    pub action: Action,
}

/// The key of hashes.
#[derive(Clone)]
pub struct HashKey(hmac::Key);

impl HashKey {
    /// Shortest key, in bytes.
    pub const BYTES_MIN: usize = 16;

    /// A key of these bytes; `None` when they are too few.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let key = || Self(hmac::Key::new(hmac::HMAC_SHA256, bytes));
        (bytes.len() >= Self::BYTES_MIN).then(key)
    }

    fn hash(&self, name: &str, value: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(name.as_bytes());
        context.update(&[0]);
        context.update(value);
        let tag = context.sign();
        tag.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey")
    }
}

/// What came of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was found.
    Clean,
    /// The output is what is left of it; so many things were taken out.
    Changed(u32),
    /// The record must go.
    Dropped,
}

/// Looks for what is to be taken out. By default for nothing.
#[derive(Debug, Default)]
pub struct Redactor {
    actions: [Option<Action>; Detector::ALL.len()],
    words: Option<(packed::Searcher, Vec<words::Word>)>,
    rules: Vec<Rule>,
    key: Option<HashKey>,
}

impl Redactor {
    /// Looks for these. Of an action that stands twice the stricter holds: drop, then mask, then hash.
    /// Without a key what should be hashed is masked.
    #[must_use]
    pub fn new(
        wanted: impl IntoIterator<Item = (Detector, Action)>,
        rules: Vec<Rule>,
        key: Option<HashKey>,
    ) -> Self {
        let mut actions = [None; Detector::ALL.len()];
        for (detector, action) in wanted {
            let known = &mut actions[detector as usize];
            *known = Some(known.map_or(action, |known| stricter(known, action)));
        }
        let words = words::searcher(|detector| actions[detector as usize].is_some());
        Self { actions, words, rules, key }
    }

    /// This one and more: what it does already it does at least as strictly.
    #[must_use]
    pub fn with(&self, more: &[(Detector, Action)], rules: &[Rule]) -> Self {
        let known = Detector::ALL.into_iter().zip(self.actions);
        let known = known.filter_map(|(detector, action)| Some((detector, action?)));
        let mut all: Vec<_> = known.collect();
        for (detector, action) in more {
            // A hash tells more than a mask, so it cannot replace one.
            all.push((*detector, *action));
        }
        let rules = self.rules.iter().chain(rules).cloned().collect();
        Self::new(all, rules, self.key.clone())
    }

    /// Whether it looks for anything.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.rules.is_empty() && self.actions.iter().all(Option::is_none)
    }

    /// Whether private keys, which stand in many lines, are taken out.
    #[must_use]
    pub fn takes_keys(&self) -> bool {
        self.on(Detector::PrivateKey)
    }

    /// Whether there is a key for hashes.
    #[must_use]
    pub fn can_hash(&self) -> bool {
        self.key.is_some()
    }

    fn on(&self, detector: Detector) -> bool {
        self.actions[detector as usize].is_some()
    }

    /// Takes out of `text` what is looked for; what is left of it is put into `out`.
    pub fn apply(&self, text: &[u8], out: &mut Vec<u8>) -> Outcome {
        let mut finds = Vec::new();
        self.find(text, &mut finds);
        if finds.is_empty() && self.rules.is_empty() {
            return Outcome::Clean;
        }
        let mut places: Vec<Place<'_>> = finds.iter().map(|find| self.place(*find)).collect();
        self.own(text, &mut places);
        if places.is_empty() {
            return Outcome::Clean;
        }
        if places.iter().any(|place| place.action == Action::Drop) {
            return Outcome::Dropped;
        }
        places.sort_by_key(|place| (place.begin, usize::MAX - place.end));
        out.clear();
        Outcome::Changed(self.write(text, &places, out))
    }

    /// As [`Redactor::apply`], of a value whose name stands apart from it: a name that gives a secret
    /// away has the whole value taken out.
    pub fn apply_named(&self, name: &str, value: &[u8], out: &mut Vec<u8>) -> Outcome {
        let Some(detector) = self.names(name, value) else { return self.apply(value, out) };
        let place = self.place(Find { begin: 0, end: value.len(), detector });
        if place.action == Action::Drop {
            return Outcome::Dropped;
        }
        out.clear();
        Outcome::Changed(self.write(value, &[place], out))
    }

    /// What the name makes of its whole value.
    fn names(&self, name: &str, value: &[u8]) -> Option<Detector> {
        self.words.as_ref()?;
        let head = format!("{name}=\"");
        let quotes = |b: &u8| if matches!(b, b'"' | b'\\') { b'.' } else { *b };
        let text = [head.as_bytes(), &value.iter().map(quotes).collect::<Vec<_>>(), b"\""].concat();
        let mut finds = Vec::new();
        self.find(&text, &mut finds);
        let whole = |find: &&Find| {
            (find.begin, find.end) == (head.len(), text.len() - 1) && find.begin < find.end
        };
        finds.iter().find(whole).map(|find| find.detector)
    }

    fn find(&self, text: &[u8], finds: &mut Vec<Find>) {
        if let Some((searcher, words)) = &self.words {
            let mut from = 0;
            while let Some(found) = searcher.find_in(text, (from..text.len()).into()) {
                let word = &words[found.pattern().as_usize()];
                let end = words::look(word, text, found.start(), found.end(), finds);
                from = end.max(found.end());
            }
        }
        // What is found beside what was looked for.
        finds.retain(|find| find.begin < find.end && self.on(find.detector));
        if self.on(Detector::Email) || self.on(Detector::UrlPassword) {
            contact::at_signs(
                text,
                self.on(Detector::Email),
                self.on(Detector::UrlPassword),
                finds,
            );
        }
        let (card, ssn) = (self.on(Detector::Card), self.on(Detector::Ssn));
        let (phone, ip) = (self.on(Detector::Phone), self.on(Detector::Ip));
        if card || ssn || phone || ip {
            numbers::find(text, numbers::Wanted { card, ssn, phone, ip }, finds);
        }
        if ip {
            contact::ipv6(text, finds);
        }
    }

    fn place(&self, find: Find) -> Place<'static> {
        let action = self.actions[find.detector as usize].unwrap_or_default();
        Place { begin: find.begin, end: find.end, name: find.detector.name(), action }
    }

    fn own<'a>(&'a self, text: &[u8], places: &mut Vec<Place<'a>>) {
        for rule in &self.rules {
            let mut each = |begin: usize, end: usize| {
                if begin < end {
                    places.push(Place { begin, end, name: &rule.name, action: rule.action });
                }
            };
            if rule.regex.captures_len() == 1 {
                rule.regex.find_iter(text).for_each(|m| each(m.start(), m.end()));
            } else {
                for found in rule.regex.captures_iter(text) {
                    if let Some(m) = found.get(1) {
                        each(m.start(), m.end());
                    }
                }
            }
        }
    }

    fn write(&self, text: &[u8], places: &[Place<'_>], out: &mut Vec<u8>) -> u32 {
        let (mut at, mut count) = (0, 0);
        let mut places = places.iter().peekable();
        while let Some(place) = places.next() {
            let mut end = place.end;
            // Finds that touch each other go as one, under the first's name.
            while let Some(more) = places.next_if(|more| more.begin < end) {
                end = end.max(more.end);
            }
            out.extend_from_slice(&text[at..place.begin]);
            out.push(b'[');
            out.extend_from_slice(place.name.as_bytes());
            if place.action == Action::Hash
                && let Some(key) = &self.key
            {
                out.push(b':');
                let value = comparable(&text[place.begin..end]);
                out.extend_from_slice(key.hash(place.name, &value).as_bytes());
            }
            out.push(b']');
            at = end;
            count += 1;
        }
        out.extend_from_slice(&text[at..]);
        count
    }
}

#[derive(Clone, Copy)]
struct Place<'a> {
    begin: usize,
    end: usize,
    name: &'a str,
    action: Action,
}

fn stricter(a: Action, b: Action) -> Action {
    match (a, b) {
        (Action::Drop, _) | (_, Action::Drop) => Action::Drop,
        (Action::Mask, _) | (_, Action::Mask) => Action::Mask,
        (Action::Hash, Action::Hash) => Action::Hash,
    }
}

/// The same value in its different spellings: case and, between digits, separators do not matter.
fn comparable(value: &[u8]) -> Vec<u8> {
    let number = value
        .iter()
        .all(|b| b.is_ascii_digit() || matches!(b, b' ' | b'-' | b'.' | b'(' | b')' | b'+'));
    // An address of IPv4 lives by its dots.
    let dots = value.iter().filter(|b| **b == b'.').count() == 3;
    let kept = value.iter().filter(|b| !number || dots || b.is_ascii_digit());
    kept.map(u8::to_ascii_lowercase).collect()
}

#[cfg(test)]
mod tests;
