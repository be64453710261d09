//! Finds the severity of a log line by its text.
//!
//! Looked for, in this order, and only in the first bytes of the line: the field `level` (or
//! `severity`, `lvl`, `loglevel`, `levelname`) of a JSON object or of `key=value` pairs; klog's
//! prefix (`E1120 14:51:32…`); a level's name in capitals or in brackets near the start
//! (`2026-11-20 ERROR …`, `[warn] …`), syslog's priority (`<11>…`). A guess that is not sure is no level.
//!
//! Pure, without allocation, and cheap enough for every line.

use taffrail_model::Level;

/// How much of a line is looked at, in bytes. Levels stand at the front, and a limit keeps the cost
/// of a line of a megabyte that of a short one.
const FIELD_BYTES: usize = 1024;
/// How far a bare word may stand from the start: behind a time, a thread and a logger's name.
const WORD_BYTES: usize = 96;

/// The severity that the text tells of.
#[must_use]
pub fn detect(line: &[u8]) -> Level {
    let trimmed = head(line);
    let found = match trimmed.first() {
        Some(b'{') => json(trimmed),
        Some(b'<') => priority(trimmed).or_else(|| plain(trimmed)),
        Some(_) => plain(trimmed),
        None => None,
    };
    found.unwrap_or_default()
}

/// The severity that a JSON object tells of.
#[must_use]
pub fn of_json(line: &[u8]) -> Level {
    let head = head(line);
    let found = if head.first() == Some(&b'{') { json(head) } else { None };
    found.unwrap_or_default()
}

/// The severity that `key=value` pairs tell of.
#[must_use]
pub fn of_logfmt(line: &[u8]) -> Level {
    logfmt(head(line)).unwrap_or_default()
}

/// The severity that klog's head tells of.
#[must_use]
pub fn of_klog(line: &[u8]) -> Level {
    klog(head(line)).unwrap_or_default()
}

fn head(line: &[u8]) -> &[u8] {
    line[..line.len().min(FIELD_BYTES)].trim_ascii_start()
}

fn plain(head: &[u8]) -> Option<Level> {
    klog(head).or_else(|| logfmt(head)).or_else(|| word(head))
}

/// The priority of syslog at the front: `<11>`.
fn priority(head: &[u8]) -> Option<Level> {
    let digits = head[1..].iter().take_while(|b| b.is_ascii_digit()).count();
    if !(1..=3).contains(&digits) || head.get(digits + 1) != Some(&b'>') {
        return None;
    }
    let number = head[1..=digits].iter().fold(0_u32, |n, b| n * 10 + u32::from(b - b'0'));
    Some(match (number <= 191).then_some(number % 8)? {
        0..=2 => Level::Critical,
        3 => Level::Error,
        4 => Level::Warn,
        5 | 6 => Level::Info,
        _ => Level::Debug,
    })
}

/// The names under which loggers write the level, in JSON and in `key=value` pairs.
fn is_level_key(key: &[u8]) -> bool {
    const KEYS: [&[u8]; 7] =
        [b"level", b"severity", b"lvl", b"loglevel", b"log.level", b"levelname", b"@level"];
    KEYS.iter().any(|k| key.eq_ignore_ascii_case(k))
}

/// A key of a JSON object, wherever it stands in the head. Nested objects are not told apart: the
/// first level that is named wins.
fn json(head: &[u8]) -> Option<Level> {
    for colon in memchr::memchr_iter(b':', head) {
        let before = head[..colon].trim_ascii_end();
        let Some(before) = before.strip_suffix(b"\"") else { continue };
        // The only keys that matter are short and hold no escapes.
        let Some(quote) = before.iter().rev().take(12).position(|b| *b == b'"') else { continue };
        if !is_level_key(&before[before.len() - quote..]) {
            continue;
        }
        let value = head[colon + 1..].trim_ascii_start();
        if let Some(text) = value.strip_prefix(b"\"") {
            return named(take_word(text));
        }
        return number(take_word(value));
    }
    None
}

