//! `| unpack`: a JSON object whose strings become labels and whose `_entry` becomes the line, as
//! Promtail's `pack` stage wrote it.

use std::borrow::Cow;

use super::super::json::{self, Value};
use super::{JSON_ERROR, Row, push_sanitized};

const ENTRY: &str = "_entry";

pub(super) fn apply(row: &mut Row<'_, '_>) {
    let mut entry = None;
    let mut name = String::new();
    let result = json::members(&row.line, &mut |key, value| {
        let Value::Text(text) = value else {
            return;
        };
        if key == ENTRY {
            entry = Some(text.into_owned());
        } else {
            name.clear();
            push_sanitized(&mut name, &key);
            row.labels.set_parsed(&name, &text);
        }
    });
    if let Err(error) = result {
        row.labels.set_error(JSON_ERROR, &error.to_string());
    }
    if let Some(entry) = entry {
        row.line = Cow::Owned(entry);
    }
}
