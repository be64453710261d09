//! Two settings of the same table, compared and mixed: what a program needs to take up a changed file.
//! Pure.

use super::Settings;

impl Settings {
    /// The keys of settings and sections whose values differ, in order. Where a value comes from does
    /// not count.
    #[must_use]
    pub fn changed(&self, other: &Self) -> Vec<&'static str> {
        let values = self.values.keys().chain(other.values.keys());
        let values = values.filter(|key| {
            let text = |settings: &Self| settings.values.get(*key).map(|g| g.text.clone());
            text(self) != text(other)
        });
        let sections = self.sections.keys().chain(other.sections.keys());
        let sections =
            sections.filter(|key| match (self.sections.get(*key), other.sections.get(*key)) {
                (Some(one), Some(other)) => !one.same_content(other),
                (one, other) => one.is_some() != other.is_some(),
            });
        let mut keys: Vec<&'static str> = values.chain(sections).copied().collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// These settings, but for `keys` those of `other`, from its file.
    #[must_use]
    pub fn mixed(&self, other: &Self, keys: &[&'static str]) -> Self {
        let mut mixed = self.clone();
        for key in keys {
            match other.values.get(key) {
                Some(given) => mixed.values.insert(key, given.clone()),
                None => mixed.values.remove(key),
            };
            match other.sections.get(key) {
                Some(node) => mixed.sections.insert(key, node.clone()),
                None => mixed.sections.remove(key),
            };
        }
        mixed.file.clone_from(&other.file);
        mixed.text.clone_from(&other.text);
        mixed
    }
}
