//! `| decolorize`: takes ANSI control sequences out of the text.

use std::borrow::Cow;

pub(super) fn apply(line: &mut Cow<'_, str>) {
    if memchr::memchr(0x1b, line.as_bytes()).is_some() {
        *line = Cow::Owned(strip(line));
    }
}

fn strip(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("\u{1b}[") {
        out.push_str(&rest[..at]);
        let sequence = &rest[at + 2..];
        // Parameters and intermediates, then one final byte.
        let end = sequence.find(|c: char| !(' '..='?').contains(&c));
        match end {
            Some(end) if sequence.as_bytes()[end].is_ascii() => rest = &sequence[end + 1..],
            Some(end) => rest = &sequence[end..],
            None => return out,
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_go() {
        let cases = [
            ("\u{1b}[31mhello\u{1b}[0m", "hello"),
            ("a\u{1b}[1;32;4mb", "ab"),
            ("a\u{1b}[", "a"),
            ("a\u{1b}[31é", "aé"),
            ("plain", "plain"),
        ];
        for (line, expected) in cases {
            let mut text = Cow::Borrowed(line);
            apply(&mut text);
            assert_eq!(text, expected);
        }
    }
}
