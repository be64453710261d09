//! Kubernetes' label selectors: `a=b,c!=d,e in (x,y),f notin (z),g,!h,i>1,j<2`.
//!
//! The grammar is that of apimachinery's `labels.Parse`. Values are taken as they stand, because
//! labels of metrics may be what labels of pods may not. A series carries a pod's labels under
//! sanitised names, so a key is looked up as it is and then sanitised.

use std::fmt;

use serde_json::{Value, json};
use taffrail_model::labels::sanitize_name;
use taffrail_model::{Labels, Matcher};

/// Longest selector, in bytes.
const SELECTOR_BYTES_MAX: usize = 16 << 10;

/// A text that is no selector: where it went wrong and what was expected.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unable to parse {text:?}: at byte {at} found {found}, expected {expected}")]
pub(super) struct BadSelector {
    text: String,
    at: usize,
    found: String,
    expected: &'static str,
}

/// Conditions that must all hold. The empty selector selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selector {
    text: String,
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    condition: Condition,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
    Greater(i64),
    Less(i64),
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Selector {
    /// Reads a selector.
    pub(super) fn parse(text: &str) -> Result<Self, BadSelector> {
        let mut parser = Parser { text, at: 0 };
        if text.len() > SELECTOR_BYTES_MAX {
            return Err(parser.bad(0, "a selector of at most 16 KiB"));
        }
        let mut requirements = Vec::new();
        if parser.peek() == Token::End {
            return Ok(Self::default());
        }
        loop {
            requirements.push(parser.requirement()?);
            let at = parser.at;
            match parser.next() {
                Token::End => break,
                Token::Symbol(",") => {}
                _ => return Err(parser.bad(at, "',' or the end")),
            }
        }
        Ok(Self { text: text.to_owned(), requirements })
    }

    /// Whether it selects everything.
    pub(super) fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether the labels of a series satisfy it.
    pub(super) fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|r| r.condition.holds(value(labels, &r.key)))
    }

    /// Matchers that select no less than this selector, for the store to begin with. Keys whose
    /// sanitised form differs are left out: the series may have either name.
    pub(super) fn matchers(&self) -> impl Iterator<Item = Matcher> + '_ {
        self.requirements.iter().filter_map(|r| match &r.condition {
            Condition::In(values) if sanitize_name(&r.key) == r.key => match values.as_slice() {
                [one] if !one.is_empty() => Some(Matcher::equal(&r.key, one)),
                _ => None,
            },
            _ => None,
        })
    }

    /// The selector as the `LabelSelector` object of an answer; null when it is empty or has no such
    /// form.
    pub(super) fn as_json(&self) -> Value {
        let expressions: Option<Vec<Value>> =
            self.requirements.iter().map(Requirement::as_json).collect();
        match expressions {
            Some(expressions) if !expressions.is_empty() => {
                json!({ "matchExpressions": expressions })
            }
            _ => Value::Null,
        }
    }
}

impl Requirement {
    fn as_json(&self) -> Option<Value> {
        let key = &self.key;
        match &self.condition {
            Condition::In(values) => Some(json!({"key": key, "operator": "In", "values": values})),
            Condition::NotIn(values) => {
                Some(json!({"key": key, "operator": "NotIn", "values": values}))
            }
            Condition::Exists => Some(json!({"key": key, "operator": "Exists"})),
            Condition::Absent => Some(json!({"key": key, "operator": "DoesNotExist"})),
            Condition::Greater(_) | Condition::Less(_) => None,
        }
    }
}

impl Condition {
    fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|v| v.parse::<i64>().ok());
        match self {
            Self::In(values) => value.is_some_and(|v| values.iter().any(|o| o == v)),
            Self::NotIn(values) => value.is_none_or(|v| !values.iter().any(|o| o == v)),
            Self::Exists => value.is_some(),
            Self::Absent => value.is_none(),
            Self::Greater(limit) => number().is_some_and(|n| n > *limit),
            Self::Less(limit) => number().is_some_and(|n| n < *limit),
        }
    }
}

