//! PromQL text to tokens.
//!
//! Every token knows where it starts and ends, in bytes. Between brackets a colon stands alone
//! (`[5m:1m]`), elsewhere it is a letter of a metric name. The number of tokens is bounded by the
//! length of the text, which the caller bounds.

use super::error::ParseError;

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A number, or a duration in seconds.
    Number(f64),
    /// A keyword, function, label or metric name, as written.
    Word(String),
    /// A quoted text, unquoted.
    Text(String),
    /// An operator or a bracket.
    Symbol(&'static str),
    /// The end of the text.
    End,
}

impl Token {
    /// How the token is called in an error message.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Number(number) => format!("number {number}"),
            Self::Word(word) => format!("{word:?}"),
            Self::Text(text) => format!("string {text:?}"),
            Self::Symbol(symbol) => format!("{symbol:?}"),
            Self::End => "end of input".to_owned(),
        }
    }
}

/// A token and its place.
#[derive(Clone, Debug)]
pub(super) struct Spanned {
    pub(super) token: Token,
    pub(super) start: usize,
}

/// Longer symbols first, so that `=~` is not read as `=`.
const SYMBOLS: [&str; 24] = [
    "==", "=~", "!=", "!~", "<=", ">=", "+", "-", "*", "/", "%", "^", "<", ">", "=", "(", ")", "{",
    "}", "[", "]", ",", "@", ":",
];

/// Reads all tokens of a query; the last one is [`Token::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<Spanned>, ParseError> {
    let mut lexer = Lexer { text, at: 0, brackets: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_space();
        let start = lexer.at;
        let token = lexer.next()?;
        let done = token == Token::End;
        tokens.push(Spanned { token, start });
        if done {
            return Ok(tokens);
        }
    }
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
    brackets: usize,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start_matches([' ', '\t', '\n', '\r']);
            let mut skipped = rest.len() - trimmed.len();
            if trimmed.starts_with('#') {
                skipped += trimmed.find('\n').unwrap_or(trimmed.len());
            }
            if skipped == 0 {
                return;
            }
            self.at += skipped;
        }
    }

    fn next(&mut self) -> Result<Token, ParseError> {
        let rest = self.rest();
        let mut characters = rest.chars();
        let Some(first) = characters.next() else {
            return Ok(Token::End);
        };
        let second = characters.next();
        if first.is_ascii_digit() || (first == '.' && second.is_some_and(|c| c.is_ascii_digit())) {
            return self.number();
        }
        if matches!(first, '"' | '\'' | '`') {
            return self.quoted(first);
        }
        let colon = first == ':' && self.brackets == 0;
        if first.is_ascii_alphabetic() || first == '_' || colon {
            return Ok(self.word());
        }
        let symbol = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol));
        let Some(symbol) = symbol else {
            return Err(ParseError::new(self.at, format!("unexpected character: {first:?}")));
        };
        match symbol {
            "[" => self.brackets += 1,
            "]" => self.brackets = self.brackets.saturating_sub(1),
            _ => {}
        }
        self.at += symbol.len();
        Ok(Token::Symbol(symbol))
    }

    fn word(&mut self) -> Token {
        let colons = self.brackets == 0;
        let rest = self.rest();
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || (c == ':' && colons)))
            .unwrap_or(rest.len());
        let word = rest[..end].to_owned();
        self.at += end;
        Token::Word(word)
    }

    fn number(&mut self) -> Result<Token, ParseError> {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let mut end = 0;
        while let Some(byte) = bytes.get(end) {
            let exponent_sign = matches!(byte, b'+' | b'-')
                && matches!(bytes.get(end.wrapping_sub(1)), Some(b'e' | b'E'))
                && !rest.starts_with("0x")
                && !rest.starts_with("0X");
            if !(byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_') || exponent_sign) {
                break;
            }
            end += 1;
        }
        let text = &rest[..end];
        let value = parse_number(text).or_else(|| parse_duration(text).map(seconds));
        let Some(value) = value else {
            let message = format!("bad number or duration syntax: {text:?}");
            return Err(ParseError::new(self.at, message));
        };
        self.at += end;
        Ok(Token::Number(value))
    }

    fn quoted(&mut self, quote: char) -> Result<Token, ParseError> {
        let start = self.at;
        let body = &self.text[start + 1..];
        let mut bytes = Vec::new();
        let mut characters = body.char_indices();
        while let Some((at, c)) = characters.next() {
            match c {
                c if c == quote => {
                    self.at = start + 1 + at + 1;
                    let text = String::from_utf8(bytes).map_err(|_| {
                        ParseError::new(start, "the string is not valid UTF-8".to_owned())
                    })?;
                    return Ok(Token::Text(text));
                }
                '\n' if quote != '`' => break,
                '\\' if quote != '`' => {
                    let used = unescape(&body[at..], quote, &mut bytes).ok_or_else(|| {
                        let message = "unknown or unfinished escape sequence in string".to_owned();
                        ParseError::new(start + 1 + at, message)
                    })?;
                    let next = at + used;
                    while characters.clone().next().is_some_and(|(i, _)| i < next) {
                        characters.next();
                    }
                }
                c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        Err(ParseError::new(start, "unterminated quoted string".to_owned()))
    }
}

/// Reads one escape sequence at the start of `text`; gives the bytes it took.
fn unescape(text: &str, quote: char, out: &mut Vec<u8>) -> Option<usize> {
    let kind = text[1..].chars().next()?;
    let simple = match kind {
        'a' => Some(7),
        'b' => Some(8),
        'f' => Some(12),
        'n' => Some(b'\n'),
        'r' => Some(b'\r'),
        't' => Some(b'\t'),
        'v' => Some(11),
        '\\' => Some(b'\\'),
        c if c == quote => u8::try_from(c).ok(),
        _ => None,
    };
    if let Some(byte) = simple {
        out.push(byte);
        return Some(2);
    }
    let (digits_at, count, radix) = match kind {
        'x' => (2, 2, 16),
        'u' => (2, 4, 16),
        'U' => (2, 8, 16),
        '0'..='7' => (1, 3, 8),
        _ => return None,
    };
    let digits = text.get(digits_at..digits_at + count)?;
    if !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let code = u32::from_str_radix(digits, radix).ok()?;
    if matches!(kind, 'u' | 'U') {
        out.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
    } else {
        out.push(u8::try_from(code).ok()?);
    }
    Some(digits_at + count)
}

#[expect(clippy::cast_precision_loss, reason = "durations are far below 2^53 milliseconds")]
fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}

