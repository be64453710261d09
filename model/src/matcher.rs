//! Label matchers, shared by LogQL, PromQL, the stores and the autoscaling API.

use std::fmt;

use regex::Regex;

use crate::Labels;
use crate::labels::write_quoted;

/// How a matcher compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, anchored at both ends
    Regex,
    /// `!~`, anchored at both ends
    NotRegex,
}

impl MatchOp {
    /// The operator as it is written.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        }
    }
}

/// One condition on one label. A label that is absent has the empty value, as in Prometheus.
#[derive(Clone, Debug)]
pub struct Matcher {
    /// The label's name.
    pub name: String,
    /// How to compare.
    pub op: MatchOp,
    /// The value or the regular expression, as written.
    pub value: String,
    regex: Option<Regex>,
}

/// The regular expression of a matcher does not compile, or is too big.
#[derive(Debug, thiserror::Error)]
#[error("invalid regular expression {pattern:?} for label {name}: {reason}")]
pub struct BadRegex {
    /// The label of the matcher.
    pub name: String,
    /// The expression.
    pub pattern: String,
    /// What the regex engine said, on one line.
    pub reason: String,
}

impl Matcher {
    /// Builds a matcher; regular expressions are anchored at both ends. `dot_newline` says whether
    /// `.` matches a newline: yes in Prometheus (since 3.0), no in Loki.
    ///
    /// # Errors
    /// [`BadRegex`] when the expression does not compile within [`crate::limits::regex_bytes_max`].
    pub fn new(name: &str, op: MatchOp, value: &str, dot_newline: bool) -> Result<Self, BadRegex> {
        let regex = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => {
                let flags = if dot_newline { "(?s)" } else { "" };
                let compiled = regex::RegexBuilder::new(&format!("^{flags}(?:{value})$"))
                    .size_limit(crate::limits::regex_bytes_max(value))
                    .build()
                    .map_err(|error| BadRegex {
                        name: name.to_owned(),
                        pattern: value.to_owned(),
                        reason: last_line(&error.to_string()),
                    })?;
                Some(compiled)
            }
        };
        Ok(Self { name: name.to_owned(), op, value: value.to_owned(), regex })
    }

    /// Whether it holds a regular expression.
    #[must_use]
    pub fn is_regex(&self) -> bool {
        self.regex.is_some()
    }

    /// The matcher `name="value"`.
    #[must_use]
    pub fn equal(name: &str, value: &str) -> Self {
        Self { name: name.to_owned(), op: MatchOp::Equal, value: value.to_owned(), regex: None }
    }

    /// Whether a label with this value (empty when absent) satisfies the condition.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        match (self.op, &self.regex) {
            (MatchOp::Equal, _) => value == self.value,
            (MatchOp::NotEqual, _) => value != self.value,
            (MatchOp::Regex, Some(regex)) => regex.is_match(value),
            (MatchOp::NotRegex, Some(regex)) => !regex.is_match(value),
            (MatchOp::Regex | MatchOp::NotRegex, None) => {
                unreachable!("new() compiles a regex for these operators")
            }
        }
    }

    /// Whether the label set satisfies the condition.
    #[must_use]
    pub fn matches_labels(&self, labels: &Labels) -> bool {
        self.matches(labels.get(&self.name).unwrap_or(""))
    }

    /// Whether the condition holds for a label that is absent. Such a matcher cannot be answered
    /// from postings of the label alone.
    #[must_use]
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.op == other.op && self.value == other.value
    }
}

impl Eq for Matcher {}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.name, self.op.symbol())?;
        write_quoted(f, &self.value)
    }
}

/// The regex crate explains itself over several lines; the reason is the last one.
fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or(text).trim_start_matches("error: ").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators() {
        let cases = [
            (MatchOp::Equal, "web", "web", true),
            (MatchOp::Equal, "web", "webb", false),
            (MatchOp::NotEqual, "web", "", true),
            (MatchOp::Regex, "we|b", "we", true),
            (MatchOp::Regex, "we|b", "web", false),
            (MatchOp::Regex, ".*", "", true),
            (MatchOp::NotRegex, ".+", "", true),
            (MatchOp::NotRegex, "w.*", "web", false),
        ];
        for (op, pattern, value, expected) in cases {
            let matcher = Matcher::new("app", op, pattern, true).expect("valid");
            assert_eq!(matcher.matches(value), expected, "{matcher} on {value:?}");
        }
    }

    #[test]
    fn dot_and_newline_differ_between_the_languages() {
        for (dot_newline, expected) in [(true, true), (false, false)] {
            let matcher = Matcher::new("a", MatchOp::Regex, "x.y", dot_newline).expect("valid");
            assert_eq!(matcher.matches("x\ny"), expected);
        }
    }

    #[test]
    fn a_bad_regex_says_why_on_one_line() {
        let error = Matcher::new("app", MatchOp::Regex, "a(", true).expect_err("unclosed group");
        let text = error.to_string();
        assert!(text.contains("unclosed group") && !text.contains('\n'), "{text}");
        Matcher::new("app", MatchOp::Regex, "(?:a{1000}){1000}", true).expect_err("too big");
        Matcher::new("app", MatchOp::Regex, r"\pL{100}", true).expect_err("too big for its length");
    }

    #[test]
    fn a_list_of_thousands_of_names_fits() {
        let names: Vec<String> = (0..3000).map(|n| format!("checkout-service-{n:08x}")).collect();
        let matcher = Matcher::new("pod", MatchOp::Regex, &names.join("|"), true).expect("fits");
        assert!(matcher.matches("checkout-service-00000bb7") && matcher.is_regex());
    }

    #[test]
    fn prints_as_written() {
        let matcher = Matcher::new("app", MatchOp::NotRegex, "a\"b", true).expect("valid");
        assert_eq!(matcher.to_string(), r#"app!~"a\"b""#);
        assert!(Matcher::equal("a", "").matches_labels(&Labels::default()));
    }
}
