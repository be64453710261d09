//! Traces of Go: a panic or a fatal error, then the stack of one goroutine after the other.

use taffrail_model::Level;

use super::text::{looks_like_record, starts_with_any};
use super::{State, Verdict, joins_if};

/// What a Go program says last.
pub(super) fn opening(line: &[u8]) -> Option<State> {
    let head = match line.first()? {
        b'p' => line.starts_with(b"panic: "),
        b'f' => line.starts_with(b"fatal error: "),
        b'u' => line.starts_with(b"unexpected fault address "),
        b'r' => line.starts_with(b"runtime: "),
        b'S' => is_signal(line),
        b'g' => return is_goroutine(line).then_some(State::GoFrames),
        _ => false,
    };
    head.then_some(State::GoHead)
}

/// `SIGQUIT: quit`.
fn is_signal(line: &[u8]) -> bool {
    let word = line.iter().take_while(|b| b.is_ascii_uppercase()).count();
    line.starts_with(b"SIG") && (5..=9).contains(&word) && line[word..].starts_with(b": ")
}

/// `goroutine 7 [running]:`.
pub(super) fn is_goroutine(line: &[u8]) -> bool {
    line.starts_with(b"goroutine ")
        && line.get(10).is_some_and(u8::is_ascii_digit)
        && line.contains(&b'[')
}

pub(super) fn head(line: &[u8], level: Level) -> Verdict {
    if line.is_empty() {
        return Verdict::Perhaps(State::GoHead);
    }
    if is_goroutine(line) || line == b"runtime stack:" {
        return Verdict::Joins(State::GoFrames);
    }
    let more: [&[u8]; 6] =
        [b"\t", b"[signal ", b"[recovered", b"panic: ", b"fatal error: ", b"runtime: "];
    if starts_with_any(line, &more) {
        return Verdict::Joins(State::GoHead);
    }
    if looks_like_record(line, level) { Verdict::Ends } else { Verdict::Perhaps(State::GoHead) }
}

pub(super) fn frames(line: &[u8]) -> Verdict {
    if line.is_empty() {
        return Verdict::Perhaps(State::GoBlank);
    }
    if line.starts_with(b"exit status ") {
        return Verdict::Joins(State::Done);
    }
    let goes_on = line[0] == b'\t'
        || is_call(line)
        || is_goroutine(line)
        || is_register(line)
        || starts_with_any(line, &[b"created by ", b"...additional frames", b"runtime stack:"]);
    joins_if(goes_on, State::GoFrames)
}

pub(super) fn blank(line: &[u8]) -> Verdict {
    if line.starts_with(b"exit status ") {
        return Verdict::Joins(State::Done);
    }
    let goes_on = is_goroutine(line) || is_register(line) || line == b"runtime stack:";
    joins_if(goes_on, State::GoFrames)
}

/// `net/http.(*conn).serve(0xc0001, {0x7, 0xc})`: spaces only among the arguments.
fn is_call(line: &[u8]) -> bool {
    let Some(bracket) = memchr::memchr(b'(', line) else { return false };
    let dotted = line[..bracket].contains(&b'.') || line.starts_with(b"panic(");
    let space = memchr::memchr(b' ', line).unwrap_or(line.len());
    dotted && line[0].is_ascii_alphanumeric() && space > bracket && line.ends_with(b")")
}

/// `rax    0xca`.
fn is_register(line: &[u8]) -> bool {
    let word = line.iter().take_while(|b| b.is_ascii_alphanumeric()).count();
    (2..=6).contains(&word)
        && line.get(word) == Some(&b' ')
        && line[word..].trim_ascii_start().starts_with(b"0x")
}
