//! Traces of Python: frames first, the exception last, perhaps a chain of them.

use super::text::{indented, name, starts_with_any};
use super::{State, Verdict, joins_if};

/// The first line.
pub(super) const TRACEBACK: &[u8] = b"Traceback (most recent call last):";

/// `  File "app.py", line 3, in main`.
pub(super) fn is_frame(line: &[u8]) -> bool {
    line.starts_with(b"  File \"") && memchr::memmem::find(line, b", line ").is_some()
}

pub(super) fn frames(line: &[u8]) -> Verdict {
    if indented(line) {
        return Verdict::Joins(State::PyFrames);
    }
    let name = name(line);
    let rest = &line[name.len()..];
    // Ruby's reversed traces end with a place: `app.rb:1:in 'foo': boom (RuntimeError)`.
    let place = name.ends_with(b".rb") && rest.starts_with(b":");
    let raised = rest.is_empty() || rest.starts_with(b": ") || rest == b":";
    joins_if(place || (raised && is_class(name)), State::PyRaised)
}

/// `ValueError`, `app.errors.Trouble`; not `served`, nor `INFO`.
fn is_class(name: &[u8]) -> bool {
    let last = memchr::memrchr(b'.', name).map_or(name, |dot| &name[dot + 1..]);
    last.first().is_some_and(u8::is_ascii_uppercase) && last.iter().any(u8::is_ascii_lowercase)
}

/// Behind the exception: more of its message, or a chain.
pub(super) fn raised(line: &[u8]) -> Verdict {
    if line.is_empty() {
        return Verdict::Perhaps(State::PyBlank);
    }
    if is_link(line) {
        return Verdict::Joins(State::PyChain);
    }
    joins_if(indented(line), State::PyRaised)
}

pub(super) fn blank(line: &[u8]) -> Verdict {
    joins_if(is_link(line), State::PyChain)
}

pub(super) fn chain(line: &[u8]) -> Verdict {
    if line.is_empty() {
        return Verdict::Perhaps(State::PyChain);
    }
    joins_if(line.starts_with(TRACEBACK), State::PyFrames)
}

fn is_link(line: &[u8]) -> bool {
    starts_with_any(
        line,
        &[b"During handling of the above exception", b"The above exception was the direct cause"],
    )
}
