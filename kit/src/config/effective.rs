//! The settings in effect as a file: `--print-config`.
//!
//! What is printed is a valid file itself, with a comment behind each value that says where it comes
//! from. Secrets are masked: a file made from this page needs them filled in. Pure.

use std::fmt::Write;

use super::settings::Given;
use super::yaml::{Entry, Node, Value};
use super::{Kind, Schema, Settings, units};

/// What stands in place of a secret.
const MASK: &str = "********";
/// What a key in a section ends with when its value is a secret.
const SECRET_ENDINGS: [&str; 5] = ["password", "token", "secret", "secret_key", "hash_key"];

/// Keys with dots as a tree, in the order of the table.
enum Tree<'a> {
    Leaf(&'a str),
    Branch(Vec<(&'a str, Self)>),
}

impl Schema {
    /// The settings in effect as a YAML file.
    #[must_use]
    pub fn effective(&self, settings: &Settings) -> String {
        let mut page = format!("# Settings in effect of {}.\n", self.program);
        if let Some(file) = &settings.file {
            let _infallible = writeln!(page, "# File: {}", one_line(&file.display().to_string()));
        }
        let mut root = Vec::new();
        for key in self.all_keys() {
            plant(&mut root, key, key);
        }
        self.write_branch(&mut page, &root, 0, settings);
        page
    }

    fn write_branch(
        &self,
        page: &mut String,
        branch: &[(&str, Tree<'_>)],
        depth: usize,
        settings: &Settings,
    ) {
        let indent = "  ".repeat(depth);
        for (name, tree) in branch {
            match tree {
                Tree::Branch(below) => {
                    let mut inner = String::new();
                    self.write_branch(&mut inner, below, depth + 1, settings);
                    // A key without anything below it would be null, which is no map.
                    let empty = inner.lines().all(|line| line.trim_start().starts_with('#'));
                    let off = if empty { "# " } else { "" };
                    page.push_str(&format!("{indent}{off}{name}:\n{inner}"));
                }
                Tree::Leaf(key) => match (settings.values.get(key), settings.sections.get(key)) {
                    (Some(given), _) => {
                        let value = self.shown(key, given);
                        let place = one_line(&given.place);
                        page.push_str(&format!("{indent}{name}: {value} # {place}\n"));
                    }
                    (None, Some(node)) => {
                        let file = settings.problem_at(node.at, "").place;
                        let value = section(node, depth + 1);
                        page.push_str(&format!("{indent}{name}: # {}\n{value}", one_line(&file)));
                    }
                    (None, None) => page.push_str(&format!("{indent}# {name}: is not set\n")),
                },
            }
        }
    }

    fn shown(&self, key: &str, given: &Given) -> String {
        let kind = self.settings.iter().find(|s| s.key == key).map(|s| s.kind);
        match kind {
            Some(Kind::Secret) if !given.text.is_empty() => scalar(MASK),
            Some(Kind::Url) => scalar(&without_password(&given.text)),
            _ => scalar(&given.text),
        }
    }
}

fn plant<'a>(branch: &mut Vec<(&'a str, Tree<'a>)>, path: &'a str, key: &'a str) {
    let Some((head, rest)) = path.split_once('.') else {
        branch.push((path, Tree::Leaf(key)));
        return;
    };
    let known = branch.iter_mut().find_map(|(name, tree)| match tree {
        Tree::Branch(below) if *name == head => Some(below),
        _ => None,
    });
    if let Some(below) = known {
        plant(below, rest, key);
        return;
    }
    let mut below = Vec::new();
    plant(&mut below, rest, key);
    branch.push((head, Tree::Branch(below)));
}

/// A tree in block style, each line indented, with a line end.
fn section(node: &Node, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    match &node.value {
        Value::Null => format!("{indent}~\n"),
        Value::Scalar(text) => format!("{indent}{}\n", scalar(text)),
        Value::List(items) if items.is_empty() => format!("{indent}[]\n"),
        Value::Map(entries) if entries.is_empty() => format!("{indent}{{}}\n"),
        Value::List(items) => items
            .iter()
            .map(|item| format!("{indent}- {}", section(item, depth + 1).trim_start()))
            .collect(),
        Value::Map(entries) => entries.iter().map(|entry| entry_lines(entry, depth)).collect(),
    }
}

fn entry_lines(entry: &Entry, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    let key = scalar(&entry.key);
    let secret = SECRET_ENDINGS.iter().any(|end| entry.key.to_lowercase().ends_with(end));
    match &entry.node.value {
        Value::Scalar(text) if secret && !text.is_empty() => {
            format!("{indent}{key}: {}\n", scalar(MASK))
        }
        Value::Scalar(text) if text.contains("://") => {
            format!("{indent}{key}: {}\n", scalar(&without_password(text)))
        }
        Value::Null | Value::Scalar(_) => {
            format!("{indent}{key}: {}", section(&entry.node, 0))
        }
        Value::List(items) if items.is_empty() => format!("{indent}{key}: []\n"),
        Value::Map(entries) if entries.is_empty() => format!("{indent}{key}: {{}}\n"),
        Value::List(_) | Value::Map(_) => {
            format!("{indent}{key}:\n{}", section(&entry.node, depth + 1))
        }
    }
}

/// `http://user:********@host` for `http://user:password@host`.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rsplit_once('@').and_then(|(user, _)| user.split_once(':')) {
        Some((user, password)) => {
            let after = &rest[user.len() + 1 + password.len()..];
            format!("{scheme}://{user}:{MASK}{after}")
        }
        None => url.to_owned(),
    }
}

/// A text as a YAML scalar that is read as exactly that text.
fn scalar(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            ' '..='~' => quoted.push(c),
            '\u{A0}'..='\u{D7FF}' if !matches!(c, '\u{2028}' | '\u{2029}') => quoted.push(c),
            c => quoted.push_str(&format!("\\U{:08X}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

/// Whether a text means itself without quotes.
fn is_plain(text: &str) -> bool {
    let words = |c: u8| c.is_ascii_alphanumeric() || b"_./-".contains(&c);
    let Some(first) = text.bytes().next() else { return false };
    let last = text.bytes().next_back().unwrap_or_default();
    match first {
        b'1'..=b'9' if text.len() < 18 && text.bytes().all(|c| c.is_ascii_digit()) => true,
        b'1'..=b'9' if last.is_ascii_alphabetic() => {
            !text.contains(' ') && (units::duration(text).is_some() || units::bytes(text).is_some())
        }
        b'0' => text == "0",
        b'a'..=b'z' | b'A'..=b'Z' | b'/' => {
            let word = text.to_ascii_lowercase();
            let other = ["null", "yes", "no", "on", "off", "y", "n"].contains(&&*word);
            let logic = ["true", "false"].contains(&&*word) && *text != *word;
            let colons = text.bytes().all(|c| words(c) || c == b':') && last != b':';
            colons && !other && !logic
        }
        _ => false,
    }
}

/// Text that does not end a comment.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, "?")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml;
    use proptest::prelude::*;

    #[test]
    fn what_looks_like_something_else_is_quoted() {
        let plain =
            ["15s", "64MiB", "0", "100000", "/var/log/pods", "http://c:4100", "true", "info"];
        for text in plain {
            assert_eq!(scalar(text), text);
        }
        for text in
            ["", "0x10", "1e3", "1.50", "~", "null", "True", "yes", "a: b", "a:", "- a", "é #"]
        {
            assert!(scalar(text).starts_with('"'), "{text}");
        }
    }

    #[test]
    fn passwords_in_urls_are_masked() {
        let cases = [
            ("http://u:p@h:1/x", "http://u:********@h:1/x"),
            ("http://u:p@x@h", "http://u:********@h"),
            ("http://h:1/a@b:c", "http://h:1/a@b:c"),
            ("http://u@h", "http://u@h"),
        ];
        for (url, shown) in cases {
            assert_eq!(without_password(url), shown);
        }
    }

    fn tree() -> impl Strategy<Value = Node> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<String>().prop_map(Value::Scalar),
            "[0-9a-zA-Z:~ ]{0,6}".prop_map(Value::Scalar),
        ];
        let node = |value| Node { at: yaml::Place::default(), value };
        leaf.prop_map(node).prop_recursive(3, 20, 4, move |inner| {
            let entries = proptest::collection::btree_map("[a-z: ]{1,8}", inner.clone(), 0..4);
            let map = entries.prop_map(|entries| {
                let entry = |(key, node)| Entry { key, at: yaml::Place::default(), node };
                Value::Map(entries.into_iter().map(entry).collect())
            });
            prop_oneof![proptest::collection::vec(inner, 0..4).prop_map(Value::List), map]
                .prop_map(node)
        })
    }

    proptest! {
        #[test]
        fn a_scalar_is_read_as_it_was(text in any::<String>()) {
            let page = format!("a: {} # b\n", scalar(&text));
            let root = yaml::parse(&page).expect("valid");
            prop_assert_eq!(root.as_map().and_then(|m| m[0].node.as_text()), Some(&*text));
        }

        #[test]
        fn a_section_is_read_as_it_was(node in tree()) {
            let page = format!("a: # b\n{}", section(&node, 1));
            let root = yaml::parse(&page).map_err(|e| TestCaseError::fail(format!("{e:?}\n{page}")))?;
            prop_assert!(root.as_map().expect("a map")[0].node.same_content(&node), "{}", page);
        }
    }
}
