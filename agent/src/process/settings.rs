//! The settings of the agent about what lines mean → the usual rules.
//!
//! `multiline`, `redact.presets`, `redact.action`, `redact.key_file` and the section `redact.rules`.

use taffrail_kit::config::yaml::{Node, Place as At};
use taffrail_kit::config::{Problem, Settings};

use super::annotations::{self, pattern};
use super::redact::{Action, HashKey, RULES_MAX, Redactor, Rule};
use super::rules::{Multiline, Rules};
use super::trace::Languages;

/// Longest file with a key, in bytes.
const KEY_BYTES_MAX: u64 = 4096;

/// The usual rules that the settings ask for.
pub fn rules(settings: &Settings, problems: &mut Vec<Problem>) -> Rules {
    let multiline = match settings.required("multiline") {
        "auto" => Multiline::Traces(Languages::ALL),
        "off" => Multiline::Off,
        _ => {
            problems.push(settings.problem("multiline", "expected auto or off"));
            Multiline::Off
        }
    };
    let redactor = redactor(settings, problems);
    Rules { multiline, redactor: redactor.into(), ..Rules::default() }
}

fn redactor(settings: &Settings, problems: &mut Vec<Problem>) -> Redactor {
    let action = action(settings.required("redact.action")).unwrap_or_else(|message| {
        problems.push(settings.problem("redact.action", message));
        Action::Mask
    });
    let mut wanted = match settings.text("redact.presets").map(annotations::detectors) {
        None => Vec::new(),
        Some(Ok(wanted)) => wanted,
        Some(Err(message)) => {
            problems.push(settings.problem("redact.presets", message));
            Vec::new()
        }
    };
    for (_, own) in &mut wanted {
        // What is said of one detector goes before what is said of all.
        if *own == Action::Mask {
            *own = action;
        }
    }
    let own = settings.section("redact.rules").map_or(Ok(Vec::new()), |node| own(node, action));
    let own = own.unwrap_or_else(|found| {
        problems.extend(found.into_iter().map(|(at, text)| settings.problem_at(at, text)));
        Vec::new()
    });
    let key = key(settings, problems);
    let all = wanted.iter().map(|(_, action)| *action).chain(own.iter().map(|rule| rule.action));
    let hashes = all.into_iter().any(|action| action == Action::Hash);
    if hashes && key.is_none() && settings.path("redact.key_file").is_none() {
        let message = "is needed to hash: a file of 16 bytes or more that only the agent can read";
        problems.push(settings.problem("redact.key_file", message));
    }
    Redactor::new(wanted, own, key)
}

fn action(name: &str) -> Result<Action, String> {
    Action::named(name).ok_or_else(|| format!("expected one of {}", Action::NAMES.join(", ")))
}

fn key(settings: &Settings, problems: &mut Vec<Problem>) -> Option<HashKey> {
    let path = settings.path("redact.key_file")?;
    let read = || {
        let size = std::fs::metadata(&path).map_err(|error| error.to_string())?.len();
        if size > KEY_BYTES_MAX {
            return Err(format!("is longer than {KEY_BYTES_MAX} bytes"));
        }
        let bytes = std::fs::read(&path).map_err(|error| error.to_string())?;
        let bytes = bytes.trim_ascii();
        HashKey::new(bytes)
            .ok_or_else(|| format!("holds {} bytes; expected 16 or more", bytes.len()))
    };
    read()
        .map_err(|message| {
            let message = format!("{}: {message}", path.display());
            problems.push(settings.problem("redact.key_file", message));
        })
        .ok()
}

/// The section `redact.rules`: a list of `{name, regex, action}`.
fn own(section: &Node, usual: Action) -> Result<Vec<Rule>, Vec<(At, String)>> {
    let Some(items) = section.as_list() else {
        let message = "redact.rules must be a list of {name, regex, action}";
        return Err(vec![(section.at, message.into())]);
    };
    if items.len() > RULES_MAX {
        return Err(vec![(section.at, format!("expected at most {RULES_MAX} rules"))]);
    }
    let (mut rules, mut problems) = (Vec::new(), Vec::new());
    for item in items {
        match rule(item, usual) {
            Ok(rule) => rules.push(rule),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(rules) } else { Err(problems) }
}

fn rule(item: &Node, usual: Action) -> Result<Rule, (At, String)> {
    let entries =
        item.as_map().ok_or_else(|| (item.at, "expected {name, regex, action}".into()))?;
    let (mut name, mut regex, mut wanted) = (None, None, usual);
    for entry in entries {
        let at = entry.node.at;
        let text = entry.node.as_text().unwrap_or_default();
        match &*entry.key {
            "name" => {
                let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
                if text.is_empty() || text.len() > 32 || !text.bytes().all(good) {
                    return Err((at, "expected a name of letters, digits, - and _".into()));
                }
                name = Some(text.to_owned());
            }
            "regex" => regex = Some(pattern(text).map_err(|message| (at, message))?),
            "action" => wanted = action(text).map_err(|message| (at, message))?,
            other => {
                let message = format!("unknown key {other:?}; expected name, regex or action");
                return Err((entry.at, message));
            }
        }
    }
    let needs = |what: &str| (item.at, format!("a rule needs a {what}"));
    let name = name.ok_or_else(|| needs("name"))?;
    Ok(Rule { name, regex: regex.ok_or_else(|| needs("regex"))?, action: wanted })
}
