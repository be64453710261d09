//! What is made of digits: payment cards, social security numbers, telephones, IPv4.
//!
//! Each is at least seven bytes of digits and separators long, so it is enough to look at every
//! seventh byte of a line, and to look around only where a digit stands (or a separator between two).

use super::{Detector, Find};

/// The shortest find: `1.2.3.4`.
const STRIDE: usize = 7;
/// Most groups of digits of a run that are looked at together: more than a find has.
const GROUPS_MAX: usize = 24;
/// Most groups of a find: fifteen digits of a telephone, one by one.
const GROUPS_OF_FIND: usize = 15;

/// What is looked for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    pub(super) card: bool,
    pub(super) ssn: bool,
    pub(super) phone: bool,
    pub(super) ip: bool,
}

impl Wanted {
    /// Whether a run has the digits and the dots for anything that is wanted. Dates and durations,
    /// which nearly every line has, do not.
    fn fits(self, run: &[u8]) -> bool {
        let digits = run.iter().filter(|b| b.is_ascii_digit()).count();
        let dots = run.iter().filter(|b| **b == b'.').count();
        (self.card && digits >= 13)
            || (self.ssn && digits >= 9)
            || (self.phone && digits >= 8)
            || (self.ip && digits >= 4 && dots >= 3)
    }
}

/// Digits without anything between.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    begin: usize,
    end: usize,
}

impl Group {
    fn len(self) -> usize {
        self.end - self.begin
    }
}

fn is_inside(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b' ' | b'(' | b')' | b'+')
}

/// Looks for everything wanted.
pub(super) fn find(text: &[u8], wanted: Wanted, finds: &mut Vec<Find>) {
    let mut at = STRIDE - 1;
    let mut done = 0;
    while at < text.len() {
        if !is_candidate(text, at) {
            at += STRIDE;
            continue;
        }
        let left = text[done..at].iter().rev().take_while(|b| is_inside(**b)).count();
        let right = text[at..].iter().take_while(|b| is_inside(**b)).count();
        let (begin, end) = (at - left, at + right);
        if end - begin >= STRIDE && wanted.fits(&text[begin..end]) {
            run(text, begin, end, wanted, finds);
        }
        done = end;
        at = end + STRIDE;
    }
}

/// A digit, or a separator beside one.
fn is_candidate(text: &[u8], at: usize) -> bool {
    let digit = |at: usize| text.get(at).is_some_and(u8::is_ascii_digit);
    digit(at) || (is_inside(text[at]) && (digit(at + 1) || digit(at - 1) || digit(at + 2)))
}

/// A run of digits and separators. One of very many groups is looked at in pieces that overlap by what
/// a find may have.
fn run(text: &[u8], begin: usize, end: usize, wanted: Wanted, finds: &mut Vec<Find>) {
    let mut from = Some(begin);
    while let Some(begin) = from {
        from = piece(text, begin, end, wanted, finds);
    }
}

/// The first groups of a run; where the next piece begins.
fn piece(
    text: &[u8],
    begin: usize,
    end: usize,
    wanted: Wanted,
    finds: &mut Vec<Find>,
) -> Option<usize> {
    let (mut groups, mut count) = ([Group::default(); GROUPS_MAX], 0);
    let mut at = begin;
    while at < end && count < GROUPS_MAX {
        let digits = text[at..end].iter().take_while(|b| b.is_ascii_digit()).count();
        if digits > 0 {
            groups[count] = Group { begin: at, end: at + digits };
            count += 1;
        }
        at += digits + 1;
    }
    let groups = &groups[..count];
    let mut first = 0;
    while first < groups.len() {
        let rest = &groups[first..];
        let found = wanted.card.then(|| card(text, rest)).flatten();
        let found = found.or_else(|| wanted.ssn.then(|| ssn(text, rest)).flatten());
        let found = found.or_else(|| wanted.ip.then(|| ipv4(text, rest)).flatten());
        let found = found.or_else(|| wanted.phone.then(|| phone(text, rest)).flatten());
        match found {
            Some((find, count)) => {
                finds.push(find);
                first += count;
            }
            None => first += 1,
        }
    }
    if at >= end {
        return None;
    }
    Some(groups.len().checked_sub(GROUPS_OF_FIND).map_or(at, |first| groups[first].begin))
}

