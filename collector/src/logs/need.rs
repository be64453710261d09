//! What a block must have so that one of its lines can pass the filters of a scan.
//!
//! Built from the filters once a query, looked up in each segment. Only certain things are needed:
//! a token is needed whole where the text shows both of its edges; a piece of a token of [`SPAN`]
//! bytes or more is needed by its minimizers; of a shorter piece the longest run of letters must lie
//! in some term of the dictionary. Of a regular expression the literal parts are needed that every
//! match has.
//!
//! Regular expressions must carry their flags inside (`(?i)`), as LogQL's do: flags set on a builder
//! cannot be read back.
//!
//! Pure.
//!
//! [`SPAN`]: super::token::SPAN

use regex_syntax::hir::{Class, Hir, HirKind};
use taffrail_query::source::LineFilter;

use super::token::{
    TERM_BYTES_MIN, Token, UUID_BYTES, is_group_of, is_word, letter_runs, may_be_group, minimizers,
    print, prints, tokens, uuids,
};

/// Most walks through a dictionary one query may ask of a segment.
const RUNS_MAX: usize = 32;
/// Longest regular expression that is looked into, in bytes.
const REGEX_BYTES_MAX: usize = 16 << 10;

/// A condition that a block must satisfy. In lower case throughout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing: every block may match.
    Nothing,
    /// This word is in the dictionary.
    Word(Vec<u8>),
    /// This hash is in the fingerprint postings. If it is of a piece of a token, opaque blocks may
    /// match without it.
    Print {
        /// The hash.
        hash: u32,
        /// Whether it is of a piece of a token, not of a whole one.
        is_piece: bool,
        /// Whether it may be a group of a UUID: blocks that have UUIDs may match without it.
        in_uuid: bool,
    },
    /// This hash of a UUID is in the fingerprint postings.
    Uuid(u32),
    /// A term of the dictionary contains this run of letters, or begins with it; opaque blocks may
    /// match without it.
    Run {
        /// The letters.
        bytes: Vec<u8>,
        /// Whether a token begins with them.
        at_start: bool,
    },
    /// All of these.
    All(Vec<Need>),
    /// At least one of these.
    OneOf(Vec<Need>),
}

/// What all filters together need.
pub(super) fn of_filters(filters: &[LineFilter]) -> Need {
    let mut builder = Builder { runs: 0 };
    all(filters.iter().map(|filter| builder.filter(filter)).collect())
}

struct Builder {
    runs: usize,
}

impl Builder {
    fn filter(&mut self, filter: &LineFilter) -> Need {
        match filter {
            LineFilter::Contains(texts) => {
                one_of(texts.iter().map(|text| self.text(text.as_bytes())).collect())
            }
            LineFilter::Matches(expressions) => {
                one_of(expressions.iter().map(|e| self.expression(e.as_str())).collect())
            }
            LineFilter::NotContains(_) | LineFilter::NotMatches(_) => Need::Nothing,
        }
    }

    /// What a line needs that contains this text, whatever is around it.
    fn text(&mut self, text: &[u8]) -> Need {
        let lower = text.to_ascii_lowercase();
        let mut needs = Vec::new();
        let mut known = Vec::new();
        uuids(&lower, |at| {
            known.push(at);
            needs.push(Need::Uuid(print(&lower[at..at + UUID_BYTES])));
        });
        let is_group =
            |token: &Token| known.iter().any(|&uuid| is_group_of(uuid, token.start, token.end));
        for token in tokens(&lower).filter(|token| !is_group(token)) {
            needs.push(self.token(&lower, token));
        }
        all(needs)
    }

    fn token(&mut self, text: &[u8], token: Token) -> Need {
        let bytes = &text[token.start..token.end];
        let (left_open, right_open) = (token.start == 0, token.end == text.len());
        if left_open || right_open {
            return self.piece(bytes, !left_open);
        }
        if bytes.len() < TERM_BYTES_MIN {
            return Need::Nothing;
        }
        if !token.is_id() {
            return Need::Word(bytes.to_vec());
        }
        let mut needs = Vec::new();
        let in_uuid = may_be_group(bytes);
        prints(bytes, true, |hash| needs.push(Need::Print { hash, is_piece: false, in_uuid }));
        all(needs)
    }