fn value<'l>(labels: &'l Labels, key: &str) -> Option<&'l str> {
    labels.get(key).or_else(|| labels.get(&sanitize_name(key)))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'t> {
    Symbol(&'t str),
    Word(&'t str),
    End,
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Parser<'t> {
    fn requirement(&mut self) -> Result<Requirement, BadSelector> {
        let absent = self.peek() == Token::Symbol("!");
        if absent {
            self.next();
        }
        let key = self.key()?;
        if absent {
            return Ok(Requirement { key, condition: Condition::Absent });
        }
        let before = self.at;
        let condition = match self.next() {
            Token::End => Condition::Exists,
            Token::Symbol(",") => {
                self.at = before;
                Condition::Exists
            }
            Token::Symbol("=" | "==") => Condition::In(vec![self.exact()]),
            Token::Symbol("!=") => Condition::NotIn(vec![self.exact()]),
            Token::Symbol(">") => Condition::Greater(self.number()?),
            Token::Symbol("<") => Condition::Less(self.number()?),
            Token::Word("in") => Condition::In(self.list()?),
            Token::Word("notin") => Condition::NotIn(self.list()?),
            Token::Symbol(_) | Token::Word(_) => {
                return Err(self.bad(before, "',', '=', '==', '!=', '>', '<', 'in' or 'notin'"));
            }
        };
        Ok(Requirement { key, condition })
    }

    fn key(&mut self) -> Result<String, BadSelector> {
        let at = self.at;
        match self.next() {
            Token::Word(key) if is_key(key) => Ok(key.to_owned()),
            _ => Err(self.bad(at, "a label key ([prefix/]name of letters, digits, '-', '_', '.')")),
        }
    }

    /// The value after `=`, which may be missing.
    fn exact(&mut self) -> String {
        match self.peek() {
            Token::Word(value) => {
                self.next();
                value.to_owned()
            }
            _ => String::new(),
        }
    }

    fn number(&mut self) -> Result<i64, BadSelector> {
        let at = self.at;
        let number = match self.next() {
            Token::Word(word) => word.parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| self.bad(at, "a whole number"))
    }

    /// Values in parentheses; between commas a value may be missing.
    fn list(&mut self) -> Result<Vec<String>, BadSelector> {
        let at = self.at;
        if self.next() != Token::Symbol("(") {
            return Err(self.bad(at, "'('"));
        }
        let mut values = vec![self.exact()];
        loop {
            let at = self.at;
            match self.next() {
                Token::Symbol(")") => return Ok(values),
                Token::Symbol(",") => values.push(self.exact()),
                _ => return Err(self.bad(at, "',' or ')'")),
            }
        }
    }

    fn peek(&self) -> Token<'t> {
        Parser { text: self.text, at: self.at }.next()
    }

    fn next(&mut self) -> Token<'t> {
        let rest = self.text[self.at..].trim_start();
        let start = self.text.len() - rest.len();
        let two = ["==", "!="].into_iter().find(|s| rest.starts_with(s));
        let length = match rest.chars().next() {
            None => 0,
            Some(_) if two.is_some() => 2,
            Some(c) if is_symbol(c) => 1,
            Some(_) => rest.find(|c| is_symbol(c) || c.is_whitespace()).unwrap_or(rest.len()),
        };
        self.at = start + length;
        let token = &rest[..length];
        match token.chars().next() {
            None => Token::End,
            Some(c) if is_symbol(c) => Token::Symbol(token),
            Some(_) => Token::Word(token),
        }
    }

    fn bad(&self, at: usize, expected: &'static str) -> BadSelector {
        let found = match (Parser { text: self.text, at }.next()) {
            Token::End => "the end".to_owned(),
            Token::Symbol(text) | Token::Word(text) => format!("{:?}", shortened(text)),
        };
        BadSelector { text: shortened(self.text), at, found, expected }
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}

