//! `label_replace(v, "dst", "$1", "src", "(.*)")`.

use regex::Regex;
use taffrail_model::labels::is_valid_name;

use super::super::error::QueryError;
use super::Series;

/// A compiled replacement.
pub(super) struct Rule<'a> {
    dst: &'a str,
    replacement: String,
    src: &'a str,
    regex: Regex,
}

impl<'a> Rule<'a> {
    pub(super) fn new(
        dst: &'a str,
        replacement: &str,
        src: &'a str,
        regex: &str,
    ) -> Result<Self, QueryError> {
        if !is_valid_name(dst) {
            return Err(QueryError::Invalid(format!("invalid destination label name {dst:?}")));
        }
        let regex = regex::RegexBuilder::new(&format!("^(?:{regex})$"))
            .size_limit(10 << 20)
            .build()
            .map_err(|error| QueryError::Invalid(error.to_string()))?;
        Ok(Self { dst, replacement: replacement.to_owned(), src, regex })
    }

    /// Sets the label on each series whose source label fits. Two series must not become one.
    pub(super) fn apply(&self, mut series: Vec<Series>) -> Result<Vec<Series>, QueryError> {
        for one in &mut series {
            let source = one.labels.get(self.src).unwrap_or("").to_owned();
            let Some(found) = self.regex.captures(&source) else {
                continue;
            };
            let mut value = String::new();
            found.expand(&self.replacement, &mut value);
            one.labels = one.labels.with(self.dst, Some(&*value).filter(|value| !value.is_empty()));
        }
        let mut seen = std::collections::HashSet::new();
        if let Some(twice) = series.iter().find(|one| !seen.insert(&one.labels)) {
            return Err(QueryError::Invalid(format!(
                "label_replace gives several series the labels {}",
                twice.labels
            )));
        }
        Ok(series)
    }
}
