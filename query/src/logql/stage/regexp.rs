//! `| regexp "(?P<label>…)"`: each named group becomes a label.

use regex::Regex;

use super::super::labels::LineLabels;
use super::{check_label_name, line_regex};

/// The parser.
#[derive(Debug)]
pub struct RegexpStage {
    regex: Regex,
    /// Number of the group and its name.
    groups: Vec<(usize, String)>,
}

impl RegexpStage {
    pub(super) fn compile(text: &str) -> Result<Self, String> {
        // Go allows a name twice and the parser refuses it; here the expression does not compile.
        let regex = line_regex(text).map_err(|why| {
            if why.contains("duplicate capture group name") {
                format!("duplicate extracted label name in `{text}`")
            } else {
                why
            }
        })?;
        let mut groups = Vec::new();
        for (at, name) in regex.capture_names().enumerate() {
            if let Some(name) = name {
                check_label_name(name)?;
                groups.push((at, name.to_owned()));
            }
        }
        if groups.is_empty() {
            return Err("at least one named capture must be supplied".into());
        }
        Ok(Self { regex, groups })
    }

    pub(super) fn apply(&self, line: &str, labels: &mut LineLabels) {
        let Some(found) = self.regex.captures(line) else {
            return;
        };
        for (at, name) in &self.groups {
            let value = found.get(*at).map_or("", |group| group.as_str());
            labels.set_parsed(name, value);
        }
    }
}