fn byte_before(text: &[u8], at: usize) -> Option<u8> {
    at.checked_sub(1).map(|at| text[at])
}

/// Whether the digits are not a part of a longer word or number.
fn stands_alone(text: &[u8], begin: usize, end: usize) -> bool {
    stands_alone_before(text, begin) && stands_alone_behind(text, end)
}

/// The separators between the first `count` groups, if each is a single byte.
fn single(text: &[u8], groups: &[Group], count: usize) -> Option<u8> {
    let first = text[groups[0].end];
    let same = groups[..count]
        .windows(2)
        .all(|pair| pair[1].begin == pair[0].end + 1 && text[pair[0].end] == first);
    same.then_some(first)
}

fn card(text: &[u8], groups: &[Group]) -> Option<(Find, usize)> {
    let shapes: [&[usize]; 7] = [
        &[4, 4, 4, 4, 3],
        &[4, 4, 4, 4],
        &[4, 6, 5],
        &[4, 6, 4],
        &[4, 4, 4, 1],
        &[4, 4, 4, 2],
        &[4, 4, 5],
    ];
    let whole = groups[0].len();
    let count = if (13..=19).contains(&whole) {
        1
    } else {
        let fits = |shape: &&&[usize]| {
            groups.len() >= shape.len()
                && shape.iter().zip(groups).all(|(len, group)| group.len() == *len)
                && matches!(single(text, groups, shape.len()), Some(b' ' | b'-'))
        };
        shapes.iter().find(fits)?.len()
    };
    let (begin, end) = (groups[0].begin, groups[count - 1].end);
    let digits: Vec<u8> =
        text[begin..end].iter().filter(|b| b.is_ascii_digit()).map(|b| b - b'0').collect();
    if !is_issued(&digits) || !luhn(&digits) {
        return None;
    }
    if let Some(end) = track(text, begin, end) {
        return Some((Find { begin, end, detector: Detector::Card }, count));
    }
    // `card-4111-…` and `4111….0` are the number, too.
    let rest = &text[end..];
    let zeros = rest.iter().skip(1).take_while(|b| **b == b'0').count();
    let whole = count == 1
        && rest.first() == Some(&b'.')
        && (1..=2).contains(&zeros)
        && !rest.get(1 + zeros).is_some_and(u8::is_ascii_alphanumeric);
    let to = if whole { end + 1 + zeros } else { end };
    let before = is_named(text, begin, count > 1) || stands_alone_before(text, begin);
    let good = before && (whole || stands_alone_behind(text, end));
    good.then_some((Find { begin, end: to, detector: Detector::Card }, count))
}

/// Whether nothing stands before the digits that they go on from.
fn stands_alone_before(text: &[u8], begin: usize) -> bool {
    let word = |at: Option<usize>| at.is_some_and(|at| text[at].is_ascii_alphanumeric());
    let before = byte_before(text, begin);
    let joint = matches!(before, Some(b'.' | b'-'));
    !(word(begin.checked_sub(1)) || before == Some(b'_') || (joint && word(begin.checked_sub(2))))
}

/// Whether nothing goes on behind the digits.
fn stands_alone_behind(text: &[u8], end: usize) -> bool {
    let word = |at: usize| text.get(at).is_some_and(u8::is_ascii_alphanumeric);
    let joint = matches!(text.get(end), Some(b'.' | b'-'));
    !(word(end) || text.get(end) == Some(&b'_') || (joint && word(end + 1)))
}

