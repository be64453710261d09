//! The settings of the agent about what lines mean → the usual rules.
//!
//! `multiline`, `redact.presets`, `redact.unknown_pods`, `redact.action`, `redact.key_file` and the
//! section `redact.rules`.

use taffrail_kit::config::yaml::{Node, Place as At};
use taffrail_kit::config::{Problem, Settings};

use super::annotations::{self, pattern};
use super::redact::{Action, Detector, HashKey, RULES_MAX, Redactor, Rule};
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
    let (redactor, unknown) = redactors(settings, problems);
    Rules { multiline, redactor: redactor.into(), unknown: unknown.into(), ..Rules::default() }
}

/// That of all pods, and that of pods that are not known.
fn redactors(settings: &Settings, problems: &mut Vec<Problem>) -> (Redactor, Redactor) {
    let action = action(settings.required("redact.action")).unwrap_or_else(|message| {
        problems.push(settings.problem("redact.action", message));
        Action::Mask
    });
    let wanted = presets(settings, "redact.presets", action, problems);
    let more = presets(settings, "redact.unknown_pods", action, problems);
    let own = settings.section("redact.rules").map_or(Ok(Vec::new()), |node| own(node, action));
    let own = own.unwrap_or_else(|found| {
        problems.extend(found.into_iter().map(|(at, text)| settings.problem_at(at, text)));
        Vec::new()
    });
    let key = key(settings, problems);
    let all = wanted
        .iter()
        .chain(&more)
        .map(|(_, action)| *action)
        .chain(own.iter().map(|rule| rule.action));
    let hashes = all.into_iter().any(|action| action == Action::Hash);
    if hashes && key.is_none() && settings.path("redact.key_file").is_none() {
        let message = "is needed to hash: a file of 16 bytes or more that only the agent can read";
        problems.push(settings.problem("redact.key_file", message));
    }
    let redactor = Redactor::new(wanted, own, key);
    let unknown = redactor.with(&more, &[]);
    (redactor, unknown)
}

fn presets(
    settings: &Settings,
    key: &'static str,
    action: Action,
    problems: &mut Vec<Problem>,
) -> Vec<(Detector, Action)> {
    let mut wanted = match settings.text(key).map(annotations::detectors) {
        None => Vec::new(),
        Some(Ok(wanted)) => wanted,
        Some(Err(message)) => {
            problems.push(settings.problem(key, message));
            Vec::new()
        }
    };
    for (_, own) in &mut wanted {
        // What is said of one detector goes before what is said of all.
        if *own == Action::Mask {
            *own = action;
        }
    }
    wanted
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SCHEMA;
    use crate::process::redact::Outcome;

    fn check(arguments: &[&str], file: &str) -> (Rules, Vec<String>) {
        let needed = ["--collector", "http://c:4100", "--state-dir", "/s", "--config", "f"];
        let all = needed.iter().chain(arguments).map(Into::into);
        let settings = SCHEMA.load_from(all, &|_| None, &|_| Ok(file.to_owned())).expect("reads");
        let mut problems = Vec::new();
        let rules = rules(&settings, &mut problems);
        (rules, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn nothing_is_taken_out_unless_it_is_asked_for() {
        let (rules, problems) = check(&[], "");
        assert!(rules.redactor.is_idle() && problems.is_empty());
        assert!(matches!(rules.multiline, Multiline::Traces(Languages::ALL)));
        assert!(matches!(check(&["--multiline", "off"], "").0.multiline, Multiline::Off));
    }

    #[test]
    fn rules_of_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let key = folder.path().join("key");
        std::fs::write(&key, "0123456789abcdef\n").expect("write");
        let file = format!(
            "redact:\n  presets: pci, email=drop\n  action: hash\n  key_file: {}\n  rules:\n  \
             - {{name: ticket, regex: 'TCK-\\d+', action: mask}}\n",
            key.display()
        );
        let (rules, problems) = check(&[], &file);
        assert_eq!(problems, [""; 0]);
        let mut out = Vec::new();
        assert_eq!(rules.redactor.apply(b"TCK-1 4111111111111111", &mut out), Outcome::Changed(2));
        let text = String::from_utf8_lossy(&out);
        assert!(text.starts_with("[ticket] [card:") && text.len() == "[ticket] [card:]".len() + 16);
        assert_eq!(rules.redactor.apply(b"a@example.org", &mut out), Outcome::Dropped);
    }

    #[test]
    fn a_list_of_detectors_may_be_one() {
        let (rules, problems) = check(&[], "redact:\n  presets: [card, 'email=drop']\n");
        assert_eq!(problems, [""; 0]);
        let mut out = Vec::new();
        assert_eq!(rules.redactor.apply(b"4111111111111111", &mut out), Outcome::Changed(1));
        assert_eq!(rules.redactor.apply(b"a@example.org", &mut out), Outcome::Dropped);
        let (_, problems) = check(&[], "redact:\n  presets: [card, names]\n");
        assert!(problems[0].starts_with("f:2:12: \"names\" is not known"), "{problems:?}");
        let (rules, problems) = check(&[], "redact: {presets: []}");
        assert!(problems.is_empty() && rules.redactor.is_idle());
    }

    #[test]
    fn pods_that_are_not_known_have_more_taken_out() {
        let (rules, problems) =
            check(&["--redact-presets", "card", "--redact-unknown-pods", "email"], "");
        assert_eq!(problems, [""; 0]);
        let (text, mut out) = (b"4111111111111111 a@example.org", Vec::new());
        assert_eq!(rules.redactor.apply(text, &mut out), Outcome::Changed(1));
        assert_eq!(rules.unknown.apply(text, &mut out), Outcome::Changed(2));
    }

    #[test]
    fn problems_have_their_places() {
        let file = "redact:\n  presets: names\n  action: burn\n  rules:\n  - {name: a b, regex: x}\n  \
                    - {name: a}\n  - {name: a, regex: (}\n  - {nom: a}\n";
        let (_, problems) = check(&["--multiline", "java"], file);
        let expected = [
            "--multiline: expected auto or off",
            "f:3:11: expected one of mask, hash, drop",
            "f:2:12: \"names\" is not known; expected some of secrets",
            "f:5:12: expected a name of letters",
            "f:6:5: a rule needs a regex",
            "f:7:22: not a regular expression: unclosed group",
            "f:8:6: unknown key \"nom\"; expected name, regex or action",
        ];
        assert_eq!(problems.len(), expected.len(), "{problems:#?}");
        for (found, expected) in problems.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}\n{expected}");
        }
        let (_, problems) = check(&["--redact-presets", "card=hash"], "");
        assert!(problems[0].starts_with("--redact-key-file: is needed to hash"), "{problems:?}");
        let (_, problems) = check(&["--redact-unknown-pods", "names"], "");
        assert!(problems[0].starts_with("--redact-unknown-pods: \"names\" is"), "{problems:?}");
        let (_, problems) = check(&["--redact-key-file", "/nowhere/key"], "");
        assert!(problems[0].contains("/nowhere/key: No such file"), "{problems:?}");
    }
}
