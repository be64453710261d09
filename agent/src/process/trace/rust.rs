//! Panics of Rust with their backtraces, and errors that print their causes.

use taffrail_model::Level;

use super::text::{indented, is_numbered, looks_like_record, starts_with_any};
use super::{State, Verdict, joins_if};

/// `thread 'main' panicked at src/main.rs:3:5:`, since 1.90 with a number behind the name.
pub(super) fn is_panic(line: &[u8]) -> bool {
    starts_with_any(line, &[b"thread '", b"thread <unnamed>"])
        && memchr::memmem::find(line, b" panicked at ").is_some()
}

/// Since 1.73 the message stands in the line below the place; before, it was quoted in the same.
pub(super) fn after_panic(line: &[u8]) -> State {
    if line.ends_with(b":") { State::RustHead } else { State::RustMessage }
}

pub(super) fn head(line: &[u8]) -> Verdict {
    match message(line, Level::Unknown) {
        Verdict::Joins(state) => Verdict::Joins(state),
        Verdict::Perhaps(_) | Verdict::Ends => Verdict::Joins(State::RustMessage),
    }
}

/// Behind the message, or more of it.
pub(super) fn message(line: &[u8], level: Level) -> Verdict {
    if line.starts_with(b"note: ") {
        return Verdict::Joins(State::RustNotes);
    }
    if is_backtrace(line) {
        return Verdict::Joins(State::RustFrames);
    }
    if indented(line) {
        return Verdict::Joins(State::RustMessage);
    }
    if is_panic(line) || looks_like_record(line, level) {
        return Verdict::Ends;
    }
    Verdict::Perhaps(State::RustMessage)
}

fn is_backtrace(line: &[u8]) -> bool {
    matches!(line, b"stack backtrace:" | b"Stack backtrace:")
}

pub(super) fn frames(line: &[u8]) -> Verdict {
    if line.starts_with(b"note: ") {
        return Verdict::Joins(State::RustNotes);
    }
    let text = line.trim_ascii_start();
    joins_if(indented(line) && (is_numbered(text) || text.starts_with(b"at ")), State::RustFrames)
}

pub(super) fn notes(line: &[u8]) -> Verdict {
    if is_backtrace(line) {
        return Verdict::Joins(State::RustFrames);
    }
    joins_if(line.starts_with(b"note: "), State::RustNotes)
}

/// `    0: connection refused`, one cause a line, perhaps a backtrace below.
pub(super) fn causes(line: &[u8]) -> Verdict {
    if line.is_empty() {
        return Verdict::Perhaps(State::Causes);
    }
    if is_backtrace(line) {
        return Verdict::Joins(State::RustFrames);
    }
    joins_if(indented(line), State::Causes)
}