/// Whether a word and a dash stand before the number: any word before one in the groups of a card, one
/// that says so before one in a piece.
fn is_named(text: &[u8], begin: usize, grouped: bool) -> bool {
    if byte_before(text, begin) != Some(b'-') {
        return false;
    }
    let head = &text[begin.saturating_sub(17)..begin - 1];
    let len = head.iter().rev().take_while(|b| b.is_ascii_alphabetic()).count();
    let (head, word) = head.split_at(head.len() - len);
    let names: [&[u8]; 3] = [b"card", b"pan", b"cc"];
    let said = if grouped { len >= 3 } else { names.iter().any(|n| word.eq_ignore_ascii_case(n)) };
    said && !head.last().is_some_and(|b| b.is_ascii_digit() || *b == b'-')
}

/// Where a track of a magnetic stripe ends: `%B4111…^NAME^…?`, `;4111…=…?`.
fn track(text: &[u8], begin: usize, end: usize) -> Option<usize> {
    let rest = &text[end..text.len().min(end + 100)];
    let first = rest.first() == Some(&b'^') && text[..begin].ends_with(b"%B");
    let second = byte_before(text, begin) == Some(b';')
        && rest.first() == Some(&b'=')
        && rest.get(1..5).is_some_and(|date| date.iter().all(u8::is_ascii_digit));
    let over = |b: &u8| {
        if first { matches!(b, b'?' | b'"' | b'\n') } else { !b.is_ascii_digit() && *b != b'=' }
    };
    (first || second).then(|| end + rest.iter().position(over).unwrap_or(rest.len()))
}

/// Whether a network issues cards of these first digits with this length.
fn is_issued(digits: &[u8]) -> bool {
    let head = |n: usize| digits[..n].iter().fold(0_u32, |v, d| v * 10 + u32::from(*d));
    let (two, three, four) = (head(2), head(3), head(4));
    match digits.len() {
        13 => two / 10 == 4,
        14 => matches!(three, 300..=305 | 309) || matches!(two, 36 | 38 | 39),
        15 => matches!(two, 34 | 37),
        16 => {
            two / 10 == 4
                || matches!(two, 51..=55 | 60 | 62 | 64 | 65)
                || matches!(four, 2221..=2720 | 3528..=3589 | 5018 | 5020 | 5038 | 5893 | 6304 | 6759 | 6761..=6763)
        }
        17 | 18 => matches!(two, 62),
        19 => two / 10 == 4 || matches!(two, 62 | 65),
        _ => false,
    }
}

/// The check that all card numbers pass, and one in ten of any others.
pub(super) fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| {
            let value = u32::from(*digit) * if at % 2 == 1 { 2 } else { 1 };
            if value > 9 { value - 9 } else { value }
        })
        .sum();
    sum.is_multiple_of(10) && digits.iter().any(|d| *d != 0)
}

fn value(text: &[u8], group: Group) -> u32 {
    text[group.begin..group.end].iter().fold(0, |v, b| v * 10 + u32::from(b - b'0'))
}

/// `078-05-1120`: areas 000, 666 and from 900, groups 00 and serials 0000 were never given.
fn ssn(text: &[u8], groups: &[Group]) -> Option<(Find, usize)> {
    let [area, group, serial, ..] = groups else { return None };
    if (area.len(), group.len(), serial.len()) != (3, 2, 4)
        || !matches!(single(text, groups, 3), Some(b'-' | b' '))
    {
        return None;
    }
    let given = !matches!(value(text, *area), 0 | 666 | 900..)
        && value(text, *group) != 0
        && value(text, *serial) != 0;
    let alone = stands_alone(text, area.begin, serial.end);
    (given && alone)
        .then_some((Find { begin: area.begin, end: serial.end, detector: Detector::Ssn }, 3))
}

/// Words before a number of four parts that make it a version.
const VERSIONS: [&[u8]; 9] =
    [b"version", b"chrome", b"safari", b"firefox", b"edg", b"opr", b"build", b"release", b"ver"];

