//! The lines of a body that begin with `#`. Pure.

use std::borrow::Cow;

use super::line::{FamilyType, Line, Text};

/// What follows the `#` of a line of text format: any blanks between the parts. `None` when it is a
/// comment that means nothing.
pub(super) fn lenient(text: &str) -> Option<Line<'_>> {
    let blanks = [' ', '\t', '\r'];
    let (word, rest) = text.trim_matches(blanks).split_once([' ', '\t'])?;
    let (family, rest) = family_name(rest.trim_start_matches(blanks))?;
    let rest = rest.trim_start_matches(blanks);
    match word {
        "TYPE" => {
            Some(Line::Type { family, declared: FamilyType::from_name(rest).unwrap_or_default() })
        }
        "HELP" => Some(Line::Help { family, text: rest }),
        _ => None,
    }
}

/// `# WORD name rest` with single spaces. `None` when a part is missing.
pub(super) fn strict(text: &str) -> Option<Line<'_>> {
    let (word, rest) = text.strip_prefix("# ")?.split_once(' ')?;
    let (family, rest) = family_name(rest)?;
    let rest = rest.strip_prefix(' ')?;
    match word {
        "HELP" => Some(Line::Help { family, text: rest }),
        "UNIT" => Some(Line::Unit { family, unit: rest }),
        "TYPE" if rest == "untyped" => None,
        "TYPE" => Some(Line::Type { family, declared: FamilyType::from_name(rest)? }),
        _ => None,
    }
}

/// The family's name at the start of what follows `HELP` or `TYPE`, and the rest.
fn family_name(text: &str) -> Option<(Cow<'_, str>, &str)> {
    if let Some(inner) = text.strip_prefix('"') {
        let mut from = 0;
        loop {
            let found = from + inner[from..].find(['"', '\\'])?;
            if inner.as_bytes()[found] == b'"' {
                let name = Text { raw: &inner[..found], escaped: inner[..found].contains('\\') };
                return Some((name.get(), &inner[found + 1..]));
            }
            // The escaped character may be longer than a byte.
            from = found + 1 + inner[found + 1..].chars().next()?.len_utf8();
        }
    }
    let end = text.find([' ', '\t']).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let mut bytes = name.bytes();
    let good = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_' || b == b':')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':');
    good.then_some((Cow::Borrowed(name), rest))
}
