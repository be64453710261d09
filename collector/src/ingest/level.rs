//! The level of a line whose sender did not tell: from its text alone. Pure and cheap: looks at the
//! first part of a line only and allocates nothing.
//!
//! In order: a field of a JSON object or of `key=value` text, klog's prefix, a word that stands out
//! (upper case, in brackets or before a colon), any word that names a level without doubt.

use taffrail_model::Level;

/// How far into a line it looks.
const LOOK_BYTES: usize = 1024;
/// How far into a line without fields a word counts as its level.
const WORD_BYTES: usize = 256;

/// Names of fields that hold a level.
const KEYS: [&str; 8] =
    ["level", "lvl", "severity", "loglevel", "log_level", "levelname", "@l", "log.level"];

/// Detects the level of a line.
#[must_use]
pub fn detect_level(line: &str) -> Level {
    let bytes = &line.as_bytes()[..line.len().min(LOOK_BYTES)];
    let start = bytes.trim_ascii_start();
    let found = if start.first() == Some(&b'{') {
        json_field(start)
    } else {
        logfmt_field(bytes).or_else(|| klog(start))
    };
    found.or_else(|| word(&bytes[..bytes.len().min(WORD_BYTES)])).unwrap_or_default()
}

fn level_of(word: &[u8]) -> Option<Level> {
    Level::from_word(std::str::from_utf8(word).ok()?)
}

fn is_key(key: &[u8]) -> bool {
    KEYS.iter().any(|known| key.eq_ignore_ascii_case(known.as_bytes()))
}

/// `"level": "warn"` or, as pino and bunyan write, `"level":40`.
fn json_field(bytes: &[u8]) -> Option<Level> {
    let mut rest = bytes;
    loop {
        let open = memchr::memchr(b'"', rest)?;
        rest = &rest[open + 1..];
        let close = closing_quote(rest)?;
        let (text, after) = (&rest[..close], rest[close + 1..].trim_ascii_start());
        rest = &rest[close + 1..];
        let Some(value) = after.strip_prefix(b":").filter(|_| is_key(text)) else { continue };
        let value = value.trim_ascii_start();
        let level = match value.strip_prefix(b"\"") {
            Some(quoted) => closing_quote(quoted).and_then(|end| level_of(&quoted[..end])),
            None => number(value),
        };
        if level.is_some() {
            return level;
        }
    }
}

fn closing_quote(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + memchr::memchr2(b'"', b'\\', &bytes[from..])?;
        if bytes[at] == b'"' {
            return Some(at);
        }
        from = at + 2;
        if from > bytes.len() {
            return None;
        }
    }
}

fn number(value: &[u8]) -> Option<Level> {
    let digits = value.iter().take_while(|b| b.is_ascii_digit()).count();
    Some(match &value[..digits] {
        b"10" => Level::Trace,
        b"20" => Level::Debug,
        b"30" => Level::Info,
        b"40" => Level::Warn,
        b"50" => Level::Error,
        b"60" => Level::Fatal,
        _ => return None,
    })
}

/// `level=warn` or `level="warn"`, at the start of a word.
fn logfmt_field(bytes: &[u8]) -> Option<Level> {
    memchr::memchr_iter(b'=', bytes).find_map(|equals| {
        let key = bytes[..equals].rsplit(|b| b.is_ascii_whitespace() || *b == b',').next()?;
        if !is_key(key) {
            return None;
        }
        let value = &bytes[equals + 1..];
        let value = value.strip_prefix(b"\"").unwrap_or(value);
        let end = value.iter().position(|b| !b.is_ascii_alphabetic()).unwrap_or(value.len());
        level_of(&value[..end])
    })
}

/// `E1120 14:51:32.123456       1 file.go:12] text`.
fn klog(bytes: &[u8]) -> Option<Level> {
    let [letter, month_day @ .., b' '] = bytes.get(..6)? else { return None };
    if !month_day.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(match letter {
        b'I' => Level::Info,
        b'W' => Level::Warn,
        b'E' => Level::Error,
        b'F' => Level::Fatal,
        _ => return None,
    })
}

/// The first word that stands out, else the first that names a level without doubt.
fn word(bytes: &[u8]) -> Option<Level> {
    let mut plain = None;
    let mut at = 0;
    for word in bytes.split(|b| !b.is_ascii_alphanumeric() && *b != b'_') {
        let (begin, end) = (at, at + word.len());
        at = end + 1;
        if !(3..=13).contains(&word.len()) {
            continue;
        }
        let Some(level) = level_of(word) else { continue };
        let before = begin.checked_sub(1).and_then(|at| bytes.get(at));
        let marked = matches!(before, Some(b'[' | b'<' | b'(')) || bytes.get(end) == Some(&b':');
        if marked || word.iter().all(u8::is_ascii_uppercase) {
            return Some(level);
        }
        if plain.is_none() && is_plain(word) {
            plain = Some(level);
        }
    }
    plain
}

/// Words that people write for the level and seldom for something else.
fn is_plain(word: &[u8]) -> bool {
    let plain: [&[u8]; 9] =
        [b"error", b"err", b"warn", b"warning", b"info", b"debug", b"fatal", b"critical", b"panic"];
    plain.iter().any(|known| word.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn levels_of_common_formats() {
        use Level::{Critical, Debug, Error, Fatal, Info, Trace, Unknown, Warn};
        let cases = [
            (r#"{"ts":1,"level":"warn","msg":"error in level"}"#, Warn),
            (r#"{"msg":"level is \"error\"","severity" : "ERROR"}"#, Error),
            (r#"{"level":30,"time":1531171074631,"msg":"hi"}"#, Info),
            (r#"{"level":null,"lvl":"dbg"}"#, Debug),
            (r#"{"@l":"Fatal"}"#, Fatal),
            (r#"{"msg":"nothing here"}"#, Unknown),
            ("ts=1 level=info msg=\"an error\"", Info),
            ("level=\"error\" a=b", Error),
            ("a=b,lvl=trace", Trace),
            ("sublevel=error ok", Error),
            ("E1120 14:51:32.123456       1 a.go:12] oh", Error),
            ("I1120 14:51:32.123456       1 a.go:12] ERROR no", Info),
            ("2026-11-20 14:51:32,123 WARN  [main] c.a.B - retry", Warn),
            ("[2026-11-20] [error] [pid 3] broke", Error),
            ("2026/11/20 14:51:32 [crit] 3#3: *1", Critical),
            ("error: no such file", Error),
            ("An error occurred", Error),
            ("all is fine", Unknown),
            ("GET /information 200", Unknown),
            ("", Unknown),
        ];
        for (line, expected) in cases {
            assert_eq!(detect_level(line), expected, "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_text_has_a_level(line in "\\PC{0,80}", json in "[{]?[\"\\\\:a-z{} ]{0,40}") {
            let _ = detect_level(&line);
            let _ = detect_level(&json);
        }
    }
}