fn ipv4(text: &[u8], groups: &[Group]) -> Option<(Find, usize)> {
    if groups.len() < 4 || single(text, groups, 4) != Some(b'.') {
        return None;
    }
    let four = &groups[..4];
    let part = |group: &Group| {
        group.len() <= 3
            && (group.len() == 1 || text[group.begin] != b'0')
            && value(text, *group) <= 255
    };
    let (begin, end) = (four[0].begin, four[3].end);
    // Its own and nobody's.
    let nobody =
        matches!(value(text, four[0]), 0 | 127) || four.iter().all(|g| value(text, *g) == 255);
    let after_dash = byte_before(text, end.min(begin)) == Some(b'-');
    let alone = stands_alone(text, begin, end) && !after_dash;
    let good = four.iter().all(part) && !nobody && alone && !follows_version(text, begin);
    good.then_some((Find { begin, end, detector: Detector::Ip }, 4))
}

fn follows_version(text: &[u8], begin: usize) -> bool {
    let before = &text[begin.saturating_sub(16)..begin];
    let joint = |b: &u8| matches!(b, b'/' | b'=' | b':' | b' ' | b'"' | b'\'');
    let word_end = before.len() - before.iter().rev().take_while(|b| joint(b)).count();
    let word: Vec<u8> = before[..word_end].to_ascii_lowercase();
    VERSIONS.iter().any(|version| word.ends_with(version))
}

/// `+1 212-555-0123`, `(212) 555-0123`, `212.555.0123`, `+49 30 901820`.
fn phone(text: &[u8], groups: &[Group]) -> Option<(Find, usize)> {
    let first = groups[0];
    let before = byte_before(text, first.begin);
    if before == Some(b'+')
        && !byte_before(text, first.begin - 1).is_some_and(|b| b.is_ascii_alphanumeric())
    {
        return international(text, groups);
    }
    let bracket = before == Some(b'(');
    let [area, exchange, number, ..] = groups else { return None };
    if (area.len(), exchange.len(), number.len()) != (3, 3, 4) || text[number.end - 1] == b' ' {
        return None;
    }
    let joint = |a: Group, b: Group| &text[a.end..b.begin];
    let last = joint(*exchange, *number);
    let shape = if bracket {
        matches!(joint(*area, *exchange), b") " | b")" | b")-")
            && matches!(last, b"-" | b" " | b".")
    } else {
        matches!(joint(*area, *exchange), b"-" | b".") && last == joint(*area, *exchange)
    };
    let begin = area.begin - usize::from(bracket);
    let numbered = text[area.begin] >= b'2' && text[exchange.begin] >= b'2';
    let alone = stands_alone(text, begin, number.end);
    (shape && numbered && alone)
        .then_some((Find { begin, end: number.end, detector: Detector::Phone }, 3))
}

/// A plus and eight to fifteen digits, with single separators.
fn international(text: &[u8], groups: &[Group]) -> Option<(Find, usize)> {
    let (mut count, mut digits) = (0_usize, 0);
    for (at, group) in groups.iter().enumerate() {
        let joint =
            at.checked_sub(1).map_or(&b""[..], |before| &text[groups[before].end..group.begin]);
        let near = matches!(joint, b"" | b" " | b"-" | b"." | b" (" | b") " | b")" | b"(");
        if !near || digits + group.len() > 15 {
            break;
        }
        digits += group.len();
        count += 1;
    }
    let (begin, end) = (groups[0].begin - 1, groups[count.checked_sub(1)?].end);
    // `+0100` is a zone; a number in one piece may be a difference.
    let good =
        (8..=15).contains(&digits) && text[begin + 1] != b'0' && stands_alone(text, begin + 1, end);
    good.then_some((Find { begin, end, detector: Detector::Phone }, count))
}