fn is_symbol(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '<' | '>')
}

/// Whether a word is a qualified name: an optional DNS name and a slash, then up to 63 characters
/// that begin and end with a letter or digit. (Names of metric labels may begin with `_`.)
fn is_key(word: &str) -> bool {
    let (prefix, name) = word.split_once('/').map_or((None, word), |(p, n)| (Some(p), n));
    let in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name_ok = !name.is_empty()
        && name.len() <= 63
        && name.chars().all(in_name)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && name.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let in_prefix =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    name_ok && prefix.is_none_or(|p| !p.is_empty() && p.len() <= 253 && p.chars().all(in_prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels() -> Labels {
        Labels::from_pairs([
            ("app", "web"),
            ("app_kubernetes_io_name", "shop"),
            ("code", "200"),
            ("path", "/a b"),
        ])
    }

    #[test]
    fn selectors_select() {
        let cases = [
            ("", true),
            ("app=web", true),
            ("app==web", true),
            ("app=db", false),
            ("app!=db", true),
            ("app!=web", false),
            ("none!=x", true),
            ("none=", false),
            ("app in (web, db)", true),
            ("app in(db)", false),
            ("none in (,x)", false),
            ("app notin (db)", true),
            ("app notin (web)", false),
            ("none notin (x)", true),
            ("app", true),
            ("none", false),
            ("!none", true),
            ("! app", false),
            ("code>199", true),
            ("code > 200", false),
            ("code<300,app=web", true),
            ("app>1", false),
            ("app.kubernetes.io/name=shop", true),
            ("app.kubernetes.io/name!=shop", false),
            (" app = web , code in (200,201) ", true),
            ("in=x", false),
            ("notin", false),
            ("app=in", false),
        ];
        for (text, expected) in cases {
            let selector = Selector::parse(text).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(selector.matches(&labels()), expected, "{text}");
        }
    }

    #[test]
    fn bad_selectors_say_where() {
        let cases = [
            ("app=web,", "at byte 8 found the end, expected a label key"),
            (",", "at byte 0"),
            ("app web", "at byte 3 found \"web\""),
            ("app in web", "expected '('"),
            ("app in (web", "expected ',' or ')'"),
            ("app>x", "a whole number"),
            ("a/b/c=x", "a label key"),
            ("-a", "a label key"),
            ("!", "a label key"),
            ("a=b c", "',' or the end"),
            ("x in ()y", "',' or the end"),
        ];
        for (text, expected) in cases {
            let error = Selector::parse(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        Selector::parse(&"a,".repeat(10_000)).expect_err("too long");
    }

    #[test]
    fn answers_repeat_the_selector() {
        let selector = Selector::parse("code in (200,201),verb=GET,!x").expect("valid");
        let expected = json!({"matchExpressions": [
            {"key": "code", "operator": "In", "values": ["200", "201"]},
            {"key": "verb", "operator": "In", "values": ["GET"]},
            {"key": "x", "operator": "DoesNotExist"},
        ]});
        assert_eq!(selector.as_json(), expected);
        assert_eq!(Selector::default().as_json(), Value::Null);
        let matchers: Vec<String> = selector.matchers().map(|m| m.to_string()).collect();
        assert_eq!(matchers, [r#"verb="GET""#]);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-z0-9=!(),<>./ \u{e9}]{0,30}") {
            let _ = Selector::parse(&text);
        }

        #[test]
        fn matchers_never_select_less(text in "(app|code|none)(=|!=)(web|200|)(,(app|path)(=| in \\()(web|db)\\)?)?") {
            if let Ok(selector) = Selector::parse(&text)
                && selector.matches(&labels())
            {
                prop_assert!(selector.matchers().all(|m| m.matches_labels(&labels())));
            }
        }
    }
}