/// Numeric levels of bunyan and pino: 10 trace, 20 debug, … 60 fatal.
fn number(digits: &[u8]) -> Option<Level> {
    Some(match digits {
        b"10" => Level::Trace,
        b"20" => Level::Debug,
        b"30" => Level::Info,
        b"40" => Level::Warn,
        b"50" => Level::Error,
        b"60" => Level::Fatal,
        _ => return None,
    })
}

/// `level=warn`, with or without quotes.
fn logfmt(head: &[u8]) -> Option<Level> {
    for equals in memchr::memchr_iter(b'=', head) {
        let before = &head[..equals];
        let start = before.iter().rposition(u8::is_ascii_whitespace).map_or(0, |at| at + 1);
        if is_level_key(&before[start..]) {
            let value = &head[equals + 1..];
            return named(take_word(value.strip_prefix(b"\"").unwrap_or(value)));
        }
    }
    None
}

/// `I1120 14:51:32.123456    1 file.go:12] text`.
fn klog(head: &[u8]) -> Option<Level> {
    let (level, rest) = head.split_first()?;
    let level = match level {
        b'I' => Level::Info,
        b'W' => Level::Warn,
        b'E' => Level::Error,
        b'F' => Level::Fatal,
        _ => return None,
    };
    let date = rest.get(..8)?;
    let digits = [0, 1, 2, 3, 5, 6];
    let right = digits.iter().all(|at| date[*at].is_ascii_digit());
    (right && date[4] == b' ' && date[7] == b':').then_some(level)
}

/// What a byte can be to a word: inside of one, the begin of one, or what opens one.
const INSIDE: u8 = 1;
const CAPITAL: u8 = 1 << 1;
const SMALL: u8 = 1 << 2;
const OPENS: u8 = 1 << 3;

static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0_u8;
    loop {
        classes[byte as usize] = match byte {
            b'A'..=b'Z' => INSIDE | CAPITAL,
            b'a'..=b'z' => INSIDE | SMALL,
            b'0'..=b'9' | b'_' => INSIDE,
            b'[' | b'<' | b'(' | b':' => OPENS,
            _ => 0,
        };
        if byte == u8::MAX {
            break;
        }
        byte += 1;
    }
    classes
};

/// A level's name as a word of its own near the start: in capitals anywhere, in any case when it
/// stands in brackets or before a colon at the very front (`error: …`).
fn word(head: &[u8]) -> Option<Level> {
    let near = &head[..head.len().min(WORD_BYTES)];
    let (mut at, mut front) = (0, 0);
    // At the front any word may be one.
    let mut last = OPENS;
    while at < near.len() {
        let class = CLASSES[usize::from(near[at])];
        // Most bytes are inside of words, and most words begin with a small letter.
        let capital = class & CAPITAL != 0 && last & INSIDE == 0;
        let begins = capital || (class & SMALL != 0 && last & OPENS != 0);
        last = class;
        if near[at] == 0x1B {
            at += colour(&near[at..]);
            (front, last) = (at, OPENS);
            continue;
        }
        if !begins {
            at += 1;
            continue;
        }
        // What colours a word is not a part of it.
        let before = at.checked_sub(1).filter(|_| at != front).map(|b| near[b]);
        let text = take_word(&near[at..]);
        let after = near.get(at + text.len()).copied();
        if let Some(level) = bare(text, before, after) {
            return Some(level);
        }
        at += text.len();
        last = INSIDE;
    }
    None
}

/// The length of a sequence that colours a terminal: `ESC [ 3 1 m`.
fn colour(text: &[u8]) -> usize {
    let inside = |b: &&u8| matches!(**b, b'[' | b';' | b'0'..=b'9');
    2 + text[1..].iter().take_while(inside).count()
}

