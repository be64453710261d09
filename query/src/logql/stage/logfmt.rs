//! `| logfmt`: `key=value` and `key="quoted value"` pairs, separated by blanks.

use std::borrow::Cow;

use super::super::ast::Extract;
use super::super::labels::LineLabels;
use super::{LOGFMT_ERROR, push_sanitized};

/// The parser.
#[derive(Debug)]
pub struct LogfmtStage {
    strict: bool,
    keep_empty: bool,
    wanted: Vec<Extract>,
}

impl LogfmtStage {
    pub(super) fn new(strict: bool, keep_empty: bool, extracts: &[Extract]) -> Self {
        Self { strict, keep_empty, wanted: extracts.to_vec() }
    }

    pub(super) fn apply(&self, line: &str, labels: &mut LineLabels) {
        let mut name = String::new();
        let mut found = vec![false; self.wanted.len()];
        for pair in Pairs(line) {
            let (key, value) = match pair {
                Ok(pair) => pair,
                Err(why) if self.strict => {
                    labels.set_error(LOGFMT_ERROR, why);
                    return;
                }
                Err(_) => continue,
            };
            if self.wanted.is_empty() {
                if self.keep_empty || !value.is_empty() {
                    name.clear();
                    push_sanitized(&mut name, key);
                    labels.set_parsed(&name, &value);
                }
                continue;
            }
            for (extract, found) in self.wanted.iter().zip(&mut found) {
                if extract.path == key && !*found {
                    *found = true;
                    labels.set_parsed(&extract.label, &value);
                }
            }
        }
        for (extract, _) in self.wanted.iter().zip(found).filter(|(_, found)| !found) {
            if labels.stream().get(&extract.label).is_none() {
                labels.set_parsed(&extract.label, "");
            }
        }
    }
}

/// Walks over the pairs of a line; after a malformed one it goes on at the next blank.
struct Pairs<'a>(&'a str);

impl<'a> Iterator for Pairs<'a> {
    type Item = Result<(&'a str, Cow<'a, str>), &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        // Everything up to a blank separates, as in go-logfmt.
        self.0 = self.0.trim_start_matches(|c: char| c <= ' ');
        if self.0.is_empty() {
            return None;
        }
        let end = self.0.find(|c: char| c <= ' ' || c == '=' || c == '"').unwrap_or(self.0.len());
        let (key, rest) = self.0.split_at(end);
        let Some(value) = rest.strip_prefix('=') else {
            self.0 = rest;
            if rest.starts_with('"') {
                return Some(self.skip("unexpected '\"'"));
            }
            return Some(Ok((key, Cow::Borrowed(""))));
        };
        if key.is_empty() {
            return Some(self.skip("unexpected '='"));
        }
        if let Some(quoted) = value.strip_prefix('"') {
            return Some(self.quoted(key, quoted));
        }
        let end = value.find(|c: char| c <= ' ' || c == '=' || c == '"').unwrap_or(value.len());
        self.0 = &value[end..];
        if self.0.starts_with(['=', '"']) {
            return Some(self.skip("unexpected '=' or '\"' in a value"));
        }
        Some(Ok((key, Cow::Borrowed(&value[..end]))))
    }
}

impl<'a> Pairs<'a> {
    fn skip<T>(&mut self, why: &'static str) -> Result<T, &'static str> {
        let end = self.0.find(|c: char| c <= ' ').unwrap_or(self.0.len());
        self.0 = &self.0[end..];
        Err(why)
    }

    fn quoted(
        &mut self,
        key: &'a str,
        text: &'a str,
    ) -> Result<(&'a str, Cow<'a, str>), &'static str> {
        let mut escaped = false;
        let mut escapes = false;
        let end = text.find(|c: char| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            escapes |= escaped;
            ends
        });
        let Some(end) = end else {
            self.0 = "";
            return Err("unterminated quoted value");
        };
        let value = &text[..end];
        self.0 = &text[end + 1..];
        if !escapes {
            return Ok((key, Cow::Borrowed(value)));
        }
        super::super::lexer::unescape(&value.replace("\\/", "/"))
            .map(|value| (key, Cow::Owned(value)))
            .ok_or("invalid quoted value")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(line: &str) -> Vec<String> {
        Pairs(line)
            .map(|pair| pair.map_or_else(|_| "!".into(), |(key, value)| format!("{key}={value}")))
            .collect()
    }

    #[test]
    fn lines() {
        let cases: [(&str, &[&str]); 7] = [
            ("a=1 b=\"x y\" c", &["a=1", "b=x y", "c="]),
            ("a=\"q\\\"w\\n\"", &["a=q\"w\n"]),
            ("GET / 200 dur=3ms", &["GET=", "/=", "200=", "dur=3ms"]),
            ("=x a=1", &["!", "a=1"]),
            ("a=b=c d=1", &["!", "d=1"]),
            ("a=\"open", &["!"]),
            ("", &[]),
        ];
        for (line, expected) in cases {
            assert_eq!(pairs(line), expected, "{line}");
        }
    }

    proptest! {
        #[test]
        fn ends_on_any_text(line in "[a-c=\" \\\\\té]{0,40}") {
            prop_assert!(Pairs(&line).count() <= line.len());
        }
    }
}
