//! Traces that are an exception with frames below: Java and what runs beside it, .NET, JavaScript,
//! Ruby, PHP, Dart.
//!
//! They differ in how a frame is written and agree in the rest, and a line hardly ever tells the
//! language, so they share one automaton.

use taffrail_model::Level;

use super::text::{indented, looks_like_record, name, starts_with_any};
use super::{Languages, State, Verdict, opening};

/// `\tat com.example.App.main(App.java:3)`, indented as it must be.
pub(super) fn is_at(line: &[u8]) -> bool {
    indented(line) && line.trim_ascii_start().starts_with(b"at ")
}

/// A frame of any of the languages.
pub(super) fn is_frame(line: &[u8]) -> bool {
    let text = line.trim_ascii_start();
    match text.first() {
        Some(b'a') => is_at(line),
        // PHP and Dart: `#0 /app/x.php(3): foo()`.
        Some(b'#') => {
            let digits = text[1..].iter().take_while(|b| b.is_ascii_digit()).count();
            digits > 0 && text.get(digits + 1) == Some(&b' ')
        }
        // Ruby: `\tfrom app.rb:3:in 'foo'`.
        Some(b'f') if indented(line) => text.starts_with(b"from "),
        Some(_) => is_ruby_place(text),
        None => false,
    }
}

/// `app.rb:3:in 'foo'`, also with a number in front as Ruby 2.5 writes it.
fn is_ruby_place(text: &[u8]) -> bool {
    let Some(at) = memchr::memmem::find(text, b".rb:") else { return false };
    let rest = &text[at + 4..];
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    digits > 0 && rest[digits..].starts_with(b":in ") && !text[..at].contains(&b'"')
}

/// What stands before the list of frames in PHP.
pub(super) fn is_list_head(line: &[u8]) -> bool {
    matches!(line, b"Stack trace:" | b"[stacktrace]")
}

/// The line that names the next exception of a chain.
pub(super) fn is_cause(line: &[u8]) -> bool {
    let text = line.trim_ascii_start();
    starts_with_any(
        text,
        &[
            b"Caused by: ",
            b"Suppressed: ",
            b"Wrapped by: ",
            b"Causing: ",
            b"nested exception is:",
            b"; nested exception is:",
            b"---> ",
            b"Next ",
        ],
    ) && (text[0] != b'N' || is_head(&text[5..]))
}

/// `java.lang.IllegalStateException: boom`, `TypeError: x`, `Unhandled exception. …`.
pub(super) fn is_head(line: &[u8]) -> bool {
    let literal = match line.first() {
        Some(b'E') => line.starts_with(b"Exception in thread "),
        Some(b'U') => {
            starts_with_any(line, &[b"Unhandled exception", b"Unhandled Exception", b"Uncaught "])
        }
        Some(b'P') => {
            starts_with_any(line, &[b"PHP Fatal error:  Uncaught ", b"PHP Warning:  Uncaught "])
        }
        Some(b'F') => line.starts_with(b"Fatal error: Uncaught "),
        Some(b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'$') => false,
        Some(b'/') => return is_ruby_place(line),
        _ => return false,
    };
    if literal {
        return true;
    }
    let name = name(line);
    let rest = &line[name.len()..];
    if !(rest.is_empty() || rest[0] == b':' || rest.starts_with(b" (") || rest.starts_with(b" [")) {
        return false;
    }
    // Ruby: `app.rb:3:in 'foo': boom (RuntimeError)`.
    (name.ends_with(b".rb") && is_ruby_place(line)) || is_exception(name)
}

fn is_exception(name: &[u8]) -> bool {
    let endings: [&[u8]; 3] = [b"Exception", b"Error", b"Throwable"];
    if endings.iter().any(|end| name.ends_with(end)) {
        return true;
    }
    // A class in a package: `com.example.Trouble`.
    let Some(dot) = memchr::memrchr(b'.', name) else { return false };
    name[..dot].contains(&b'.') && name.get(dot + 1).is_some_and(u8::is_ascii_uppercase)
}

pub(super) fn after_head(line: &[u8], level: Level, languages: Languages) -> Verdict {
    if line.is_empty() {
        return Verdict::Perhaps(State::Head);
    }
    if line == b"Caused by:" {
        return Verdict::Joins(State::Causes);
    }
    if is_list_head(line) {
        return Verdict::Joins(State::Frames);
    }
    if let joined @ Verdict::Joins(_) = among(line) {
        return joined;
    }
    if !indented(line) && (opening(line, languages).is_some() || looks_like_record(line, level)) {
        return Verdict::Ends;
    }
    Verdict::Perhaps(State::Head)
}

pub(super) fn among(line: &[u8]) -> Verdict {
    if line.is_empty() {
        return Verdict::Perhaps(State::FramesBlank);
    }
    let text = line.trim_ascii_start();
    if is_frame(line) {
        let opens = text.starts_with(b"at ") && text.ends_with(b" {");
        return Verdict::Joins(if opens { State::Props } else { State::Frames });
    }
    if is_cause(line) {
        return Verdict::Joins(State::Head);
    }
    let more: [&[u8]; 8] = [
        b"... ",
        b"--- End of ",
        b"[CIRCULAR REFERENCE",
        b"- locked <",
        b"- waiting ",
        b"- parking ",
        b"<asynchronous suspension>",
        b"Emitted 'error' event",
    ];
    if starts_with_any(text, &more) {
        return Verdict::Joins(State::Frames);
    }
    let last = matches!(line, b"\"}" | b"\"} " | b"--") || text.starts_with(b"thrown in ");
    if last && line != b"--" { Verdict::Joins(State::Done) } else { Verdict::Ends }
}

/// Node says its version below a trace that ended it.
pub(super) fn after_blank(line: &[u8]) -> Verdict {
    if line.starts_with(b"Node.js v") { Verdict::Joins(State::Done) } else { Verdict::Ends }
}

/// What node prints of an error: indented, up to the brace.
pub(super) fn props(line: &[u8]) -> Verdict {
    if indented(line) {
        return Verdict::Joins(State::Props);
    }
    if line.starts_with(b"}") { Verdict::Joins(State::Frames) } else { Verdict::Ends }
}
