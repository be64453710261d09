//! Which lines are one stack trace: a state machine over the lines of one stream.
//!
//! [`start`] says whether a line may begin a trace, [`next`] whether a line goes on with one. Both look
//! at a line by itself and at a [`State`]; the text is kept by `process::gather`.
//!
//! Invariants:
//! - A line that neither can begin nor can continue a trace costs a look at its first bytes and, when
//!   its level is not known, one vectorised search.
//! - What may belong to a trace but also may not ([`Verdict::Perhaps`]) belongs to it only when a line
//!   that surely does follows soon.
//! - When in doubt a trace ends: two records of one trace are better than two events in one record.
//!
//! Pure, without allocation.

mod frames;
mod go;
mod python;
mod rust;
mod text;

use std::sync::LazyLock;

use aho_corasick::packed;
use taffrail_model::Level;

use text::{indented, looks_like_record, starts_with_any};

/// The languages whose traces are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Languages(u16);

/// Their names in the annotation, each with what it stands for.
const NAMES: [(&str, Languages); 12] = [
    ("java", Languages::JAVA),
    ("kotlin", Languages::JAVA),
    ("scala", Languages::JAVA),
    ("dotnet", Languages::DOTNET),
    ("node", Languages::NODE),
    ("javascript", Languages::NODE),
    ("python", Languages::PYTHON),
    ("go", Languages::GO),
    ("ruby", Languages::RUBY),
    ("rust", Languages::RUST),
    ("php", Languages::PHP),
    ("dart", Languages::DART),
];

impl Languages {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// All of them.
    pub const ALL: Self = Self(0x1FF);
    const JAVA: Self = Self(1);
    const DOTNET: Self = Self(1 << 1);
    const NODE: Self = Self(1 << 2);
    const PYTHON: Self = Self(1 << 3);
    const GO: Self = Self(1 << 4);
    const RUBY: Self = Self(1 << 5);
    const RUST: Self = Self(1 << 6);
    const PHP: Self = Self(1 << 7);
    const DART: Self = Self(1 << 8);
    /// Those whose traces are an exception and frames below it.
    const FRAMES: Self = Self(1 | 1 << 1 | 1 << 2 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8);

    /// The language of a name in the annotation.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, language)| *language)
    }

    /// The names that can be given.
    #[must_use]
    pub fn names() -> Vec<&'static str> {
        NAMES.iter().map(|(name, _)| *name).collect()
    }

    /// Both sets.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn any(self, of: Self) -> bool {
        self.0 & of.0 != 0
    }
}

/// Where in a trace a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// After a line of a log that a trace may follow.
    Header,
    /// After node's place of an uncaught error, before the error.
    Source,
    /// After the line that names an exception; its message may go on.
    Head,
    /// Among frames.
    Frames,
    /// After an empty line behind frames.
    FramesBlank,
    /// Among the properties that node prints behind the frames.
    Props,
    /// Among the numbered causes of an error of Rust.
    Causes,
    /// Among the frames of Python.
    PyFrames,
    /// After the exception of Python.
    PyRaised,
    /// After an empty line behind it.
    PyBlank,
    /// Between two chained exceptions of Python.
    PyChain,
    /// After the panic of a Go program.
    GoHead,
    /// In the stack of a goroutine.
    GoFrames,
    /// Between two goroutines.
    GoBlank,
    /// After Rust's `panicked at`, before the message.
    RustHead,
    /// After the message.
    RustMessage,
    /// In the backtrace.
    RustFrames,
    /// After the notes.
    RustNotes,
    /// After the first line of .NET's console logger: the message stands below, indented.
    DotnetLog,
    /// Inside a private key.
    Key,
    /// A record of a pattern of the user's: everything belongs to it.
    Custom,
    /// The last line has come.
    Done,
}

impl State {
    /// Whether it is more likely than not that nothing follows: it should not be waited for long.
    #[must_use]
    pub fn is_guess(self) -> bool {
        matches!(self, Self::Header | Self::Head | Self::Source)
    }
}

/// What a line is to an open trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It belongs to the trace, and so does what was doubtful before it.
    Joins(State),
    /// It belongs to the trace if a line that surely does comes soon.
    Perhaps(State),
    /// It does not belong to it.
    Ends,
}

/// Words that make a line without a level a possible head of a trace.
static MENTIONS: LazyLock<packed::Searcher> = LazyLock::new(|| {
    packed::Searcher::new(["Exception", "panic", "Throwable", "Error:"]).expect("few short words")
});

