//! A JSON reader for log lines: walks over the text once, allocates only for strings with escapes,
//! and hands numbers over as they are written.
//!
//! It checks what it walks over; nesting is bounded by [`DEPTH_MAX`].

use std::borrow::Cow;

/// How deep objects and arrays may be nested.
pub(super) const DEPTH_MAX: usize = 64;

/// The text is no JSON, or is nested too deep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum JsonError {
    /// Not an object, or not closed.
    #[error("Value looks like object, but can't find closing '}}' symbol")]
    Object,
    /// Something else is malformed.
    #[error("Malformed JSON error")]
    Malformed,
    /// Deeper than [`DEPTH_MAX`].
    #[error("JSON is nested too deep")]
    TooDeep,
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    /// A string, its escapes resolved.
    Text(Cow<'a, str>),
    /// A number, `true` or `false`, as written.
    Raw(&'a str),
    /// `null`
    Null,
    /// An object, as written.
    Object(&'a str),
    /// An array, as written.
    Array(&'a str),
}

impl<'a> Value<'a> {
    /// The value as a label: text without quotes, everything else as written, null empty.
    #[must_use]
    pub(super) fn into_label(self) -> Cow<'a, str> {
        match self {
            Self::Text(text) => text,
            Self::Raw(raw) | Self::Object(raw) | Self::Array(raw) => Cow::Borrowed(raw),
            Self::Null => Cow::Borrowed(""),
        }
    }
}

/// One step into a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A member of an object.
    Key(String),
    /// An element of an array.
    Index(usize),
}

/// Gives the members of the object that `text` is, in order.
///
/// # Errors
/// [`JsonError`] when the text is no object; members before the fault have been given.
pub(super) fn members<'a>(
    text: &'a str,
    each: &mut dyn FnMut(Cow<'a, str>, Value<'a>),
) -> Result<(), JsonError> {
    let mut scanner = Scanner { text, at: 0 };
    scanner.space();
    if scanner.peek() != Some(b'{') {
        return Err(JsonError::Object);
    }
    scanner.object(0, each)?;
    scanner.space();
    if scanner.at == text.len() { Ok(()) } else { Err(JsonError::Malformed) }
}