fn bare(text: &[u8], before: Option<u8>, after: Option<u8>) -> Option<Level> {
    let stands_alone = |b: Option<u8>| b.is_none_or(|b| !b.is_ascii_alphanumeric() && b != b'_');
    if text.len() < 3 || !stands_alone(before) || !stands_alone(after) {
        return None;
    }
    let capitals = text.iter().all(u8::is_ascii_uppercase);
    let bracketed =
        matches!(before, Some(b'[' | b'<' | b'(')) && matches!(after, Some(b']' | b'>' | b')'));
    // Apache names the module too: `[core:error]`.
    let bracketed = bracketed || (before == Some(b':') && after == Some(b']'));
    let leads = before.is_none() && after == Some(b':');
    // .NET's console logger writes `fail: Category[13]`.
    if leads && text == b"fail" {
        return Some(Level::Error);
    }
    if capitals || bracketed || leads { named(text) } else { None }
}

fn take_word(text: &[u8]) -> &[u8] {
    let len = text.iter().take_while(|b| b.is_ascii_alphanumeric()).count();
    &text[..len]
}

fn named(word: &[u8]) -> Option<Level> {
    std::str::from_utf8(word).ok().and_then(Level::from_word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_loggers_write() {
        use Level::{Critical, Debug, Error, Fatal, Info, Trace, Unknown, Warn};
        let cases = [
            (r#"{"level":"error","msg":"x"}"#, Error),
            (r#"{"ts":1.5,"Severity" : "WARNING"}"#, Warn),
            (r#"{"time":1,"level":30,"msg":"x"}"#, Info),
            (r#"{"msg":"level: error"}"#, Unknown),
            (r#"{"level":{"a":1}}"#, Unknown),
            ("time=x level=warn msg=\"a level=error\"", Warn),
            (r#"level="debug" msg=x"#, Debug),
            ("sublevel=error", Unknown),
            ("E1120 14:51:32.123456       1 a.go:1] boom", Error),
            ("I1120 14:51:32.123456       1 a.go:1] ERROR in the text", Info),
            ("Error1120", Unknown),
            ("2026-11-20 14:51:32,123 ERROR [main] com.example.A - x", Error),
            ("2026/11/20 14:51:32 [warn] 12#0: x", Warn),
            ("[2026-11-20T14:51:32Z TRACE a::b] x", Trace),
            ("panic: runtime error", Critical),
            ("<FATAL> x", Fatal),
            ("<11>1 2026-11-20T14:51:32Z host app - - - x", Error),
            ("<999> x", Unknown),
            ("\x1b[31mERROR\x1b[0m x", Error),
            ("2026-11-20 \x1b[33;1mWARN\x1b[0m a::b: x", Warn),
            ("[Fri Nov 20 14:51:32 2026] [core:error] [pid 1] x", Error),
            ("[14:51:32 WRN] x", Warn),
            ("fail: Microsoft.AspNetCore[13]", Error),
            ("Traceback (most recent call last):", Unknown),
            ("an error occurred", Unknown),
            ("no INFORMATION_SCHEMA here", Unknown),
            ("10.0.0.1 - - \"GET /error HTTP/1.1\" 200", Unknown),
            ("", Unknown),
            ("   ", Unknown),
        ];
        for (line, expected) in cases {
            assert_eq!(detect(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn only_the_head_counts() {
        let line = format!("{} ERROR", "x ".repeat(600));
        assert_eq!(detect(line.as_bytes()), Level::Unknown);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = detect(&bytes);
        }

        #[test]
        fn any_level_is_found(at in 1_usize..8, rest in "[a-z ]{0,20}") {
            let level = Level::ALL[at];
            let upper = level.name().to_uppercase();
            let lines = [
                format!("{{\"level\":\"{level}\",\"msg\":\"{rest}\"}}"),
                format!("a=b level={level} msg=\"{rest}\""),
                format!("12:00 {upper} {rest}"),
            ];
            for line in lines {
                prop_assert_eq!(detect(line.as_bytes()), level, "{}", line);
            }
        }
    }
}
