//! Query text to tokens. Keywords are plain identifiers here; the parser knows by the place whether
//! `rate` is a function or a label.

use super::error::ParseError;
use super::units;

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// A name.
    Ident(String),
    /// A string, unquoted.
    Text(String),
    /// A number without unit.
    Number(f64),
    /// A number with a unit of time: nanoseconds.
    Duration(i64),
    /// A number with a unit of size: bytes.
    Bytes(u64),
    /// An operator or bracket.
    Symbol(&'static str),
    /// The end of the query.
    End,
}

/// A token and where it begins.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) offset: usize,
}

/// Longer ones first: the first that fits is taken.
const SYMBOLS: [&str; 30] = [
    "|=", "|~", "|>", "!=", "!~", "!>", "=~", "==", ">=", "<=", "{", "}", "(", ")", "[", "]", ",",
    "|", "=", ">", "<", "+", "-", "*", "/", "%", "^", ".", ":", ";",
];

/// Cuts a query into tokens; the last one is [`Kind::End`].
pub(super) fn tokens(query: &str) -> Result<Vec<Token>, ParseError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = query[at..].chars().next() {
        let rest = &query[at..];
        if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        }
        if c == '#' {
            at += rest.find('\n').unwrap_or(rest.len());
            continue;
        }
        let (kind, len) = token(query, at, c)?;
        tokens.push(Token { kind, offset: at });
        at += len;
    }
    tokens.push(Token { kind: Kind::End, offset: query.len() });
    Ok(tokens)
}

fn token(query: &str, at: usize, first: char) -> Result<(Kind, usize), ParseError> {
    let rest = &query[at..];
    if first.is_alphabetic() || first == '_' {
        let len = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        return Ok((Kind::Ident(rest[..len].to_owned()), len));
    }
    if first == '"' || first == '`' {
        return text(query, at);
    }
    let after_dot = rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
    if first.is_ascii_digit() || (first == '.' && after_dot) {
        return number(query, at);
    }
    if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
        return Ok((Kind::Symbol(symbol), symbol.len()));
    }
    Err(ParseError::at(query, at, format!("syntax error: unexpected character {first:?}")))
}

/// A number with or without a unit: digits, dots, letters, and a sign after an exponent's letter.
fn number(query: &str, at: usize) -> Result<(Kind, usize), ParseError> {
    let rest = &query[at..];
    let hex = rest.starts_with("0x") || rest.starts_with("0X");
    let mut len = 0;
    let mut last = ' ';
    for c in rest.chars() {
        let exponent = if hex { matches!(last, 'p' | 'P') } else { matches!(last, 'e' | 'E') };
        if !(c.is_alphanumeric() || c == '.' || (exponent && matches!(c, '+' | '-'))) {
            break;
        }
        last = c;
        len += c.len_utf8();
    }
    let text = &rest[..len];
    let kind = match units::go_float(text) {
        Ok(value) if value.is_finite() => Kind::Number(value),
        Ok(_) => return Err(ParseError::at(query, at, format!("number {text} is out of range"))),
        Err(_) if !hex && units::query_duration(text).is_some() => {
            Kind::Duration(units::query_duration(text).unwrap_or_default())
        }
        Err(why) => match units::bytes(text) {
            Ok(bytes) if !hex => Kind::Bytes(bytes),
            _ => {
                let message = format!("unable to parse literal as a float: {why}");
                return Err(ParseError::at(query, at, message));
            }
        },
    };
    Ok((kind, len))
}

