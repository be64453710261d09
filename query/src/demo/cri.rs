//! Log lines as containerd writes them: `<RFC 3339 time> <stdout|stderr> <P|F> <text>`, long lines
//! in pieces.

use taffrail_model::Nanos;
use taffrail_model::time::format_rfc3339;

/// containerd's `max_container_log_line_size`: longer lines become pieces of this size.
pub(super) const PIECE_BYTES: usize = 16 * 1024;

/// Which of a container's outputs a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    Stdout,
    Stderr,
}

/// Appends a line: pieces marked `P`, the last one `F`. The cut is made at bytes, not at
/// characters, as containerd makes it.
pub(super) fn push_line(out: &mut Vec<u8>, ts: Nanos, output: Output, text: &str) {
    let time = format_rfc3339(ts);
    let output = match output {
        Output::Stdout => "stdout",
        Output::Stderr => "stderr",
    };
    let mut rest = text.as_bytes();
    loop {
        let (piece, tag) = match rest.split_at_checked(PIECE_BYTES) {
            Some((piece, after)) if !after.is_empty() => (piece, "P"),
            _ => (rest, "F"),
        };
        out.extend_from_slice(format!("{time} {output} {tag} ").as_bytes());
        out.extend_from_slice(piece);
        out.push(b'\n');
        if tag == "F" {
            return;
        }
        rest = &rest[piece.len()..];
    }
}

/// Takes CRI text apart again: the joined lines, or the first line that has not the form. For the
/// tests of this module and of those that write files.
#[cfg(test)]
pub(super) fn parse(text: &[u8]) -> Result<Vec<(Nanos, String)>, String> {
    let (mut lines, mut open) = (Vec::new(), Vec::new());
    for line in text.split_inclusive(|b| *b == b'\n') {
        let bad = || String::from_utf8_lossy(line).into_owned();
        let body = line.strip_suffix(b"\n").ok_or_else(bad)?;
        let mut parts = body.splitn(4, |b| *b == b' ');
        let mut word = || parts.next().and_then(|p| std::str::from_utf8(p).ok()).ok_or_else(bad);
        let time = taffrail_model::time::parse_rfc3339(word()?).ok_or_else(bad)?;
        let (output, tag) = (word()?, word()?);
        if !["stdout", "stderr"].contains(&output) || !["P", "F"].contains(&tag) {
            return Err(bad());
        }
        open.extend_from_slice(parts.next().ok_or_else(bad)?);
        if tag == "F" {
            let whole = String::from_utf8(std::mem::take(&mut open)).map_err(|e| e.to_string())?;
            lines.push((time, whole));
        }
    }
    if open.is_empty() { Ok(lines) } else { Err("a piece without an end".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn looks_like_containerd() {
        let mut out = Vec::new();
        push_line(&mut out, 1_795_186_292_120_000_000, Output::Stderr, "");
        push_line(&mut out, 1_795_186_292_000_000_000, Output::Stdout, &"x".repeat(40_000));
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        // Trailing zeros of the fraction are cut; an empty line keeps its last space.
        assert_eq!(lines[0], "2026-11-20T14:51:32.12Z stderr F ");
        let pieces: Vec<(&str, usize)> =
            lines[1..].iter().map(|l| (&l[21..30], l.len() - 30)).collect();
        let expected = [("stdout P ", 16_384), ("stdout P ", 16_384), ("stdout F ", 7_232)];
        assert_eq!(pieces, expected);
    }

    proptest! {
        #[test]
        fn reads_back(
            texts in proptest::collection::vec("[^\n]{0,40}", 0..20),
            copies in 1_usize..2000,
            ts in 0_i64..2_000_000_000_000_000_000,
        ) {
            let texts: Vec<String> = texts.iter().map(|t| t.repeat(copies)).collect();
            let mut out = Vec::new();
            for text in &texts {
                push_line(&mut out, ts, Output::Stdout, text);
            }
            let expected: Vec<(Nanos, String)> = texts.into_iter().map(|t| (ts, t)).collect();
            prop_assert_eq!(parse(&out).unwrap(), expected);
        }
    }
}
