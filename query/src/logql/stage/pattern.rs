//! Patterns: text with gaps. As a parser (`| pattern "<ip> - <_>"`) each named gap becomes a label;
//! as a line filter (`|> "GET <_>"`) the whole line must fit.

use super::super::labels::LineLabels;

/// More parts than a person would write.
const PARTS_MAX: usize = 128;

#[derive(Debug, PartialEq)]
enum Part {
    Text(String),
    /// A gap; its label, or none for `<_>`.
    Gap(Option<String>),
}

fn parse(pattern: &str) -> Result<Vec<Part>, String> {
    let mut parts: Vec<Part> = Vec::new();
    let mut text = String::new();
    let mut rest = pattern;
    while let Some(at) = rest.find('<') {
        text.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        match after.find('>').map(|end| &after[..end]) {
            Some(name) if taffrail_model::labels::is_valid_name(name) => {
                if !text.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut text)));
                }
                if matches!(parts.last(), Some(Part::Gap(_))) {
                    return Err(format!(
                        "found consecutive capture '<{name}>' in pattern {pattern:?}: \
                         text must stand between them"
                    ));
                }
                parts.push(Part::Gap((name != "_").then(|| name.to_owned())));
                rest = &after[name.len() + 1..];
            }
            _ => {
                text.push('<');
                rest = after;
            }
        }
    }
    text.push_str(rest);
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
    if parts.len() > PARTS_MAX {
        return Err(format!("a pattern may have at most {PARTS_MAX} parts"));
    }
    Ok(parts)
}

/// The parser.
#[derive(Debug)]
pub struct PatternStage {
    parts: Vec<Part>,
}

impl PatternStage {
    pub(super) fn compile(pattern: &str) -> Result<Self, String> {
        let parts = parse(pattern)?;
        let mut names: Vec<&str> = parts
            .iter()
            .filter_map(|part| match part {
                Part::Gap(name) => name.as_deref(),
                Part::Text(_) => None,
            })
            .collect();
        if names.is_empty() {
            return Err("at least one capture is required in a pattern".into());
        }
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("duplicate capture name ({}) in pattern {pattern:?}", pair[0]));
        }
        Ok(Self { parts })
    }

    /// Sets the labels as far as the line fits; the first gap whose end is missing takes the rest.
    pub(super) fn apply(&self, line: &str, labels: &mut LineLabels) {
        let mut rest = line;
        let mut parts = self.parts.as_slice();
        if let Some((Part::Text(text), after)) = parts.split_first() {
            let Some(stripped) = rest.strip_prefix(text.as_str()) else {
                return;
            };
            (rest, parts) = (stripped, after);
        }
        // From here on: a gap, the text that ends it, a gap, …
        for pair in parts.chunks(2) {
            let Part::Gap(name) = &pair[0] else {
                return;
            };
            let end = match pair.get(1) {
                Some(Part::Text(text)) => rest.find(text.as_str()).map(|at| (at, text.len())),
                _ => None,
            };
            let (len, skip) = end.unwrap_or((rest.len(), 0));
            if let Some(name) = name {
                labels.set_parsed(name, &rest[..len]);
            }
            rest = &rest[len + skip..];
            if end.is_none() {
                return;
            }
        }
    }
}

/// The line filter.
#[derive(Debug)]
pub(super) struct LinePattern {
    parts: Vec<Part>,
}

impl LinePattern {
    pub(super) fn compile(pattern: &str) -> Result<Self, String> {
        let parts = parse(pattern)?;
        if let Some(Part::Gap(Some(name))) =
            parts.iter().find(|part| matches!(part, Part::Gap(Some(_))))
        {
            return Err(format!(
                "named captures are not allowed: <{name}> in {pattern:?}; use <_>"
            ));
        }
        Ok(Self { parts })
    }

    /// Whether the whole line fits; a gap stands for at least one byte.
    pub(super) fn matches(&self, line: &str) -> bool {
        let mut rest = line.as_bytes();
        let mut gap = false;
        let last = self.parts.len().wrapping_sub(1);
        for (at, part) in self.parts.iter().enumerate() {
            let Part::Text(text) = part else {
                gap = true;
                continue;
            };
            let text = text.as_bytes();
            let found = match (gap, at == last) {
                (false, _) => rest.starts_with(text).then_some(0),
                (true, true) => (rest.len() > text.len() && rest.ends_with(text))
                    .then(|| rest.len() - text.len()),
                (true, false) => {
                    memchr::memmem::find(rest.get(1..).unwrap_or_default(), text).map(|at| at + 1)
                }
            };
            let Some(found) = found else {
                return false;
            };
            rest = &rest[found + text.len()..];
            gap = false;
        }
        rest.is_empty() != gap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_lines() {
        let cases = [
            ("GET <_>", "GET /api", true),
            ("GET <_>", "GET ", false),
            ("GET /api", "GET /api 200", false),
            ("GET /api", "GET /api", true),
            ("<_> 200", "GET /api 200", true),
            ("<_> 200", "a 200 b 200", true),
            ("<_> 200", "GET /api 200 x", false),
            ("a<_>b<_>c", "a1b2c", true),
            ("a<_>b<_>c", "abc", false),
            ("<_>", "x", true),
            ("", "", true),
            ("", "x", false),
            ("a < b", "a < b", true),
        ];
        for (pattern, line, expected) in cases {
            let compiled = LinePattern::compile(pattern).expect(pattern);
            assert_eq!(compiled.matches(line), expected, "{pattern} on {line}");
        }
        assert!(LinePattern::compile("<a> x").is_err());
        assert!(LinePattern::compile("<_><_>").is_err());
    }
}
