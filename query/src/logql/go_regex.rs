//! Regular expressions as Go reads them, for Rust's engine: both are linear and nearly the same.
//!
//! What differs, and is rewritten: in Go `\d`, `\s`, `\w` and `\b` know ASCII only; a brace that is
//! no repetition is a brace; in a class `[`, `&&`, `--` and `~~` mean themselves; `\Q…\E` quotes.

use regex::{Regex, RegexBuilder};
use taffrail_model::limits::regex_bytes_max;

/// Compiles an expression in Go's syntax.
///
/// # Errors
/// What is wrong with it, as Loki begins that text.
pub(super) fn compile(pattern: &str, dot_newline: bool, anchored: bool) -> Result<Regex, String> {
    let mut translated = translate(pattern);
    if anchored {
        translated = format!("^(?:{translated})$");
    }
    let compiled = RegexBuilder::new(&translated)
        .dot_matches_new_line(dot_newline)
        .size_limit(regex_bytes_max(pattern))
        .build();
    compiled.map_err(|error| {
        // The engine explains itself over several lines; the reason is the last one.
        let why = error.to_string();
        let why = why.lines().last().unwrap_or_default().trim().trim_start_matches("error: ");
        format!("error parsing regexp: {}: `{pattern}`", go_reason(why))
    })
}

/// The words of Go's engine, where it names the whole pattern too.
pub(super) fn go_reason(why: &str) -> &str {
    match why {
        "unclosed group" => "missing closing )",
        "unopened group" => "unexpected )",
        other => other,
    }
}

fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        let len = c.len_utf8();
        rest = match c {
            '\\' => escape(&mut out, rest),
            '[' => class(&mut out, rest),
            '{' if !is_repetition(rest) => {
                out.push_str("\\{");
                &rest[len..]
            }
            _ => {
                out.push(c);
                &rest[len..]
            }
        };
    }
    out
}

/// `{2}`, `{2,}`, `{2,5}`
fn is_repetition(text: &str) -> bool {
    let Some(inner) = text[1..].split_once('}').map(|(inner, _)| inner) else {
        return false;
    };
    let (least, most) = inner.split_once(',').unwrap_or((inner, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    !least.is_empty() && digits(least) && digits(most)
}

/// An escape outside of a class; gives what comes after it.
fn escape<'a>(out: &mut String, text: &'a str) -> &'a str {
    let Some(code) = text[1..].chars().next() else {
        out.push('\\');
        return "";
    };
    let after = &text[1 + code.len_utf8()..];
    match code {
        'd' => out.push_str("[0-9]"),
        'D' => out.push_str("[^0-9]"),
        's' => out.push_str("[\\t\\n\\f\\r ]"),
        'S' => out.push_str("[^\\t\\n\\f\\r ]"),
        'w' => out.push_str("[0-9A-Za-z_]"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        'b' => out.push_str("(?-u:\\b)"),
        'Q' => {
            let (quoted, after) = after.split_once("\\E").unwrap_or((after, ""));
            out.push_str(&regex::escape(quoted));
            return after;
        }
        'p' | 'P' if after.starts_with('{') => {
            // The brace belongs to the escape.
            let end = after.find('}').map_or(after.len(), |end| end + 1);
            out.push('\\');
            out.push(code);
            out.push_str(&after[..end]);
            return &after[end..];
        }
        'x' if after.starts_with('{') => {
            out.push_str("\\x{");
            return &after[1..];
        }
        _ => {
            out.push('\\');
            out.push(code);
        }
    }
    after
}

/// A class from its bracket on; gives what comes after it.
fn class<'a>(out: &mut String, text: &'a str) -> &'a str {
    let mut rest = &text[1..];
    out.push('[');
    if let Some(after) = rest.strip_prefix('^') {
        out.push('^');
        rest = after;
    }
    // A bracket that comes first is a member.
    if let Some(after) = rest.strip_prefix(']') {
        out.push_str("\\]");
        rest = after;
    }
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = match c {
            ']' => {
                out.push(']');
                return after;
            }
            '[' if after.starts_with(':') && after.contains(":]") => {
                let end = after.find(":]").map_or(after.len(), |end| end + 2);
                out.push('[');
                out.push_str(&after[..end]);
                &after[end..]
            }
            '[' => {
                out.push_str("\\[");
                after
            }
            // Doubled, these are operators on sets in Rust.
            '&' | '~' => {
                out.push('\\');
                out.push(c);
                after
            }
            '-' if after.starts_with('-') => {
                out.push_str("\\-");
                after
            }
            '\\' => class_escape(out, after),
            _ => {
                out.push(c);
                after
            }
        };
    }
    ""
}

fn class_escape<'a>(out: &mut String, text: &'a str) -> &'a str {
    let Some(code) = text.chars().next() else {
        out.push('\\');
        return "";
    };
    match code {
        'd' => out.push_str("0-9"),
        's' => out.push_str("\\t\\n\\f\\r "),
        'w' => out.push_str("0-9A-Za-z_"),
        'D' => out.push_str("[^0-9]"),
        'S' => out.push_str("[^\\t\\n\\f\\r ]"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        _ => {
            out.push('\\');
            out.push(code);
        }
    }
    &text[code.len_utf8()..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_go_would_match() {
        let cases = [
            (r#"{"level":"(warn|error)""#, r#"{"level":"warn"}"#, true),
            (r"a{2}b{1,}c{0,1}", "aabb", true),
            (r"x{,2}", "x{,2}", true),
            (r"^\d+$", "٣", false),
            (r"^\w+$", "é", false),
            (r"^[\w.]+$", "a_1.b", true),
            (r"^[^\s]+$", "a b", false),
            (r"\bfoo\b", "a foo b", true),
            (r"^\[[^[\]]+\]$", "[abc]", true),
            (r"^[a&&b]+$", "a&b", true),
            (r"^[a--b]+$", "-", true),
            (r"^[[:alpha:]_]+$", "ab_", true),
            (r"^\Qa.b{\E$", "a.b{", true),
            (r"^\x{41}\p{Greek}\pL$", "Aλx", true),
            (r"(?i)ERROR", "error", true),
            (r"a.b", "a\nb", true),
            (r"^[]a]+$", "]a", true),
        ];
        for (pattern, text, expected) in cases {
            let regex = compile(pattern, true, false).expect(pattern);
            assert_eq!(regex.is_match(text), expected, "{pattern} on {text}");
        }
        assert!(!compile("a.b", false, true).expect("valid").is_match("a\nb"));
        for pattern in ["(", "[a", "(?:a{1000}){1000}", "\\", "[\\"] {
            let error = compile(pattern, true, false).expect_err(pattern);
            assert!(error.starts_with("error parsing regexp: "), "{error}");
        }
        let error = compile("a(", true, false).expect_err("open");
        assert_eq!(error, "error parsing regexp: missing closing ): `a(`");
    }

    proptest! {
        #[test]
        fn no_text_panics(pattern in r"[\[\]{}\\^a-dwsQE0-9,&~:()|*+?.é-]{0,24}") {
            let _ = compile(&pattern, true, false);
        }

        #[test]
        fn plain_text_matches_itself(text in "[a-z0-9{}<>\"': =/,]{0,16}") {
            prop_assume!(!text.contains('{') || !text.contains('}'));
            let regex = compile(&text, true, false).expect("no metacharacters");
            prop_assert!(regex.is_match(&text));
        }
    }
}
