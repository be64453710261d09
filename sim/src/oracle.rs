//! What must hold of lines that were written and found again.

use std::collections::BTreeMap;
use std::fmt;

/// What is wrong with what was found. Empty when nothing is.
#[derive(Default, PartialEq, Eq)]
pub struct Verdict {
    /// Tokens that were written and not found.
    pub lost: Vec<String>,
    /// Tokens that were found more than once.
    pub double: Vec<String>,
    /// Tokens that were found and never written, or that stand before an earlier one of their
    /// stream.
    pub wrong: Vec<String>,
}

impl Verdict {
    /// Whether every line was found exactly once and in order.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Debug for Verdict {
    /// Counts and the first few of each: thousands of tokens help nobody.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, tokens) in
            [("lost", &self.lost), ("double", &self.double), ("wrong", &self.wrong)]
        {
            write!(f, "{what}: {}", tokens.len())?;
            let first: Vec<&str> = tokens.iter().take(5).map(String::as_str).collect();
            writeln!(f, " {first:?}")?;
        }
        Ok(())
    }
}

/// The token `@@<prefix>:<number>@@` of a line, as (prefix, number).
#[must_use]
pub fn token(line: &str) -> Option<(&str, u64)> {
    let (_, rest) = line.split_once("@@")?;
    let (token, _) = rest.split_once("@@")?;
    let (prefix, number) = token.rsplit_once(':')?;
    Some((prefix, number.parse().ok()?))
}

/// Compares what was written (each token prefix with its count of lines) with the lines that were
/// found, which stand in the order of their time.
#[must_use]
pub fn judge<'a>(
    written: &BTreeMap<String, u64>,
    found: impl IntoIterator<Item = &'a str>,
) -> Verdict {
    let mut seen: BTreeMap<&str, (Vec<u32>, Option<u64>)> = written
        .iter()
        .map(|(prefix, count)| {
            (prefix.as_str(), (vec![0; usize::try_from(*count).expect("fits memory")], None))
        })
        .collect();
    let mut verdict = Verdict::default();
    for line in found {
        let slot = token(line).and_then(|(prefix, number)| {
            let (counts, last) = seen.get_mut(prefix)?;
            let count = counts.get_mut(usize::try_from(number).ok()?)?;
            Some((prefix, number, count, last))
        });
        let Some((prefix, number, count, last)) = slot else {
            verdict.wrong.push(line.chars().take(120).collect());
            continue;
        };
        *count += 1;
        if *count == 2 {
            verdict.double.push(format!("{prefix}:{number}"));
        }
        if *count == 1 {
            if last.is_some_and(|last| last > number) {
                verdict.wrong.push(format!("{prefix}:{number} after {last:?}"));
            }
            *last = Some(number);
        }
    }
    for (prefix, (counts, _)) in seen {
        let missing = counts.iter().enumerate().filter(|(_, count)| **count == 0);
        verdict.lost.extend(missing.map(|(number, _)| format!("{prefix}:{number}")));
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_lost_double_and_wrong() {
        let written = BTreeMap::from([("a".to_owned(), 3), ("b".to_owned(), 1)]);
        let clean = ["x @@a:0@@", "@@b:0@@ y", "@@a:1@@", "@@a:2@@"];
        assert!(judge(&written, clean).is_clean());
        let verdict = judge(&written, ["@@a:1@@", "@@a:0@@", "@@a:1@@", "@@a:7@@", "nothing"]);
        assert_eq!(verdict.lost, ["a:2", "b:0"]);
        assert_eq!(verdict.double, ["a:1"]);
        assert_eq!(verdict.wrong, ["a:0 after Some(1)", "@@a:7@@", "nothing"]);
    }
}
