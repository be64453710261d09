//! `| drop a, b="x"` and `| keep a, b="x"`.

use super::super::ast::Pick;
use super::super::labels::LineLabels;

pub(super) fn drop_labels(picks: &[Pick], labels: &mut LineLabels) {
    for pick in picks {
        match pick {
            Pick::Name(name) => labels.remove(name),
            Pick::Matcher(matcher) => {
                if labels.get(&matcher.name).is_some_and(|value| matcher.matches(value)) {
                    labels.remove(&matcher.name);
                }
            }
        }
    }
}

pub(super) fn keep_labels(picks: &[Pick], labels: &mut LineLabels) {
    labels.retain(|name, value| {
        picks.iter().any(|pick| match pick {
            Pick::Name(wanted) => wanted == name,
            Pick::Matcher(matcher) => matcher.name == name && matcher.matches(value),
        })
    });
}
