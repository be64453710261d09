//! Which fields lines have: found by reading a sample of them as JSON or logfmt.
//!
//! This is what Grafana's Logs Drilldown builds its filters from. A field's type is the narrowest
//! that all its values have.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::json::{self, Value};
use super::labels::Category;
use super::log::LogLine;
use super::stage::logfmt::Pairs;
use super::stage::push_sanitized;
use super::units;

/// What the values of a field are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldType {
    /// Whole numbers.
    Int,
    /// Numbers.
    Float,
    /// `true` or `false`.
    Boolean,
    /// Durations.
    Duration,
    /// Sizes.
    Bytes,
    /// Anything.
    String,
}

impl FieldType {
    /// Loki's name of the type.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Int => "int",
            Self::Float => "float",
            Self::Boolean => "boolean",
            Self::Duration => "duration",
            Self::Bytes => "bytes",
            Self::String => "string",
        }
    }

    fn holds(self, text: &str) -> bool {
        match self {
            Self::Int => text.parse::<i64>().is_ok(),
            Self::Float => text.parse::<f64>().is_ok(),
            Self::Boolean => matches!(text, "true" | "false"),
            Self::Duration => units::go_duration(text).is_ok(),
            Self::Bytes => units::bytes(text).is_ok(),
            Self::String => true,
        }
    }
}

/// One field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Field {
    /// Distinct values of the sample.
    pub values: BTreeSet<String>,
    /// Parsers that give it, `json` or `logfmt`; none: it is metadata.
    pub parsers: BTreeSet<&'static str>,
    /// Where it is in a JSON line.
    pub json_path: Vec<String>,
}

impl Field {
    /// The narrowest type that all values have.
    #[must_use]
    pub fn kind(&self) -> FieldType {
        let all = [
            FieldType::Int,
            FieldType::Float,
            FieldType::Boolean,
            FieldType::Duration,
            FieldType::Bytes,
        ];
        let found = all.into_iter().find(|kind| self.values.iter().all(|value| kind.holds(value)));
        found.unwrap_or(FieldType::String)
    }
}

/// Collects the fields of lines.
#[derive(Debug)]
pub struct Fields {
    fields: BTreeMap<String, Field>,
    fields_max: usize,
}

impl Fields {
    /// A collection of at most `fields_max` fields; further ones are left out.
    #[must_use]
    pub fn new(fields_max: usize) -> Self {
        Self { fields: BTreeMap::new(), fields_max }
    }

    /// The fields by name.
    #[must_use]
    pub fn into_map(self) -> BTreeMap<String, Field> {
        self.fields
    }

    /// Adds the fields of a line: its metadata, and what its text or the query's parsers give.
    pub fn add(&mut self, line: &LogLine<'_>) {
        line.labels.each_own(|name, value, category| {
            if category == Category::Metadata {
                self.put(name, value, None, &[]);
            }
        });
        let mut path = Vec::new();
        if line.line.trim_start().starts_with('{') && self.json(line, line.line, &mut path).is_ok()
        {
            return;
        }
        for (key, value) in Pairs(line.line).flatten() {
            if !value.is_empty() {
                self.parsed(line, &[Cow::Borrowed(key)], &value, "logfmt");
            }
        }
    }

    fn json<'a>(
        &mut self,
        line: &LogLine<'_>,
        object: &'a str,
        path: &mut Vec<Cow<'a, str>>,
    ) -> Result<(), json::JsonError> {
        json::members(object, &mut |key, value| {
            path.push(key);
            match value {
                // The reader has checked it already; its depth is bounded.
                Value::Object(inner) => drop(self.json(line, inner, path)),
                Value::Array(_) | Value::Null => {}
                Value::Text(_) | Value::Raw(_) => {
                    self.parsed(line, path, &value.into_label(), "json");
                }
            }
            path.pop();
        })
    }

    fn parsed(
        &mut self,
        line: &LogLine<'_>,
        path: &[Cow<'_, str>],
        value: &str,
        parser: &'static str,
    ) {
        let mut name = String::new();
        for (at, part) in path.iter().enumerate() {
            if at > 0 {
                name.push('_');
            }
            push_sanitized(&mut name, part);
        }
        if line.labels.stream().get(&name).is_some() {
            name.push_str("_extracted");
        }
        let json_path = if parser == "json" { path } else { &[] };
        self.put(&name, value, Some(parser), json_path);
    }

    fn put(
        &mut self,
        name: &str,
        value: &str,
        parser: Option<&'static str>,
        path: &[Cow<'_, str>],
    ) {
        if !self.fields.contains_key(name) {
            if self.fields.len() == self.fields_max {
                return;
            }
            self.fields.insert(name.to_owned(), Field::default());
        }
        let Some(field) = self.fields.get_mut(name) else {
            return;
        };
        field.values.insert(value.to_owned());
        field.parsers.extend(parser);
        if field.json_path.is_empty() {
            field.json_path = path.iter().map(|part| part.clone().into_owned()).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use taffrail_model::{Labels, Level};

    use super::super::labels::LineLabels;
    use super::*;
    use crate::source::LogRow;

    #[test]
    fn fields_of_lines() {
        let mut fields = Fields::new(8);
        let lines = [
            "level=info dur=3ms status=200 msg=\"a b\"",
            "level=warn dur=1.5s status=500",
            "{\"user\":{\"id\":\"u1\"},\"app\":\"x\",\"size\":\"3MB\",\"l\":[1]}",
        ];
        for line in lines {
            let mut labels = LineLabels::new();
            let row = LogRow { ts: 0, line, level: Level::Unknown, metadata: &[("tid", "7")] };
            labels.begin(&Labels::from_pairs([("app", "web")]), &row);
            fields.add(&LogLine { ts: 0, line, labels: &labels });
        }
        let found: Vec<String> = fields
            .into_map()
            .iter()
            .map(|(name, field)| {
                let parsers: Vec<_> = field.parsers.iter().copied().collect();
                let (kind, count) = (field.kind().name(), field.values.len());
                format!("{name} {kind} {count} {} {}", parsers.join("+"), field.json_path.join("/"))
            })
            .collect();
        let expected = [
            "app_extracted string 1 json app",
            "dur duration 2 logfmt ",
            "level string 2 logfmt ",
            "msg string 1 logfmt ",
            "size bytes 1 json size",
            "status int 2 logfmt ",
            "tid int 1  ",
            "user_id string 1 json user/id",
        ];
        assert_eq!(found, expected);
    }
}