/// A string in double quotes with Go's escapes, or in backquotes as it is.
fn text(query: &str, at: usize) -> Result<(Kind, usize), ParseError> {
    let rest = &query[at..];
    let open = || ParseError::at(query, at, "literal not terminated");
    if let Some(raw) = rest.strip_prefix('`') {
        let end = raw.find('`').ok_or_else(open)?;
        return Ok((Kind::Text(raw[..end].replace('\r', "")), end + 2));
    }
    let mut escaped = false;
    let end = rest[1..].find(|c: char| {
        let stops = (c == '"' && !escaped) || c == '\n';
        escaped = c == '\\' && !escaped;
        stops
    });
    let end = end.filter(|end| rest.as_bytes()[end + 1] == b'"').ok_or_else(open)?;
    let value = unescape(&rest[1..=end])
        .ok_or_else(|| ParseError::at(query, at, "invalid escape in string"))?;
    Ok((Kind::Text(value), end + 2))
}

/// Resolves Go's escapes. `None` for an unknown one, or when the bytes are not UTF-8.
pub(super) fn unescape(text: &str) -> Option<String> {
    if !text.contains('\\') {
        return Some(text.to_owned());
    }
    let mut out: Vec<u8> = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let code = rest[at + 1..].chars().next()?;
        let body = &rest[at + 1 + code.len_utf8()..];
        let digits = match code {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            '0'..='7' => {
                let value = u8::from_str_radix(rest.get(at + 1..at + 4)?, 8).ok()?;
                out.push(value);
                rest = &rest[at + 4..];
                continue;
            }
            _ => 0,
        };
        if digits > 0 {
            let value = u32::from_str_radix(body.get(..digits)?, 16).ok()?;
            if digits == 2 {
                out.push(u8::try_from(value).ok()?);
            } else {
                let mut buffer = [0; 4];
                out.extend_from_slice(char::from_u32(value)?.encode_utf8(&mut buffer).as_bytes());
            }
        } else {
            out.push(simple_escape(code)?);
        }
        rest = &body[digits..];
    }
    out.extend_from_slice(rest.as_bytes());
    String::from_utf8(out).ok()
}

fn simple_escape(code: char) -> Option<u8> {
    Some(match code {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        '\\' => b'\\',
        '"' => b'"',
        '\'' => b'\'',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kinds(query: &str) -> Vec<Kind> {
        tokens(query).expect("lexes").into_iter().map(|t| t.kind).collect()
    }

    #[test]
    fn one_of_each() {
        let query = "rate |= `a\\b` \"x\\n\\u00e9\\x41\\101\" 1.5e-3 5m 3MB 0x1p3 # rest";
        let expected = vec![
            Kind::Ident("rate".into()),
            Kind::Symbol("|="),
            Kind::Text("a\\b".into()),
            Kind::Text("x\né\u{41}A".into()),
            Kind::Number(1.5e-3),
            Kind::Duration(300_000_000_000),
            Kind::Bytes(3_000_000),
            Kind::Number(8.0),
            Kind::End,
        ];
        assert_eq!(kinds(query), expected);
        let sum = [Kind::Number(1.0), Kind::Symbol("-"), Kind::Symbol("-"), Kind::Number(1.0)];
        assert_eq!(kinds("1--1")[..4], sum);
    }

    #[test]
    fn errors_have_a_place() {
        let cases = [
            ("{app=\"", "parse error at line 1, col 6: literal not terminated"),
            ("0x1A", "parse error at line 1, col 1: unable to parse literal as a float"),
            ("\n ~", "parse error at line 2, col 2: syntax error: unexpected character '~'"),
            ("\"\\q\"", "parse error at line 1, col 1: invalid escape in string"),
            ("5xyz", "parse error at line 1, col 1: unable to parse literal as a float"),
        ];
        for (query, expected) in cases {
            let error = tokens(query).expect_err(query).to_string();
            assert!(error.starts_with(expected), "{query}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(query in "\\PC{0,40}") {
            let _ = tokens(&query);
        }

        #[test]
        fn quoted_text_comes_back(text in "\\PC{0,20}") {
            let mut query = String::new();
            super::super::print::quote(&mut query, &text);
            prop_assert_eq!(kinds(&query), vec![Kind::Text(text), Kind::End]);
        }
    }
}
