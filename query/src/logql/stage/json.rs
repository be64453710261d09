//! `| json`: every member becomes a label, objects inside are flattened with `_`, arrays are left
//! out. `| json a="b.c[0]"`: only what the paths lead to.

use super::super::ast::Extract;
use super::super::json::{self, JsonError, Step, Value};
use super::super::labels::LineLabels;
use super::{JSON_ERROR, check_label_name, push_sanitized};

/// The parser.
#[derive(Debug)]
pub struct JsonStage {
    /// Label and path; empty: everything.
    wanted: Vec<(String, Vec<Step>)>,
}

impl JsonStage {
    pub(super) fn compile(extracts: &[Extract]) -> Result<Self, String> {
        let mut wanted = Vec::with_capacity(extracts.len());
        for extract in extracts {
            check_label_name(&extract.label)?;
            wanted.push((extract.label.clone(), json::parse_path(&extract.path)?));
        }
        Ok(Self { wanted })
    }

    pub(super) fn apply(&self, line: &str, labels: &mut LineLabels) {
        let result = if self.wanted.is_empty() {
            let mut name = String::new();
            flatten(line, &mut name, labels)
        } else {
            self.pick(line, labels)
        };
        if let Err(error) = result {
            labels.set_error(JSON_ERROR, &error.to_string());
        }
    }

    fn pick(&self, line: &str, labels: &mut LineLabels) -> Result<(), JsonError> {
        for (label, path) in &self.wanted {
            let value = json::at_path(line, path)?.unwrap_or(Value::Null).into_label();
            labels.set_parsed(label, &value);
        }
        Ok(())
    }
}

/// Sets a label for each member. `prefix` is the name of the object that `text` is, empty at the top.
/// The depth is bounded by the reader.
fn flatten(text: &str, prefix: &mut String, labels: &mut LineLabels) -> Result<(), JsonError> {
    let mut inner = Ok(());
    json::members(text, &mut |key, value| {
        let len = prefix.len();
        if len > 0 {
            prefix.push('_');
        }
        push_sanitized(prefix, &key);
        match value {
            Value::Object(object) => inner = inner.and(flatten(object, prefix, labels)),
            Value::Array(_) | Value::Null => {}
            Value::Text(_) | Value::Raw(_) => labels.set_parsed(prefix, &value.into_label()),
        }
        prefix.truncate(len);
    })?;
    inner
}
