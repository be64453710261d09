//! The settings of what log lines are kept, and the section of rules for some streams:
//!
//! ```yaml
//! logs:
//!   retention: 30d
//!   retention_rules:
//!     - selector: '{namespace="dev"}'
//!       keep: 2d
//! ```

use taffrail_kit::config::yaml::{Node, Place};
use taffrail_kit::config::{Problem, Section, Settings, units};
use taffrail_query::logql::parse_selector;

use crate::logs::{Retention, RetentionRule};

/// The section.
pub(super) const RULES: Section = Section {
    key: "logs.retention_rules",
    live: false,
    help: "Other ages for some streams: a list of `selector` ({app=\"x\"}) and `keep` (a duration); \
           the first that fits a stream counts",
};

/// Most rules: each is looked at for every stream.
const RULES_MAX: usize = 1000;

type Wrong = (Place, String);

/// What is kept.
pub(super) fn check(settings: &Settings, problems: &mut Vec<Problem>) -> Retention {
    let bytes = |key| settings.text(key).map(|text| units::bytes(text).expect("checked at load"));
    let age = settings.text("logs.retention");
    let mut retention = Retention {
        age: age.map(|text| units::duration(text).expect("checked at load")),
        bytes: bytes("logs.retention_size"),
        free_bytes: bytes("logs.retention_free"),
        rules: Vec::new(),
    };
    let Some(section) = settings.section(RULES.key) else { return retention };
    let Some(items) = section.as_list().filter(|items| items.len() <= RULES_MAX) else {
        let message = format!("{} takes a list of at most {RULES_MAX} rules", RULES.key);
        problems.push(settings.problem_at(section.at, message));
        return retention;
    };
    for item in items {
        match rule(item) {
            Ok(rule) => retention.rules.push(rule),
            Err((at, message)) => problems.push(settings.problem_at(at, message)),
        }
    }
    retention
}

fn rule(item: &Node) -> Result<RetentionRule, Wrong> {
    let entries = item.as_map().ok_or_else(|| (item.at, "expected {selector, keep}".to_owned()))?;
    let (mut matchers, mut age) = (None, None);
    for entry in entries {
        let at = entry.node.at;
        let text =
            entry.node.as_text().ok_or_else(|| (at, format!("{} takes one text", entry.key)))?;
        match entry.key.as_str() {
            "selector" => {
                let read = parse_selector(text).map_err(|error| (at, error.render(text)))?;
                if read.is_empty() {
                    return Err((at, "a rule for all streams is logs.retention".into()));
                }
                matchers = Some(read);
            }
            "keep" => {
                let no_duration = || (at, format!("{text:?} is no duration"));
                age = Some(units::duration(text).ok_or_else(no_duration)?);
            }
            other => {
                return Err((entry.at, format!("unknown key {other:?}; expected selector, keep")));
            }
        }
    }
    let missing = |key: &str| (item.at, format!("{key} is missing"));
    Ok(RetentionRule {
        matchers: matchers.ok_or_else(|| missing("selector"))?,
        age: age.ok_or_else(|| missing("keep"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Config, SCHEMA};

    fn load(file: &str) -> Result<Config, String> {
        let args = ["--config", "/f"].map(Into::into);
        let settings = SCHEMA
            .load_from(args, &|_| None, &|_| Ok(format!("data_dir: /d\nlogs:\n{file}")))
            .map_err(|stop| stop.to_string())?;
        Config::check(&settings).map_err(|problems| problems[0].to_string())
    }

    #[test]
    fn what_is_kept() {
        let config = load(
            "  retention: 30d\n  retention_size: 50GiB\n  retention_free: 1GiB\n  delete_after: 1h\n  \
             retention_rules:\n  - selector: '{namespace=~\"dev|test\"}'\n    keep: 2d\n",
        )
        .unwrap();
        let retention = config.logs.retention;
        assert_eq!(retention.age.map(|age| age.as_secs()), Some(30 * 86_400));
        assert_eq!((retention.bytes, retention.free_bytes), (Some(50 << 30), Some(1 << 30)));
        assert_eq!((retention.rules.len(), retention.rules[0].age.as_secs()), (1, 2 * 86_400));
        assert_eq!(config.logs.delete_after.as_secs(), 3600);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let cases = [
            ("  retention_rules: 7\n", "takes a list"),
            ("  retention_rules: [7]\n", "expected {selector, keep}"),
            ("  retention_rules: [{keep: 2d}]\n", "selector is missing"),
            ("  retention_rules: [{selector: '{a=\"b\"}'}]\n", "keep is missing"),
            ("  retention_rules: [{selector: '{a=', keep: 2d}]\n", "parse error"),
            ("  retention_rules: [{selector: '{}', keep: 2d}]\n", "all streams"),
            ("  retention_rules: [{selector: '{a=\"b\"}', keep: soon}]\n", "soon"),
            ("  retention_rules: [{select: x}]\n", "unknown key \"select\""),
        ];
        for (file, why) in cases {
            let error = load(file).unwrap_err();
            assert!(error.starts_with("/f:3:") && error.contains(why), "{file}: {error}");
        }
    }
}
