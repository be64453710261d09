//! Reads the language of Prometheus' test scripts.

use regex::Regex;
use taffrail_model::Labels;
use taffrail_model::sample::{METRIC_NAME, stale_nan};

use crate::promql::lex::{self, Token, parse_duration, parse_number};

/// One step of a script.
#[derive(Debug)]
pub(super) enum Command {
    Clear,
    Load { step: i64, lines: Vec<SeriesLine>, as_native: bool },
    Eval(Box<Eval>),
}

/// A question and what should come of it.
#[derive(Debug)]
pub(super) struct Eval {
    pub(super) line: usize,
    pub(super) query: String,
    /// Start, end, step; one time when the step is absent.
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) step: Option<i64>,
    pub(super) expect: Vec<Expect>,
    pub(super) ordered: bool,
    pub(super) text: Option<String>,
    pub(super) scalar: Option<f64>,
    /// Start and step of the expected range vector.
    pub(super) range_vector: Option<(i64, i64)>,
    pub(super) series: Vec<SeriesLine>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    Fail,
    Warn,
    Info,
    NoWarn,
    NoInfo,
}

#[derive(Debug)]
pub(super) struct Expect {
    pub(super) topic: Topic,
    pub(super) text: Pattern,
}

#[derive(Debug)]
pub(super) enum Pattern {
    Any,
    Exactly(String),
    Matches(Regex),
}

impl Pattern {
    pub(super) fn accepts(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(expected) => expected == text,
            Self::Matches(regex) => regex.is_match(text),
        }
    }
}

/// A series and its values, one a step.
#[derive(Clone, Debug)]
pub(super) struct SeriesLine {
    pub(super) labels: Labels,
    pub(super) values: Vec<Point>,
    /// The line gives start timestamps.
    pub(super) start_times: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Point {
    Gap,
    Float(f64),
    Histogram,
}

pub(super) fn read(text: &str) -> Vec<Command> {
    let lines: Vec<&str> = text
        .lines()
        .map(|line| if line.trim_start().starts_with('#') { "" } else { line.trim() })
        .collect();
    let mut commands = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let head = lines[at];
        let first = at + 1;
        at += 1;
        if head.is_empty() {
            continue;
        }
        while at < lines.len() && !lines[at].is_empty() {
            at += 1;
        }
        let body = &lines[first..at];
        if head == "clear" {
            commands.push(Command::Clear);
            at = first;
        } else if let Some(rest) = head.strip_prefix("load") {
            let as_native = rest.starts_with("_with_nhcb");
            let step = time(rest.trim_start_matches("_with_nhcb").trim());
            let lines = body.iter().map(|line| series(line)).collect();
            commands.push(Command::Load { step, lines, as_native });
        } else if head.starts_with("eval") {
            commands.push(Command::Eval(Box::new(eval(head, body, first))));
        } else {
            panic!("line {first}: unknown command {head}");
        }
    }
    commands
}

fn time(text: &str) -> i64 {
    if let Some(positive) = text.strip_prefix('-') {
        return -time(positive);
    }
    #[expect(clippy::cast_possible_truncation, reason = "script times are small")]
    parse_duration(text)
        .or_else(|| parse_number(text).map(|seconds| (seconds * 1000.0) as i64))
        .unwrap_or_else(|| panic!("not a time: {text}"))
}

fn eval(head: &str, body: &[&str], line: usize) -> Eval {
    let instant =
        Regex::new(r"^eval(?:_(\w+))?\s+instant\s+(?:at\s+(\S+)\s+)?(.+)$").expect("valid");
    let range =
        Regex::new(r"^eval(?:_(\w+))?\s+range\s+from\s+(\S+)\s+to\s+(\S+)\s+step\s+(\S+)\s+(.+)$")
            .expect("valid");
    let (mode, start, end, step, query) = if let Some(c) = instant.captures(head) {
        let at = c.get(2).map_or(0, |at| time(at.as_str()));
        (c.get(1), at, at, None, c[3].to_owned())
    } else {
        let c = range.captures(head).unwrap_or_else(|| panic!("line {line}: {head}"));
        (c.get(1), time(&c[2]), time(&c[3]), Some(time(&c[4])), c[5].to_owned())
    };
    let mut eval = Eval {
        line,
        query,
        start,
        end,
        step,
        expect: Vec::new(),
        ordered: false,
        text: None,
        scalar: None,
        range_vector: None,
        series: Vec::new(),
    };
    match mode.map(|mode| mode.as_str()) {
        Some("ordered") => eval.ordered = true,
        Some(mode) => eval.expect.push(Expect { topic: topic(mode), text: Pattern::Any }),
        None => {}
    }
    for line in body {
        expectation(&mut eval, line);
    }
    eval
}

fn topic(word: &str) -> Topic {
    match word {
        "fail" => Topic::Fail,
        "warn" => Topic::Warn,
        "info" => Topic::Info,
        "no_warn" => Topic::NoWarn,
        "no_info" => Topic::NoInfo,
        _ => panic!("unknown expectation {word}"),
    }
}

