//! kubectl's label selectors, turned into LogQL matchers: `app=web,tier in (a,b),!canary`.
//!
//! Label names are sanitised as the agent does it (`app.kubernetes.io/name` becomes
//! `app_kubernetes_io_name`). A label that is absent and one that is empty are the same here, as
//! everywhere in LogQL.

use taffrail_model::labels::{sanitize_name, write_quoted};

use super::Error;

/// Longest selector in bytes.
const SELECTOR_BYTES_MAX: usize = 8192;

/// One matcher of a LogQL stream selector, ready to be written between braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogqlMatcher(String);

/// `{a="b", c=~"d|e"}`.
pub(super) fn braced(matchers: &[LogqlMatcher]) -> String {
    let texts: Vec<&str> = matchers.iter().map(|m| m.0.as_str()).collect();
    format!("{{{}}}", texts.join(", "))
}

/// A text between double quotes, with LogQL's escapes.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    write_quoted(&mut out, text).expect("writing to a String does not fail");
    out
}

/// A text as a regular expression that matches it and nothing else, escaped as Go's `QuoteMeta`
/// does it.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 4);
    for c in text.chars() {
        if "\\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn matcher(name: &str, operator: &str, value: &str) -> LogqlMatcher {
    LogqlMatcher(format!("{}{operator}{}", sanitize_name(name), quoted(value)))
}

/// A matcher for a flag such as `-n`: a name, several with commas, `*` for any text.
pub(super) fn by_name(label: &str, text: &str) -> LogqlMatcher {
    if !text.contains([',', '*']) {
        return matcher(label, "=", text);
    }
    let names: Vec<String> = text
        .split(',')
        .map(|name| name.split('*').map(escaped).collect::<Vec<_>>().join(".*"))
        .collect();
    matcher(label, "=~", &names.join("|"))
}

/// A matcher for values that an expression is found in.
pub(super) fn by_regex(label: &str, regex: &str) -> LogqlMatcher {
    matcher(label, "=~", &format!(".*(?:{regex}).*"))
}