    /// A piece of some token; `at_start` says that the token begins with it.
    fn piece(&mut self, bytes: &[u8], at_start: bool) -> Need {
        let mut needs = Vec::new();
        minimizers(bytes, |hash| needs.push(Need::Print { hash, is_piece: true, in_uuid: false }));
        if !needs.is_empty() {
            return all(needs);
        }
        let Some(run) = letter_runs(bytes).max_by_key(|run| run.len()) else {
            return Need::Nothing;
        };
        self.runs += 1;
        if self.runs > RUNS_MAX {
            return Need::Nothing;
        }
        // A run of letters that begins the token begins a term: the token, or the run in it.
        let at_start = at_start && bytes.starts_with(run);
        Need::Run { bytes: run.to_vec(), at_start }
    }

    fn expression(&mut self, pattern: &str) -> Need {
        if pattern.len() > REGEX_BYTES_MAX {
            return Need::Nothing;
        }
        let Ok(hir) = regex_syntax::parse(pattern) else { return Need::Nothing };
        let mut sequence = Sequence { builder: self, literal: Vec::new(), needs: Vec::new() };
        sequence.walk(&hir);
        sequence.finish()
    }
}

/// Walks through what every match of an expression has, in order.
struct Sequence<'b> {
    builder: &'b mut Builder,
    /// Text that is in the match without a gap, with its edges open. A separator stands for any
    /// byte that separates tokens.
    literal: Vec<u8>,
    needs: Vec<Need>,
}

impl Sequence<'_> {
    fn walk(&mut self, hir: &Hir) {
        match hir.kind() {
            HirKind::Empty | HirKind::Look(_) => {}
            HirKind::Literal(literal) => self.literal.extend_from_slice(&literal.0),
            HirKind::Class(class) => match single_byte(class) {
                Some(byte) => self.literal.push(byte),
                None => self.gap(),
            },
            HirKind::Capture(capture) => self.walk(&capture.sub),
            HirKind::Concat(parts) => parts.iter().for_each(|part| self.walk(part)),
            HirKind::Repetition(repetition) => {
                let separates = matches!(repetition.sub.kind(), HirKind::Class(class)
                    if single_byte(class) == Some(b' '));
                if repetition.min >= 1 && separates {
                    self.literal.push(b' ');
                } else {
                    self.gap();
                    if repetition.min >= 1 {
                        self.walk(&repetition.sub);
                        self.gap();
                    }
                }
            }
            HirKind::Alternation(branches) => {
                self.gap();
                let needs = branches.iter().map(|branch| self.branch(branch)).collect();
                self.needs.push(one_of(needs));
            }
        }
    }

    fn branch(&mut self, hir: &Hir) -> Need {
        let mut sequence =
            Sequence { builder: self.builder, literal: Vec::new(), needs: Vec::new() };
        sequence.walk(hir);
        sequence.finish()
    }

    fn gap(&mut self) {
        let literal = std::mem::take(&mut self.literal);
        self.needs.push(self.builder.text(&literal));
    }

    fn finish(mut self) -> Need {
        self.gap();
        all(self.needs)
    }
}

/// The one byte in lower case that every member of a class becomes, a space for classes of nothing
/// but separators, or none.
fn single_byte(class: &Class) -> Option<u8> {
    let ranges: Vec<(u32, u32)> = match class {
        Class::Unicode(class) => {
            class.ranges().iter().map(|r| (u32::from(r.start()), u32::from(r.end()))).collect()
        }
        Class::Bytes(class) => {
            class.ranges().iter().map(|r| (u32::from(r.start()), u32::from(r.end()))).collect()
        }
    };
    let mut single = None;
    for (start, end) in ranges {
        for code in start..=end {
            let byte = u8::try_from(code).ok().filter(u8::is_ascii)?;
            let byte = if is_word(byte) { byte.to_ascii_lowercase() } else { b' ' };
            if single.is_some_and(|known| known != byte) {
                return None;
            }
            single = Some(byte);
        }
    }
    single
}