/// The value that a path leads to. `None` when there is none.
///
/// # Errors
/// [`JsonError`] when the text on the way is malformed.
pub(super) fn at_path<'a>(text: &'a str, path: &[Step]) -> Result<Option<Value<'a>>, JsonError> {
    let mut found = Scanner::whole(text)?;
    for step in path {
        let mut inner = None;
        match (step, found) {
            (Step::Key(wanted), Value::Object(text)) => {
                members(text, &mut |key, value| {
                    if inner.is_none() && key == *wanted {
                        inner = Some(value);
                    }
                })?;
            }
            (Step::Index(wanted), Value::Array(text)) => {
                let mut scanner = Scanner { text, at: 0 };
                let mut index = 0;
                scanner.array(0, &mut |value| {
                    if index == *wanted {
                        inner = Some(value);
                    }
                    index += 1;
                })?;
            }
            _ => return Ok(None),
        }
        let Some(value) = inner else {
            return Ok(None);
        };
        found = value;
    }
    Ok(Some(found))
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn whole(text: &'a str) -> Result<Value<'a>, JsonError> {
        let mut scanner = Self { text, at: 0 };
        scanner.space();
        let value = scanner.value(0)?;
        scanner.space();
        if scanner.at == text.len() { Ok(value) } else { Err(JsonError::Malformed) }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        self.space();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self, depth: usize) -> Result<Value<'a>, JsonError> {
        let start = self.at;
        match self.peek().ok_or(JsonError::Malformed)? {
            b'"' => self.string().map(Value::Text),
            b'{' => {
                self.object(depth, &mut |_, _| {})?;
                Ok(Value::Object(&self.text[start..self.at]))
            }
            b'[' => {
                self.array(depth, &mut |_| {})?;
                Ok(Value::Array(&self.text[start..self.at]))
            }
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Result<Value<'a>, JsonError> {
        let rest = &self.text[self.at..];
        let len = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.')))
            .unwrap_or(rest.len());
        let word = &rest[..len];
        self.at += len;
        match word {
            "null" => Ok(Value::Null),
            "true" | "false" => Ok(Value::Raw(word)),
            _ if is_number(word) => Ok(Value::Raw(word)),
            _ => Err(JsonError::Malformed),
        }
    }

    fn object(
        &mut self,
        depth: usize,
        each: &mut dyn FnMut(Cow<'a, str>, Value<'a>),
    ) -> Result<(), JsonError> {
        if depth == DEPTH_MAX {
            return Err(JsonError::TooDeep);
        }
        self.at += 1;
        if self.eat(b'}') {
            return Ok(());
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err(JsonError::Object);
            }
            let key = self.string()?;
            if !self.eat(b':') {
                return Err(JsonError::Malformed);
            }
            self.space();
            let value = self.value(depth + 1)?;
            each(key, value);
            if self.eat(b'}') {
                return Ok(());
            }
            if !self.eat(b',') {
                return Err(JsonError::Object);
            }
        }
    }

    fn array(&mut self, depth: usize, each: &mut dyn FnMut(Value<'a>)) -> Result<(), JsonError> {
        if depth == DEPTH_MAX {
            return Err(JsonError::TooDeep);
        }
        self.at += 1;
        if self.eat(b']') {
            return Ok(());
        }
        loop {
            self.space();
            each(self.value(depth + 1)?);
            if self.eat(b']') {
                return Ok(());
            }
            if !self.eat(b',') {
                return Err(JsonError::Malformed);
            }
        }
    }

    /// A string; the scanner stands on its opening quote.
    fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        let start = self.at + 1;
        let rest = &self.text.as_bytes()[start..];
        let end = memchr::memchr2(b'"', b'\\', rest).ok_or(JsonError::Malformed)?;
        if rest[end] == b'"' {
            self.at = start + end + 1;
            return Ok(Cow::Borrowed(&self.text[start..start + end]));
        }
        let mut out = self.text[start..start + end].to_owned();
        self.at = start + end;
        loop {
            let rest = &self.text[self.at..];
            let stop = memchr::memchr2(b'"', b'\\', rest.as_bytes()).ok_or(JsonError::Malformed)?;
            out.push_str(&rest[..stop]);
            self.at += stop + 1;
            if rest.as_bytes()[stop] == b'"' {
                return Ok(Cow::Owned(out));
            }
            out.push(self.escape()?);
        }
    }

    /// What an escape means; the scanner stands after the backslash.
    fn escape(&mut self) -> Result<char, JsonError> {
        let code = self.peek().ok_or(JsonError::Malformed)?;
        self.at += 1;
        Ok(match code {
            b'"' | b'\\' | b'/' => char::from(code),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = self.hex4()?;
                if !(0xD800..0xDC00).contains(&high) {
                    return Ok(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER));
                }
                if !self.text[self.at..].starts_with("\\u") {
                    return Ok(char::REPLACEMENT_CHARACTER);
                }
                self.at += 2;
                let low = self.hex4()?;
                let joined = 0x10000 + ((high - 0xD800) << 10) + (low.wrapping_sub(0xDC00) & 0x3FF);
                let pair =
                    (0xDC00..0xE000).contains(&low).then(|| char::from_u32(joined)).flatten();
                pair.unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            _ => return Err(JsonError::Malformed),
        })
    }

    fn hex4(&mut self) -> Result<u32, JsonError> {
        let digits = self.text.get(self.at..self.at + 4).ok_or(JsonError::Malformed)?;
        self.at += 4;
        u32::from_str_radix(digits, 16).map_err(|_| JsonError::Malformed)
    }
}