/// Reads a selector of kubectl. The empty one selects everything.
pub(super) fn parse(text: &str) -> Result<Vec<LogqlMatcher>, Error> {
    if text.len() > SELECTOR_BYTES_MAX {
        let reason = format!("a selector may have {SELECTOR_BYTES_MAX} bytes");
        return Err(Error::Argument { flag: "-l", reason });
    }
    let mut reader = Reader { text, at: 0 };
    let mut matchers = Vec::new();
    if reader.peek() == Token::End {
        return Ok(matchers);
    }
    loop {
        matchers.push(reader.requirement()?);
        match reader.next() {
            Token::End => return Ok(matchers),
            Token::Comma => {}
            found => return Err(reader.expected("`,` or the end", found)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    End,
    Comma,
    Open,
    Close,
    Not,
    Equal,
    NotEqual,
    Word(&'a str),
    /// A character that kubectl knows and LogQL has nothing for, or nobody knows.
    Other(char),
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn requirement(&mut self) -> Result<LogqlMatcher, Error> {
        let (name, absent) = match self.next() {
            Token::Word(name) => (name, false),
            Token::Not => match self.next() {
                Token::Word(name) => (name, true),
                found => return Err(self.expected("a label", found)),
            },
            found => return Err(self.expected("a label or `!`", found)),
        };
        if absent {
            return Ok(matcher(name, "=", ""));
        }
        match self.peek() {
            Token::End | Token::Comma => Ok(matcher(name, "!=", "")),
            Token::Equal => self.one_value(name, "="),
            Token::NotEqual => self.one_value(name, "!="),
            Token::Word("in") => self.values(name, "=~"),
            Token::Word("notin") => self.values(name, "!~"),
            Token::Other('<' | '>') => {
                self.next();
                let reason = format!(
                    "column {}: `<` and `>` compare numbers, which label selectors of logs cannot; use a LogQL query",
                    self.column(self.at)
                );
                Err(Error::Argument { flag: "-l", reason })
            }
            found => {
                self.next();
                Err(self.expected("`=`, `!=`, `in` or `notin`", found))
            }
        }
    }

    fn one_value(&mut self, name: &str, operator: &str) -> Result<LogqlMatcher, Error> {
        self.next();
        // As in kubectl, nothing after `=` means the empty value.
        let value = match self.peek() {
            Token::Word(value) => {
                self.next();
                value
            }
            _ => "",
        };
        Ok(matcher(name, operator, value))
    }

    fn values(&mut self, name: &str, operator: &str) -> Result<LogqlMatcher, Error> {
        self.next();
        match self.next() {
            Token::Open => {}
            found => return Err(self.expected("`(`", found)),
        }
        let mut values = Vec::new();
        loop {
            values.push(match self.peek() {
                Token::Word(value) => {
                    self.next();
                    escaped(value)
                }
                // `(a,)` and `()` have the empty value, as in kubectl.
                _ => String::new(),
            });
            match self.next() {
                Token::Comma => {}
                Token::Close => return Ok(matcher(name, operator, &values.join("|"))),
                found => return Err(self.expected("`,` or `)`", found)),
            }
        }
    }

    fn peek(&self) -> Token<'a> {
        self.read().0
    }

    fn next(&mut self) -> Token<'a> {
        let (token, end) = self.read();
        self.at = end;
        token
    }

    /// The next token and where it ends.
    fn read(&self) -> (Token<'a>, usize) {
        let rest = self.text[self.at..].trim_start();
        let start = self.text.len() - rest.len();
        let Some(first) = rest.chars().next() else { return (Token::End, self.text.len()) };
        let (token, length) = match first {
            ',' => (Token::Comma, 1),
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '!' if rest.starts_with("!=") => (Token::NotEqual, 2),
            '!' => (Token::Not, 1),
            '=' if rest.starts_with("==") => (Token::Equal, 2),
            '=' => (Token::Equal, 1),
            c if is_special(c) => (Token::Other(c), c.len_utf8()),
            _ => {
                let end = rest.find(|c: char| is_special(c) || c.is_whitespace());
                let word = &rest[..end.unwrap_or(rest.len())];
                (Token::Word(word), word.len())
            }
        };
        (token, start + length)
    }

    fn column(&self, byte: usize) -> usize {
        self.text[..byte].chars().count()
    }

    fn expected(&self, what: &str, found: Token<'_>) -> Error {
        let found = match found {
            Token::End => "the end".to_owned(),
            Token::Word(word) => format!("{word:?}"),
            _ => format!("`{}`", self.text[..self.at].chars().next_back().unwrap_or(' ')),
        };
        let reason =
            format!("column {}: expected {what}, found {found}", self.column(self.at).max(1));
        Error::Argument { flag: "-l", reason }
    }
}

fn is_special(c: char) -> bool {
    matches!(c, ',' | '(' | ')' | '!' | '=' | '<' | '>' | '"' | '\'' | '{' | '}' | '`')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn selectors_become_matchers() {
        let cases = [
            ("", "{}"),
            ("app=web", r#"{app="web"}"#),
            ("app==web", r#"{app="web"}"#),
            (" app = web , tier != db ", r#"{app="web", tier!="db"}"#),
            ("tier in (a, b)", r#"{tier=~"a|b"}"#),
            ("tier in (a.b,c)", r#"{tier=~"a\\.b|c"}"#),
            ("tier notin (a,b),app", r#"{tier!~"a|b", app!=""}"#),
            ("!canary", r#"{canary=""}"#),
            ("! canary", r#"{canary=""}"#),
            ("app=", r#"{app=""}"#),
            ("app=,tier=x", r#"{app="", tier="x"}"#),
            ("tier in (a,)", r#"{tier=~"a|"}"#),
            ("app.kubernetes.io/name=web", r#"{app_kubernetes_io_name="web"}"#),
            ("pod-template-hash=7f9", r#"{pod_template_hash="7f9"}"#),
            ("in=in", r#"{in="in"}"#),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).map(|m| braced(&m)).unwrap(), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let cases = [
            ("app=web tier", "-l: column 12: expected `,` or the end, found \"tier\""),
            ("app in x", "-l: column 8: expected `(`, found \"x\""),
            ("app in (x", "-l: column 9: expected `,` or `)`, found the end"),
            ("=x", "-l: column 1: expected a label or `!`, found `=`"),
            ("app web", "-l: column 7: expected `=`, `!=`, `in` or `notin`, found \"web\""),
            ("app=a,", "-l: column 6: expected a label or `!`, found the end"),
            ("app=\"a\"", "-l: column 5: expected `,` or the end, found `\"`"),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text:?}");
        }
        assert!(parse("cpu > 3").unwrap_err().to_string().contains("compare numbers"));
        assert!(parse(&"a".repeat(9000)).is_err());
    }

    #[test]
    fn names_with_stars_and_commas() {
        let cases = [
            ("shop", r#"{namespace="shop"}"#),
            ("shop,data", r#"{namespace=~"shop|data"}"#),
            ("sh*p.x", r#"{namespace=~"sh.*p\\.x"}"#),
        ];
        for (text, expected) in cases {
            assert_eq!(braced(&[by_name("namespace", text)]), expected);
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "\\PC{0,40}") {
            let _either = parse(&text).is_ok();
        }

        #[test]
        fn values_come_out_as_they_went_in(
            name in "[a-z][a-z0-9]{0,5}",
            values in proptest::collection::vec("[a-zA-Z0-9._-]{1,6}", 1..5),
        ) {
            let text = format!("{name} in ({})", values.join(","));
            let matchers = parse(&text).unwrap();
            let inner = braced(&matchers);
            let pattern = inner.trim_start_matches(&format!("{{{name}=~\"")).trim_end_matches("\"}");
            let regex = regex::Regex::new(&format!("^(?:{})$", pattern.replace("\\\\", "\\"))).unwrap();
            prop_assert!(values.iter().all(|value| regex.is_match(value)));
        }
    }
}