fn expectation(eval: &mut Eval, line: &str) {
    if let Some(rest) = line.strip_prefix("expect ") {
        let rest = rest.trim();
        if rest == "ordered" {
            eval.ordered = true;
        } else if let Some(text) = rest.strip_prefix("string ") {
            let tokens = lex::tokens(text).expect("a string");
            let Token::Text(text) = &tokens[0].token else { panic!("not a string: {text}") };
            eval.text = Some(text.clone());
        } else if let Some(range) = rest.strip_prefix("range vector from ") {
            let words: Vec<&str> = range.split_whitespace().collect();
            eval.range_vector = Some((time(words[0]), time(words[4])));
        } else {
            let (word, pattern) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            let pattern = pattern.trim();
            let text = if let Some(message) = pattern.strip_prefix("msg:") {
                Pattern::Exactly(message.trim().to_owned())
            } else if let Some(regex) = pattern.strip_prefix("regex:") {
                Pattern::Matches(Regex::new(regex.trim()).expect("a regex"))
            } else {
                Pattern::Any
            };
            eval.expect.push(Expect { topic: topic(word), text });
        }
    } else if let Some(message) = line.strip_prefix("expected_fail_message ") {
        let text = Pattern::Exactly(message.trim().to_owned());
        eval.expect.push(Expect { topic: Topic::Fail, text });
    } else if let Some(regex) = line.strip_prefix("expected_fail_regexp ") {
        let text = Pattern::Matches(Regex::new(regex.trim()).expect("a regex"));
        eval.expect.push(Expect { topic: Topic::Fail, text });
    } else if let Some(number) = parse_number(line) {
        eval.scalar = Some(number);
    } else {
        eval.series.push(series(line));
    }
}

/// Reads `name{label="value"} values…`.
fn series(line: &str) -> SeriesLine {
    let end = end_of_name(line);
    let rest = &line[end..];
    let start_times = rest.starts_with('@');
    let values = if start_times { Vec::new() } else { points(rest) };
    SeriesLine { labels: labels(&line[..end]), values, start_times }
}

fn end_of_name(line: &str) -> usize {
    let mut quote = None;
    let mut braces = false;
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '{') => braces = true,
            (None, '}') => return at + 1,
            (None, c) if !braces && (c.is_whitespace() || c == '@') => return at,
            _ => {}
        }
    }
    line.len()
}

fn labels(text: &str) -> Labels {
    let tokens = lex::tokens(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let tokens: Vec<Token> = tokens.into_iter().map(|t| t.token).collect();
    let mut pairs: Vec<(String, String)> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let name = match &tokens[at] {
            Token::Word(name) | Token::Text(name) => name.clone(),
            _ => {
                at += 1;
                continue;
            }
        };
        if let (Some(Token::Symbol("=")), Some(Token::Text(value))) =
            (tokens.get(at + 1), tokens.get(at + 2))
        {
            pairs.push((name, value.clone()));
            at += 3;
        } else {
            pairs.push((METRIC_NAME.to_owned(), name));
            at += 1;
        }
    }
    Labels::from_pairs(pairs)
}

fn points(text: &str) -> Vec<Point> {
    let mut points = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        // A histogram holds spaces.
        let mut end = 0;
        let mut depth = 0;
        for (at, c) in rest.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                c if c.is_whitespace() && depth == 0 => break,
                _ => {}
            }
            end = at + c.len_utf8();
        }
        item(&rest[..end], &mut points);
        rest = rest[end..].trim_start();
    }
    points
}

fn item(text: &str, points: &mut Vec<Point>) {
    let times =
        |text: &str| text.parse::<usize>().unwrap_or_else(|_| panic!("not a count: {text}"));
    if text.starts_with("{{") {
        let count = text.rsplit_once("}}x").map_or(0, |(_, count)| times(count));
        points.extend(std::iter::repeat_n(Point::Histogram, count + 1));
    } else if let Some(rest) = text.strip_prefix('_') {
        let count = rest.strip_prefix('x').map_or(1, times);
        points.extend(std::iter::repeat_n(Point::Gap, count));
    } else if let Some(rest) = text.strip_prefix("stale") {
        let count = rest.strip_prefix('x').map_or(0, times);
        points.extend(std::iter::repeat_n(Point::Float(stale_nan()), count + 1));
    } else {
        let (value, count) = text.rsplit_once('x').map_or((text, 0), |(v, n)| (v, times(n)));
        let (mut value, delta) = with_delta(value);
        for _ in 0..=count {
            points.push(Point::Float(value));
            value += delta;
        }
    }
}

/// Splits `a+b` or `a-b`.
fn with_delta(text: &str) -> (f64, f64) {
    if let Some(number) = parse_number(text) {
        return (number, 0.0);
    }
    for (at, c) in text.char_indices().skip(1) {
        if matches!(c, '+' | '-')
            && let (Some(value), Some(delta)) =
                (parse_number(&text[..at]), parse_number(&text[at..]))
        {
            return (value, delta);
        }
    }
    panic!("not a value: {text}")
}
