//! Templates (stub).
use taffrail_model::Nanos;

use super::labels::LineLabels;

#[derive(Debug)]
pub struct Template;

impl Template {
    pub(super) fn compile(_: &str) -> Result<Self, String> {
        Err("templates are not supported".into())
    }

    pub(super) fn render(&self, _: Nanos, _: &str, _: &LineLabels) -> Result<String, String> {
        Err(String::new())
    }
}