fn is_number(word: &str) -> bool {
    let digits = word.strip_prefix('-').unwrap_or(word);
    digits.starts_with(|c: char| c.is_ascii_digit()) && word.parse::<f64>().is_ok()
}

/// Reads a path: `user.id`, `tags[0]`, `labels["a.b"]`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse_path(text: &str) -> Result<Vec<Step>, String> {
    let wrong =
        || format!("cannot parse expression [{text}]: expecting a path such as a.b[0][\"c\"]");
    let mut steps = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            if let Some(quoted) = inner.strip_prefix('"') {
                let end = quoted.find("\"]").ok_or_else(wrong)?;
                let key = super::lexer::unescape(&quoted[..end]).ok_or_else(wrong)?;
                steps.push(Step::Key(key));
                rest = &quoted[end + 2..];
            } else {
                let end = inner.find(']').ok_or_else(wrong)?;
                steps.push(Step::Index(inner[..end].trim().parse().map_err(|_| wrong())?));
                rest = &inner[end + 1..];
            }
        } else {
            let name = rest.strip_prefix('.').filter(|_| !steps.is_empty()).unwrap_or(rest);
            let end = name.find(['.', '[']).unwrap_or(name.len());
            if end == 0 {
                return Err(wrong());
            }
            steps.push(Step::Key(name[..end].to_owned()));
            rest = &name[end..];
        }
        if steps.len() > DEPTH_MAX {
            return Err(wrong());
        }
    }
    if steps.is_empty() { Err(wrong()) } else { Ok(steps) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(text: &str) -> Result<Vec<(String, String)>, JsonError> {
        let mut found = Vec::new();
        members(text, &mut |key, value| {
            found.push((key.into_owned(), value.into_label().into_owned()));
        })?;
        Ok(found)
    }

    #[test]
    fn members_as_labels() {
        let text =
            r#" {"a":"x\né\ud83d\ude00", "b":1.50,"c":true,"d":null,"e":{"f":[1,2]}, "g":[] } "#;
        let expected = [
            ("a", "x\né😀"),
            ("b", "1.50"),
            ("c", "true"),
            ("d", ""),
            ("e", "{\"f\":[1,2]}"),
            ("g", "[]"),
        ];
        let expected: Vec<_> = expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        assert_eq!(all(text), Ok(expected));
    }

    #[test]
    fn faults() {
        for text in ["", "level=info", "[1]", "{\"a\":}", "{\"a\":1", "{\"a\":1} x", "{\"a\" 1}"] {
            assert!(all(text).is_err(), "{text}");
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100), "]".repeat(100));
        assert_eq!(all(&deep), Err(JsonError::TooDeep));
    }

    #[test]
    fn paths() {
        let text = r#"{"user":{"id":"u1","a.b":2},"tags":["x",{"y":3}]}"#;
        let cases = [
            ("user.id", Some("u1")),
            ("user[\"a.b\"]", Some("2")),
            ("tags[1].y", Some("3")),
            ("[\"tags\"][0]", Some("x")),
            ("user", Some(r#"{"id":"u1","a.b":2}"#)),
            ("user.age", None),
            ("tags[9]", None),
        ];
        for (path, expected) in cases {
            let steps = parse_path(path).expect(path);
            let found = at_path(text, &steps).expect("valid JSON").map(Value::into_label);
            assert_eq!(found.as_deref(), expected, "{path}");
        }
        for path in ["", "a..b", "a[", "a[x]", "[\"a]"] {
            assert!(parse_path(path).is_err(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in r#"[\[\]{}:," \\a-c0-9u.-]{0,40}"#) {
            let _ = all(&text);
            let _ = parse_path(&text);
        }

        #[test]
        fn reads_what_serde_writes(map in proptest::collection::btree_map("\\PC{0,5}", "\\PC{0,8}", 0..5)) {
            let text = serde_json::to_string(&map).expect("a map of strings");
            prop_assert_eq!(all(&text), Ok(map.into_iter().collect::<Vec<_>>()));
        }
    }
}
