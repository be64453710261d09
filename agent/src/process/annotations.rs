//! Annotations of a pod → the rules of one of its containers.
//!
//! `taffrail.dev/<key>` speaks of all containers and volumes of a pod, `<container>.taffrail.dev/<key>`
//! of one container and goes before. An annotation that cannot be understood changes nothing and is
//! told; the others hold.
//!
//! Pure.

use std::collections::BTreeMap;

use regex::bytes::{Regex, RegexBuilder};
use taffrail_model::limits::regex_bytes_max;

use super::drops::{Rate, Sample};
use super::recognise::Parser;
use super::redact::{self, Action, Detector, Rule};
use super::rules::{Multiline, Rules, TimeOf};
use super::trace::Languages;
use crate::tail::LogStream;

/// What all our annotations have in their names.
pub const DOMAIN: &str = "taffrail.dev";
/// The annotations that are read here.
pub const KEYS: [&str; 9] = [
    "exclude",
    "streams",
    "multiline",
    "parser",
    "timestamp",
    "sample",
    "rate-limit",
    "redact",
    "redact-pattern",
];
/// Longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1024;
/// Largest compiled pattern of an annotation, in bytes: what a line costs grows with it, and who writes
/// annotations need not be who pays for the node.
const COMPILED_BYTES_MAX: usize = 128 << 10;

/// An annotation that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Problem {
    /// Its name.
    pub annotation: String,
    /// Its value.
    pub value: String,
    /// What is wrong, and what can be given.
    pub message: String,
}

/// Changes `rules` by what the annotations say of `container`; none: of what is not a container.
pub fn apply(
    annotations: &BTreeMap<String, String>,
    container: Option<&str>,
    rules: &mut Rules,
    problems: &mut Vec<Problem>,
) {
    // First those of the pod, then those of the container, which go before.
    for own in [false, true] {
        for (name, value) in annotations {
            let Some((prefix, key)) = name.split_once('/') else { continue };
            let mine = match prefix.strip_suffix(DOMAIN).map(|head| head.strip_suffix('.')) {
                Some(None) => prefix == DOMAIN && !own,
                Some(Some(head)) => own && container == Some(head),
                None => false,
            };
            if !mine || !KEYS.contains(&key) {
                continue;
            }
            if let Err(message) = set(rules, key, value.trim()) {
                problems.push(Problem {
                    annotation: name.clone(),
                    value: value.chars().take(200).collect(),
                    message,
                });
            }
        }
    }
}

/// Containers of a pod that annotations name and that it does not have, and keys that are not known.
pub fn misnamed(
    annotations: &BTreeMap<String, String>,
    containers: &[&str],
    others: &[&str],
    problems: &mut Vec<Problem>,
) {
    for (name, value) in annotations {
        let Some((prefix, key)) = name.split_once('/') else { continue };
        let Some(head) = prefix.strip_suffix(DOMAIN) else { continue };
        let message = match head.strip_suffix('.') {
            Some(container) if !containers.contains(&container) => {
                format!(
                    "the pod has no container {container:?}; expected one of {}",
                    containers.join(", ")
                )
            }
            None if !head.is_empty() => continue,
            container
                if !KEYS.contains(&key) && (container.is_some() || !others.contains(&key)) =>
            {
                format!("unknown key; expected one of {}", KEYS.join(", "))
            }
            _ => continue,
        };
        problems.push(Problem {
            annotation: name.clone(),
            value: value.chars().take(200).collect(),
            message,
        });
    }
}

fn set(rules: &mut Rules, key: &str, value: &str) -> Result<(), String> {
    match key {
        "exclude" => rules.exclude = truth(value)?,
        "streams" => rules.streams = streams(value)?,
        "multiline" => rules.multiline = multiline(value)?,
        "parser" => rules.parser = parser(value)?,
        "timestamp" => rules.time = time(value)?,
        "sample" => {
            let sample = Sample::parse(value).ok_or("expected a percentage such as 10%")?;
            rules.sample = Some(sample);
        }
        "rate-limit" => {
            let rate = Rate::parse(value).ok_or("expected lines per s, m or h such as 1000/s")?;
            rules.rate = Some(rate);
        }
        "redact" => {
            let wanted = detectors(value)?;
            let hashes = wanted.iter().any(|(_, action)| *action == Action::Hash);
            let can_hash = rules.redactor.can_hash();
            // What should be hashed is masked rather than let through.
            rules.redactor = rules.redactor.with(&wanted, &[]).into();
            if hashes && !can_hash {
                return Err("the agent has no redact.key_file to hash with: masked instead".into());
            }
        }
        _ => {
            let regex = small_pattern(value)?;
            let rule = Rule { name: "redacted".into(), regex, action: Action::Mask };
            rules.redactor = rules.redactor.with(&[], &[rule]).into();
        }
    }
    Ok(())
}