/// Reads a number as Go and Prometheus write them: decimal, `0x1F`, `0b1`, `0o7`, a leading zero
/// for octal, `_` between digits, `Inf` and `NaN` in any case.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "literals are floats by definition")]
pub(super) fn parse_number(text: &str) -> Option<f64> {
    let (negative, body) = match text.strip_prefix('-') {
        Some(body) => (true, body),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let sign = if negative { -1.0 } else { 1.0 };
    match body.to_ascii_lowercase().as_str() {
        "inf" | "infinity" => return Some(sign * f64::INFINITY),
        "nan" => return Some(f64::NAN),
        _ => {}
    }
    if !body.starts_with(|c: char| c.is_ascii_digit() || c == '.') || body.ends_with('_') {
        return None;
    }
    let plain = body.replace('_', "");
    let lower = plain.to_ascii_lowercase();
    for (prefix, radix) in [("0x", 16), ("0b", 2), ("0o", 8)] {
        if let Some(digits) = lower.strip_prefix(prefix) {
            return u64::from_str_radix(digits, radix).ok().map(|n| sign * n as f64);
        }
    }
    let octal =
        lower.len() > 1 && lower.starts_with('0') && lower.bytes().all(|b| b.is_ascii_digit());
    if octal && let Ok(number) = u64::from_str_radix(&lower, 8) {
        return Some(sign * number as f64);
    }
    if lower.ends_with(|c: char| c.is_ascii_digit() || c == '.') {
        return lower.parse::<f64>().ok().map(|n| sign * n);
    }
    None
}

/// Reads a duration such as `1h30m` or `15s250ms` into milliseconds: units in falling order, each
/// at most once.
#[must_use]
pub fn parse_duration(text: &str) -> Option<i64> {
    const UNITS: [(&str, i64); 7] = [
        ("y", 31_536_000_000),
        ("w", 604_800_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total = 0_i64;
    let mut rank_min = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_len = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let rank = UNITS.iter().position(|(unit, _)| *unit == &rest[..unit_len])?;
        if rank < rank_min {
            return None;
        }
        rank_min = rank + 1;
        total = total.checked_add(number.checked_mul(UNITS[rank].1)?)?;
        rest = &rest[unit_len..];
    }
    // Prometheus keeps durations in nanoseconds and refuses what does not fit.
    (!text.is_empty() && total <= i64::MAX / 1_000_000).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers() {
        let cases = [
            ("1", Some(1.0)),
            ("1e3", Some(1000.0)),
            (".5", Some(0.5)),
            ("5.", Some(5.0)),
            ("0x1F", Some(31.0)),
            ("0755", Some(493.0)),
            ("00.5", Some(0.5)),
            ("1_000", Some(1000.0)),
            ("-Inf", Some(f64::NEG_INFINITY)),
            ("1e", None),
            ("1x", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_number(text), expected, "{text}");
        }
        assert!(parse_number("nAn").is_some_and(f64::is_nan));
    }

    #[test]
    fn durations() {
        let cases = [
            ("5m", Some(300_000)),
            ("1h30m", Some(5_400_000)),
            ("1s500ms", Some(1500)),
            ("0", Some(0)),
            ("30m1h", None),
            ("1m1m", None),
            ("5", None),
            ("m", None),
            ("", None),
            ("99999999999y", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_duration(text), expected, "{text}");
        }
    }

    #[test]
    fn strings_unescape() {
        let cases = [
            (r#""a\n\"b\x41\u00e9\101""#, Some("a\n\"bAéA")),
            (r"'it\'s'", Some("it's")),
            (r"`raw\n`", Some("raw\\n")),
            (r#""\q""#, None),
            (r#""open"#, None),
            (r#""\xc5""#, None),
        ];
        for (text, expected) in cases {
            let read = tokens(text).ok().map(|t| t[0].token.clone());
            assert_eq!(read, expected.map(|e| Token::Text(e.to_owned())), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_gives_tokens_or_an_error_in_the_text(text in "\\PC{0,40}") {
            match tokens(&text) {
                Ok(tokens) => prop_assert_eq!(tokens.last().map(|t| t.start), Some(text.len())),
                Err(error) => prop_assert!(error.at <= text.len()),
            }
        }
    }
}
