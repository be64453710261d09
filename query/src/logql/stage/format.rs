//! `| line_format "{{.method}}"` and `| label_format code=status, took="{{.took}}ms"`.

use std::borrow::Cow;

use super::super::ast::{FormatValue, LabelFormat};
use super::super::template::Template;
use super::{Row, TEMPLATE_ERROR, check_label_name};

/// Rewrites the text of a line.
#[derive(Debug)]
pub struct LineFormat(Template);

impl LineFormat {
    pub(super) fn compile(text: &str) -> Result<Self, String> {
        Template::compile(text).map(Self)
    }

    pub(super) fn apply(&self, row: &mut Row<'_, '_>) {
        match self.0.render(row.ts, &row.line, row.labels) {
            Ok(text) => row.line = Cow::Owned(text),
            Err(why) => row.labels.set_error(TEMPLATE_ERROR, &why),
        }
    }
}

/// Rewrites labels, in order.
#[derive(Debug)]
pub struct LabelFormats(Vec<(String, Source)>);

#[derive(Debug)]
enum Source {
    Rename(String),
    Template(Template),
}

impl LabelFormats {
    pub(super) fn compile(formats: &[LabelFormat]) -> Result<Self, String> {
        let mut compiled: Vec<(String, Source)> = Vec::with_capacity(formats.len());
        for format in formats {
            check_label_name(&format.name)?;
            if compiled.iter().any(|(name, _)| *name == format.name) {
                return Err(format!(
                    "multiple label name '{}' not allowed in a single format operation",
                    format.name
                ));
            }
            if format.name.starts_with("__error") {
                return Err(format!("{} cannot be formatted", format.name));
            }
            let source = match &format.value {
                FormatValue::Rename(from) => Source::Rename(from.clone()),
                FormatValue::Template(text) => Source::Template(Template::compile(text)?),
            };
            compiled.push((format.name.clone(), source));
        }
        Ok(Self(compiled))
    }

    pub(super) fn apply(&self, row: &mut Row<'_, '_>) {
        for (name, source) in &self.0 {
            match source {
                Source::Rename(from) => {
                    if let Some(value) = row.labels.get(from).map(str::to_owned) {
                        row.labels.set(name, &value);
                        row.labels.remove(from);
                    }
                }
                Source::Template(template) => {
                    match template.render(row.ts, &row.line, row.labels) {
                        Ok(value) => row.labels.set(name, &value),
                        Err(why) => row.labels.set_error(TEMPLATE_ERROR, &why),
                    }
                }
            }
        }
    }
}