fn truth(value: &str) -> Result<bool, String> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("expected true or false".into()),
    }
}

fn streams(value: &str) -> Result<[bool; 3], String> {
    let mut streams = [true; 3];
    match value {
        "both" => {}
        "stdout" => streams[LogStream::Stderr as usize] = false,
        "stderr" => streams[LogStream::Stdout as usize] = false,
        _ => return Err("expected stdout, stderr or both".into()),
    }
    Ok(streams)
}

fn parser(value: &str) -> Result<Parser, String> {
    Parser::named(value).ok_or_else(|| format!("expected one of {}", Parser::NAMES.join(", ")))
}

fn time(value: &str) -> Result<TimeOf, String> {
    match value {
        "runtime" => Ok(TimeOf::Runtime),
        "parsed" => Ok(TimeOf::Line),
        _ => Err("expected runtime or parsed".into()),
    }
}

fn multiline(value: &str) -> Result<Multiline, String> {
    match value {
        "off" => return Ok(Multiline::Off),
        "auto" => return Ok(Multiline::Traces(Languages::ALL)),
        _ => {}
    }
    if let Some(start) = value.strip_prefix("start:") {
        return Ok(Multiline::Start(small_pattern(start)?));
    }
    let mut languages = Languages::NONE;
    for name in value.split(',').map(str::trim) {
        let language = Languages::named(name).ok_or_else(|| {
            format!("expected off, auto, start:REGEX or some of {}", Languages::names().join(","))
        })?;
        languages = languages.with(language);
    }
    Ok(Multiline::Traces(languages))
}

/// `healthcare, email=hash, password=drop`.
///
/// # Errors
/// What is not known, and what is.
pub fn detectors(value: &str) -> Result<Vec<(Detector, Action)>, String> {
    let mut wanted = Vec::new();
    for item in value.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let (name, action) =
            item.split_once('=').map_or((item, Some(Action::Mask)), |(name, action)| {
                (name.trim_end(), Action::named(action.trim_start()))
            });
        let action = action
            .ok_or_else(|| format!("{item:?}: expected =mask, =hash or =drop behind a name"))?;
        let found = redact::named(name).ok_or_else(|| {
            format!("{name:?} is not known; expected some of {}", redact::names().join(", "))
        })?;
        wanted.extend(found.into_iter().map(|detector| (detector, action)));
    }
    if wanted.is_empty() {
        return Err(format!("expected some of {}", redact::names().join(", ")));
    }
    Ok(wanted)
}

/// A pattern of somebody who is not trusted with the node's time.
fn small_pattern(text: &str) -> Result<Regex, String> {
    compile(text, COMPILED_BYTES_MAX)
}

/// A regular expression within the limits.
///
/// # Errors
/// Why it cannot be used.
pub fn pattern(text: &str) -> Result<Regex, String> {
    compile(text, regex_bytes_max(text))
}

fn compile(text: &str, limit: usize) -> Result<Regex, String> {
    if text.is_empty() || text.len() > PATTERN_BYTES_MAX {
        return Err(format!("expected a regular expression of 1 to {PATTERN_BYTES_MAX} bytes"));
    }
    let cache = regex_bytes_max(text);
    let built = RegexBuilder::new(text).size_limit(limit).dfa_size_limit(cache).build();
    let regex = built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "the regular expression is too large".to_owned(),
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default();
            format!("not a regular expression: {}", last.trim_start_matches("error: "))
        }
    })?;
    if regex.is_match(b"") {
        return Err("the regular expression matches nothing at all, and so every line".into());
    }
    Ok(regex)
}

#[cfg(test)]
mod tests;