/// The state after a line that may begin a trace.
#[must_use]
pub fn start(line: &[u8], level: Level, languages: Languages) -> Option<State> {
    // JSON holds its traces in one line.
    if *line.first()? == b'{' {
        return None;
    }
    if text::begins_key(line) {
        return Some(State::Key);
    }
    if indented(line) {
        return orphan(line, languages);
    }
    if languages == Languages::NONE {
        return None;
    }
    if let Some(state) = opening(line, languages) {
        return Some(state);
    }
    (level >= Level::Warn || MENTIONS.find(line).is_some()).then_some(State::Header)
}

/// Whether a line begins a private key: that is kept together wherever secrets are taken out.
#[must_use]
pub fn start_key(line: &[u8]) -> Option<State> {
    text::begins_key(line).then_some(State::Key)
}

/// Frames whose head is in an earlier record.
fn orphan(line: &[u8], languages: Languages) -> Option<State> {
    if languages.any(Languages::FRAMES) && frames::is_at(line) {
        return Some(State::Frames);
    }
    if languages.any(Languages::PYTHON) && python::is_frame(line) {
        return Some(State::PyFrames);
    }
    // Exception groups of Python are indented as a whole.
    (languages.any(Languages::PYTHON) && line.ends_with(python::TRACEBACK))
        .then_some(State::PyFrames)
}

/// Lines that only traces begin with.
fn opening(line: &[u8], languages: Languages) -> Option<State> {
    let python = languages.any(Languages::PYTHON.with(Languages::RUBY));
    if python && line.starts_with(python::TRACEBACK) {
        return Some(State::PyFrames);
    }
    if languages.any(Languages::GO)
        && let Some(state) = go::opening(line)
    {
        return Some(state);
    }
    if languages.any(Languages::RUST) && rust::is_panic(line) {
        return Some(rust::after_panic(line));
    }
    if languages.any(Languages::DOTNET) && text::is_console_log(line) {
        return Some(State::DotnetLog);
    }
    if !languages.any(Languages::FRAMES) {
        return None;
    }
    if languages.any(Languages::NODE) && text::is_node_source(line) {
        return Some(State::Source);
    }
    // Dart names the exception in the line below.
    if line == b"Unhandled exception:" {
        return Some(State::Header);
    }
    frames::is_head(line).then_some(State::Head)
}

/// What `line` is after `state`.
#[must_use]
pub fn next(state: State, line: &[u8], level: Level, languages: Languages) -> Verdict {
    match state {
        State::Header => after_header(line, languages),
        State::Source => after_source(line, level),
        State::Head => frames::after_head(line, level, languages),
        State::Frames => frames::among(line),
        State::FramesBlank => frames::after_blank(line),
        State::Props => frames::props(line),
        State::PyFrames => python::frames(line),
        State::PyRaised => python::raised(line),
        State::PyBlank => python::blank(line),
        State::PyChain => python::chain(line),
        State::GoHead => go::head(line, level),
        State::GoFrames => go::frames(line),
        State::GoBlank => go::blank(line),
        State::Causes => rust::causes(line),
        State::RustHead => rust::head(line),
        State::RustMessage => rust::message(line, level),
        State::RustFrames => rust::frames(line),
        State::RustNotes => rust::notes(line),
        State::DotnetLog => joins_if(line.starts_with(b"      "), state),
        State::Key => text::key(line),
        State::Custom => Verdict::Joins(state),
        State::Done => Verdict::Ends,
    }
}

fn joins_if(yes: bool, state: State) -> Verdict {
    if yes { Verdict::Joins(state) } else { Verdict::Ends }
}

/// A line of a log that says that something went wrong: the trace may stand below.
fn after_header(line: &[u8], languages: Languages) -> Verdict {
    if languages.any(Languages::FRAMES) {
        if frames::is_frame(line) || frames::is_list_head(line) {
            return Verdict::Joins(State::Frames);
        }
        if frames::is_cause(line) {
            return Verdict::Joins(State::Head);
        }
        if frames::is_head(line.trim_ascii_start()) {
            return Verdict::Perhaps(State::Head);
        }
    }
    if languages.any(Languages::PYTHON) && line.starts_with(python::TRACEBACK) {
        return Verdict::Joins(State::PyFrames);
    }
    joins_if(languages.any(Languages::GO) && go::is_goroutine(line), State::GoFrames)
}

/// Node prints the place, the line, a caret and an empty line before the error.
fn after_source(line: &[u8], level: Level) -> Verdict {
    if frames::is_head(line) || starts_with_any(line, &[b"Uncaught ", b"Thrown at:"]) {
        return Verdict::Joins(State::Head);
    }
    let other = !indented(line) && !line.is_empty() && looks_like_record(line, level);
    if other { Verdict::Ends } else { Verdict::Perhaps(State::Source) }
}

#[cfg(test)]
pub(crate) mod tests;
