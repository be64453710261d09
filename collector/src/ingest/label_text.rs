//! A stream's labels as text, `{name="value", …}`, as Loki's clients write them. Pure.

use taffrail_model::Labels;
use taffrail_model::labels::is_valid_name;

/// The text is not a label set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("1:{column}: parse error: {what}")]
pub struct ParseError {
    /// Character at which it shows, from 1.
    pub column: usize,
    /// What was expected there.
    pub what: String,
}

/// Reads a label set; values are in double quotes with Go's escapes, or between backticks.
///
/// # Errors
/// When the text is anything else.
pub fn parse(text: &str) -> Result<Labels, ParseError> {
    let mut parser = Parser { text, at: 0 };
    parser.expect('{')?;
    let mut pairs = Vec::new();
    while !parser.take('}') {
        if !pairs.is_empty() {
            parser.expect(',')?;
            if parser.take('}') {
                break;
            }
        }
        let name = parser.name()?;
        parser.expect('=')?;
        pairs.push((name.to_owned(), parser.value()?));
    }
    parser.skip_space();
    if parser.rest().is_empty() {
        Ok(Labels::from_pairs(pairs))
    } else {
        Err(parser.unexpected("the end"))
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn error(&self, what: String) -> ParseError {
        ParseError { column: self.text[..self.at].chars().count() + 1, what }
    }

    fn unexpected(&self, expected: &str) -> ParseError {
        match self.rest().chars().next() {
            Some(c) => self
                .error(format!("unexpected character inside braces: {c:?}, expected {expected}")),
            None => self.error(format!("unexpected end of input, expected {expected}")),
        }
    }

    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn take(&mut self, wanted: char) -> bool {
        self.skip_space();
        let found = self.rest().starts_with(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    fn expect(&mut self, wanted: char) -> Result<(), ParseError> {
        if self.take(wanted) { Ok(()) } else { Err(self.unexpected(&format!("{wanted:?}"))) }
    }

    fn name(&mut self) -> Result<&'a str, ParseError> {
        self.skip_space();
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let name = &rest[..end];
        if !is_valid_name(name) {
            return Err(self.unexpected("a label name"));
        }
        self.at += end;
        Ok(name)
    }

    fn value(&mut self) -> Result<String, ParseError> {
        if self.take('`') {
            let raw = self.rest().split_once('`').map(|(raw, _)| raw);
            let raw = raw.ok_or_else(|| self.error("a raw string is not closed".into()))?;
            self.at += raw.len() + 1;
            return Ok(raw.to_owned());
        }
        self.expect('"')?;
        let mut bytes = Vec::new();
        loop {
            let rest = self.rest();
            let special = rest.find(['"', '\\']);
            let plain = special.ok_or_else(|| self.error("a string is not closed".into()))?;
            bytes.extend_from_slice(&rest.as_bytes()[..plain]);
            self.at += plain + 1;
            if rest.as_bytes()[plain] == b'"' {
                return Ok(String::from_utf8_lossy(&bytes).into_owned());
            }
            self.escape(&mut bytes)?;
        }
    }

    /// What stands after a backslash.
    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), ParseError> {
        let kind = self.rest().chars().next();
        let kind = kind.ok_or_else(|| self.error("a string is not closed".into()))?;
        self.at += kind.len_utf8();
        let byte = match kind {
            'a' => 0x07,
            'b' => 0x08,
            'f' => 0x0C,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 0x0B,
            '\\' | '"' | '\'' => kind as u8,
            'x' => self.digits(2, 16).and_then(|code| self.byte(code))?,
            '0'..='7' => {
                self.at -= 1;
                self.digits(3, 8).and_then(|code| self.byte(code))?
            }
            'u' | 'U' => {
                let code = self.digits(if kind == 'u' { 4 } else { 8 }, 16)?;
                let c = char::from_u32(code);
                let c =
                    c.ok_or_else(|| self.error(format!("no character has the code {code:x}")))?;
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(self.error(format!("unknown escape \\{kind}"))),
        };
        bytes.push(byte);
        Ok(())
    }

    fn byte(&self, code: u32) -> Result<u8, ParseError> {
        u8::try_from(code).map_err(|_| self.error("an escape is above 255".into()))
    }

    fn digits(&mut self, count: usize, radix: u32) -> Result<u32, ParseError> {
        let digits = self.rest().get(..count).filter(|d| d.chars().all(|c| c.is_digit(radix)));
        let code = digits.and_then(|digits| u32::from_str_radix(digits, radix).ok());
        let code = code.ok_or_else(|| self.error(format!("an escape needs {count} digits")))?;
        self.at += count;
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn forms_that_clients_write() {
        let cases = [
            ("{}", "{}"),
            (r#" { b = "2" , a="1", } "#, r#"{a="1", b="2"}"#),
            (r#"{a="x\"y\\z\n\x41\101\u00e9"}"#, "{a=\"x\\\"y\\\\z\\nAAé\"}"),
            ("{a=`raw \\n`}", r#"{a="raw \\n"}"#),
            (r#"{a=""}"#, "{}"),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn others_are_refused_with_their_place() {
        let cases = [
            ("", 1),
            ("{a-b=\"c\"}", 3),
            ("{k8s.pod=\"c\"}", 5),
            ("{a=\"b\"", 7),
            ("{a=b}", 4),
            ("{a=\"b\"} x", 9),
            ("{a=\"\\q\"}", 7),
            ("{a=\"b}", 5),
            ("{,}", 2),
            ("{a=\"\\777\"}", 9),
        ];
        for (text, column) in cases {
            assert_eq!(parse(text).unwrap_err().column, column, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(pairs in prop::collection::btree_map("[a-z_]{1,4}", "\\PC{0,6}|[\\x00-\\x7f]{0,4}", 0..4)) {
            let labels = Labels::from_pairs(pairs);
            prop_assert_eq!(parse(&labels.to_string()), Ok(labels));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[{}a-b=\"\\\\,`xuU0é ]{0,20}") {
            let _ = parse(&text);
        }
    }
}
