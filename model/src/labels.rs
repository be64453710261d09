//! A label set: what identifies a log stream or a metric series.
//!
//! Invariants: sorted by name (bytewise), each name once, no empty value (an empty value is an
//! absent label, as in Prometheus). Cheap to clone: one reference count.

use std::fmt;
use std::sync::Arc;

/// A sorted set of `name = value` pairs without duplicates and without empty values.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(Arc<[(Arc<str>, Arc<str>)]>);

impl Default for Labels {
    fn default() -> Self {
        Self(Arc::from(Vec::new()))
    }
}

impl Labels {
    /// Builds a set from pairs in any order. When a name comes twice the later pair wins; pairs with
    /// an empty value are left out.
    pub fn from_pairs<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<Arc<str>>,
        V: Into<Arc<str>>,
    {
        let mut pairs: Vec<(Arc<str>, Arc<str>)> =
            pairs.into_iter().map(|(n, v)| (n.into(), v.into())).collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        // A stable sort keeps the order of equal names, so the later one is the last of its run.
        let mut kept: Vec<(Arc<str>, Arc<str>)> = Vec::with_capacity(pairs.len());
        for pair in pairs {
            match kept.last_mut() {
                Some(last) if last.0 == pair.0 => last.1 = pair.1,
                _ => kept.push(pair),
            }
        }
        kept.retain(|(_, value)| !value.is_empty());
        Self(Arc::from(kept))
    }

    /// The value of a label, if it is there.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.binary_search_by(|(n, _)| (**n).cmp(name)).ok().map(|at| &*self.0[at].1)
    }

    /// All pairs in order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        self.0.iter().map(|(n, v)| (&**n, &**v))
    }

    /// All pairs with their shared strings, for callers that build new sets from them.
    #[must_use]
    pub fn shared(&self) -> &[(Arc<str>, Arc<str>)] {
        &self.0
    }

    /// Whether somebody else holds this very set too: a cache may drop what is not shared.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// How many labels there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no label.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same set with one label set, or removed when `value` is empty.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        Self::from_pairs(
            self.0.iter().cloned().chain([(Arc::<str>::from(name), Arc::<str>::from(value))]),
        )
    }

    /// The labels whose names satisfy `keep`.
    #[must_use]
    pub fn filtered(&self, mut keep: impl FnMut(&str) -> bool) -> Self {
        if self.0.iter().all(|(n, _)| keep(n)) {
            return self.clone();
        }
        Self(self.0.iter().filter(|(n, _)| keep(n)).cloned().collect::<Vec<_>>().into())
    }

    /// A stable 128-bit hash of the set: the identity of a stream or series on disk and on the wire.
    /// XXH3-128 over each name and value followed by the byte `0xFF`, which UTF-8 never contains.
    #[must_use]
    pub fn fingerprint(&self) -> u128 {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        for (name, value) in self.iter() {
            hash.update(name.as_bytes());
            hash.update(&[0xFF]);
            hash.update(value.as_bytes());
            hash.update(&[0xFF]);
        }
        hash.digest128()
    }
}

impl<N: Into<Arc<str>>, V: Into<Arc<str>>> FromIterator<(N, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self::from_pairs(pairs)
    }
}

impl fmt::Display for Labels {
    /// `{a="b", c="d"}` with the escapes of Go and Prometheus.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, (name, value)) in self.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{name}=")?;
            write_quoted(f, value)?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Writes `text` between double quotes as Go's `%q` does for printable text: `\\`, `\"`, `\n`,
/// `\t`, `\r`, other control characters as `\xNN`.
pub fn write_quoted(out: &mut impl fmt::Write, text: &str) -> fmt::Result {
    out.write_char('"')?;
    for c in text.chars() {
        match c {
            '\\' => out.write_str("\\\\")?,
            '"' => out.write_str("\\\"")?,
            '\n' => out.write_str("\\n")?,
            '\t' => out.write_str("\\t")?,
            '\r' => out.write_str("\\r")?,
            c if (c as u32) < 0x20 || c as u32 == 0x7F => write!(out, "\\x{:02x}", c as u32)?,
            c => out.write_char(c)?,
        }
    }
    out.write_char('"')
}

/// Turns any text into a label name of Prometheus' classic form `[a-zA-Z_][a-zA-Z0-9_]*`: every
/// other character becomes `_`, and a leading digit gets a `_` before it
/// (`app.kubernetes.io/name` -> `app_kubernetes_io_name`).
#[must_use]
pub fn sanitize_name(text: &str) -> String {
    let mut name = String::with_capacity(text.len() + 1);
    if text.starts_with(|c: char| c.is_ascii_digit()) || text.is_empty() {
        name.push('_');
    }
    name.extend(text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }));
    name
}

/// Whether a name has Prometheus' classic form `[a-zA-Z_][a-zA-Z0-9_]*`.
#[must_use]
pub fn is_valid_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied())
    }

    #[test]
    fn sorted_unique_and_without_empty_values() {
        let set = labels(&[("b", "2"), ("a", "1"), ("b", "3"), ("c", "")]);
        assert_eq!(set.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "3")]);
        assert_eq!(set.get("b"), Some("3"));
        assert_eq!(set.get("c"), None);
        assert_eq!(set.with("a", "").iter().collect::<Vec<_>>(), [("b", "3")]);
        assert_eq!(set.filtered(|n| n == "a").len(), 1);
    }

    #[test]
    fn a_later_empty_value_removes_an_earlier_one() {
        assert!(labels(&[("a", "1"), ("a", "")]).is_empty());
    }

    #[test]
    fn prints_like_prometheus() {
        let set = labels(&[("b", "x\"y\\\n"), ("a", "é\u{1}")]);
        assert_eq!(set.to_string(), r#"{a="é\x01", b="x\"y\\\n"}"#);
    }

    #[test]
    fn names_are_sanitised() {
        let cases = [
            ("app.kubernetes.io/name", "app_kubernetes_io_name"),
            ("9lives", "_9lives"),
            ("", "_"),
            ("grün", "gr_n"),
        ];
        for (text, expected) in cases {
            assert_eq!(sanitize_name(text), expected);
            assert!(is_valid_name(expected));
        }
        assert!(!is_valid_name("a-b") && !is_valid_name("") && !is_valid_name("1a"));
    }

    #[test]
    fn fingerprint_is_stable_on_disk() {
        // A change of this number makes every store on disk unreadable: it needs a new format version.
        let set = labels(&[("app", "web"), ("namespace", "shop")]);
        assert_eq!(format!("{:032x}", set.fingerprint()), FINGERPRINT_OF_WEB_IN_SHOP);
    }
    const FINGERPRINT_OF_WEB_IN_SHOP: &str = "b0a8dc86a6c33b404e5709e8dd318bc5";

    proptest! {
        #[test]
        fn order_of_pairs_does_not_matter(pairs in proptest::collection::btree_map("[a-z]{1,3}", "[a-z]{0,3}", 0..8)) {
            let forward = Labels::from_pairs(pairs.clone());
            let backward = Labels::from_pairs(pairs.into_iter().rev());
            prop_assert_eq!(&forward, &backward);
            prop_assert_eq!(forward.fingerprint(), backward.fingerprint());
        }

        #[test]
        fn name_and_value_cannot_trade_places(a in "[a-z]{0,3}", b in "[a-z]{1,3}") {
            let one = labels(&[("x", &format!("{a}{b}")), ("y", "1")]);
            let two = labels(&[(&format!("x{a}"), &b), ("y", "1")]);
            prop_assert_eq!(one == two, one.fingerprint() == two.fingerprint());
        }
    }
}