fn all(mut needs: Vec<Need>) -> Need {
    needs.retain(|need| *need != Need::Nothing);
    needs.dedup();
    if needs.len() > 1 {
        return Need::All(needs);
    }
    needs.pop().unwrap_or(Need::Nothing)
}

fn one_of(mut needs: Vec<Need>) -> Need {
    if needs.contains(&Need::Nothing) {
        return Need::Nothing;
    }
    if needs.len() == 1 { needs.swap_remove(0) } else { Need::OneOf(needs) }
}

#[cfg(test)]
mod tests {
    use super::super::token::print;
    use super::*;
    use regex::Regex;

    fn contains(texts: &[&str]) -> Need {
        of_filters(&[LineFilter::Contains(texts.iter().map(|&t| t.into()).collect())])
    }

    fn matches(pattern: &str) -> Need {
        of_filters(&[LineFilter::Matches(vec![Regex::new(pattern).unwrap()])])
    }

    fn word(text: &str) -> Need {
        Need::Word(text.into())
    }

    fn run(text: &str, at_start: bool) -> Need {
        Need::Run { bytes: text.into(), at_start }
    }

    #[test]
    fn texts() {
        let cases = [
            (contains(&[""]), Need::Nothing),
            (contains(&["= "]), Need::Nothing),
            (contains(&["ab", "face", " ab "]), Need::Nothing),
            (contains(&["Error"]), run("error", false)),
            (contains(&[" Error "]), word("error")),
            (contains(&["a lost b", "a found b"]), Need::OneOf(vec![word("lost"), word("found")])),
            (contains(&["x lost", ""]), Need::Nothing),
            (contains(&["=lev"]), run("lev", true)),
            (contains(&["=12lev"]), run("lev", false)),
            (
                contains(&[" 4bf92f35 "]),
                Need::Print { hash: print(b"4bf92f35"), is_piece: false, in_uuid: true },
            ),
            (
                contains(&[" 4bf92f3577 "]),
                Need::Print { hash: print(b"4bf92f3577"), is_piece: false, in_uuid: false },
            ),
            (contains(&[" 12345 "]), Need::Nothing),
            (
                contains(&["4BF92f35-0000-1111-2222-333333333333"]),
                Need::Uuid(print(b"4bf92f35-0000-1111-2222-333333333333")),
            ),
            (contains(&[]), Need::OneOf(vec![])),
        ];
        for (found, expected) in cases {
            assert_eq!(found, expected);
        }
        let Need::Print { is_piece: true, .. } = contains(&["00f067aa0ba902b7"]) else {
            panic!("a piece of 16 bytes has one minimizer")
        };
    }

    #[test]
    fn expressions() {
        let cases = [
            (".*", Need::Nothing),
            ("(?i)timeout", run("timeout", false)),
            // K also matches the Kelvin sign, which the index keeps apart.
            ("(?i)xykabcz", run("abcz", false)),
            ("handler=[a-z]+Sub", Need::All(vec![run("handler", false), run("sub", false)])),
            ("a (lost|found) b", Need::OneOf(vec![run("lost", false), run("found", false)])),
            ("a(?:[ =]+)lost(?:[ =]+)b", word("lost")),
            (r"a\slost\sb", run("lost", false)),
            ("(?:lost)?", Need::Nothing),
            ("(?:lost)+", run("lost", false)),
            ("lost|", Need::Nothing),
        ];
        for (pattern, expected) in cases {
            assert_eq!(matches(pattern), expected, "{pattern}");
        }
    }

    #[test]
    fn negations_need_nothing_and_walks_are_bounded() {
        let filters = [
            LineFilter::NotContains(vec![" lost ".into()]),
            LineFilter::NotMatches(vec![Regex::new("lost").unwrap()]),
        ];
        assert_eq!(of_filters(&filters), Need::Nothing);
        let many: Vec<LineFilter> = (0..40)
            .map(|n| LineFilter::Contains(vec![format!("{}xyz", "a".repeat(n % 9))]))
            .collect();
        let Need::All(needs) = of_filters(&many) else { panic!("many needs") };
        assert_eq!(needs.len(), RUNS_MAX);
    }
}
