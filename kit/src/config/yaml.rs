//! YAML with the place of every node, so that problems can point at it.
//!
//! Scalars stay text: what they mean is decided by the setting that they are for. Limits: 1 MiB of
//! text, and saphyr's own on nesting and aliases. A key given twice is an error.

use std::fmt;

use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};

/// Largest file that is read, in bytes.
pub(super) const FILE_BYTES_MAX: usize = 1 << 20;

/// Line and column, both from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A value with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where it begins.
    pub at: Place,
    /// What it is.
    pub value: Value,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// One value, as text.
    Scalar(String),
    /// A list.
    List(Vec<Node>),
    /// Keys and values in the order of the file.
    Map(Vec<Entry>),
}

/// One key of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub at: Place,
    /// Its value.
    pub node: Node,
}

impl Node {
    /// The text of a scalar.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(text) => Some(text),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// The items of a list; nothing counts as an empty one.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Self]> {
        match &self.value {
            Value::List(items) => Some(items),
            Value::Null => Some(&[]),
            Value::Scalar(_) | Value::Map(_) => None,
        }
    }

    /// Whether both say the same, wherever they stand. The order of a map's keys does not count.
    #[must_use]
    pub fn same_content(&self, other: &Self) -> bool {
        match (&self.value, &other.value) {
            (Value::List(one), Value::List(two)) => {
                one.len() == two.len() && one.iter().zip(two).all(|(a, b)| a.same_content(b))
            }
            (Value::Map(one), Value::Map(two)) => {
                let in_two = |a: &Entry| two.iter().find(|b| a.key == b.key);
                let same = |a| in_two(a).is_some_and(|b| a.node.same_content(&b.node));
                one.len() == two.len() && one.iter().all(same)
            }
            (one, two) => one == two,
        }
    }

    /// The entries of a map; nothing counts as an empty one.
    #[must_use]
    pub fn as_map(&self) -> Option<&[Entry]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            Value::Null => Some(&[]),
            Value::Scalar(_) | Value::List(_) => None,
        }
    }
}

/// The text is not YAML that we read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Where.
    pub at: Place,
    /// What is wrong.
    pub message: String,
}

/// Reads one YAML document (none at all is null).
///
/// # Errors
/// With the place, when it is not YAML, has two documents, a key twice, or a key that is no text.
pub fn parse(text: &str) -> Result<Node, Error> {
    let start = Place { line: 1, column: 1 };
    if text.len() > FILE_BYTES_MAX {
        let message = format!("the file is longer than {FILE_BYTES_MAX} bytes");
        return Err(Error { at: start, message });
    }
    let documents = MarkedYaml::load_from_str(text).map_err(|error| Error {
        at: Place { line: error.marker().line(), column: error.marker().col() + 1 },
        message: error.info().to_owned(),
    })?;
    match documents.as_slice() {
        [] => Ok(Node { at: start, value: Value::Null }),
        [root] => convert(root),
        [_, second, ..] => Err(Error {
            at: place(second),
            message: "a second document begins here; expected one".into(),
        }),
    }
}

fn place(node: &MarkedYaml<'_>) -> Place {
    Place { line: node.span.start.line(), column: node.span.start.col() + 1 }
}

fn convert(node: &MarkedYaml<'_>) -> Result<Node, Error> {
    let at = place(node);
    let value = match &node.data {
        YamlData::Value(scalar) => scalar_value(scalar),
        YamlData::Representation(text, ..) => Value::Scalar(text.to_string()),
        YamlData::Sequence(items) => {
            Value::List(items.iter().map(convert).collect::<Result<_, _>>()?)
        }
        YamlData::Mapping(entries) => Value::Map(
            entries
                .iter()
                .map(|(key, value)| {
                    let node = convert(value)?;
                    let key_node = convert(key)?;
                    let Value::Scalar(key) = key_node.value else {
                        return Err(Error {
                            at: key_node.at,
                            message: "a key must be text".into(),
                        });
                    };
                    Ok(Entry { key, at: key_node.at, node })
                })
                .collect::<Result<_, _>>()?,
        ),
        YamlData::Tagged(_, inner) => convert(inner)?.value,
        YamlData::Alias(_) | YamlData::BadValue => {
            return Err(Error { at, message: "this value cannot be read".into() });
        }
    };
    Ok(Node { at, value })
}

fn scalar_value(scalar: &Scalar<'_>) -> Value {
    match scalar {
        Scalar::Null => Value::Null,
        Scalar::Boolean(yes) => Value::Scalar(yes.to_string()),
        Scalar::Integer(number) => Value::Scalar(number.to_string()),
        Scalar::FloatingPoint(number) => Value::Scalar(number.to_string()),
        Scalar::String(text) => Value::Scalar(text.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_know_their_place() {
        let root = parse("a: 1\nb:\n  - x\n  - {c: 'y'}\nd:\n").expect("valid");
        let entries = root.as_map().expect("a map");
        let keys: Vec<_> = entries.iter().map(|e| (e.key.as_str(), e.at.to_string())).collect();
        assert_eq!(keys, [("a", "1:1".into()), ("b", "2:1".into()), ("d", "5:1".into())]);
        assert_eq!(entries[0].node.as_text(), Some("1"));
        let items = entries[1].node.as_list().expect("a list");
        assert_eq!((items[0].at.to_string(), items[0].as_text()), ("3:5".into(), Some("x")));
        assert_eq!(items[1].as_map().expect("a map")[0].node.as_text(), Some("y"));
        assert_eq!(entries[2].node.value, Value::Null);
    }

    #[test]
    fn what_is_not_yaml_is_refused_with_its_place() {
        for (text, line) in [("a: [1, 2\nb: 3", 2), ("a: 1\n---\nb: 2", 3), ("a: 1\na: 2", 2)] {
            let error = parse(text).expect_err(text);
            assert!(error.at.line <= line && !error.message.is_empty(), "{text}: {error:?}");
        }
        assert_eq!(parse("").expect("empty").value, Value::Null);
        parse(&"x".repeat(FILE_BYTES_MAX + 1)).expect_err("too long");
    }
}
