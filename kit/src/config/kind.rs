//! The kinds of settings, and what their text must look like. Pure.

use super::units;

/// What a setting's text must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// Words separated by commas; in the file a list of them will do.
    List,
    /// Any text, which is never shown again.
    Secret,
    /// A path of a file or folder.
    Path,
    /// `HOST:PORT` with an IP address as host (`:4100` means all addresses).
    Addr,
    /// `http://…` or `https://…`.
    Url,
    /// A size such as `64MiB`, `500kB`, `1024`.
    Bytes,
    /// A duration such as `250ms`, `15s`, `2h`, `7d`.
    Duration,
    /// A whole number.
    Count,
    /// `true` or `false`.
    Bool,
}

impl Kind {
    /// The placeholder of the value in `--help` and in the reference.
    pub(super) fn placeholder(self) -> &'static str {
        match self {
            Self::Text => "TEXT",
            Self::List => "LIST",
            Self::Secret => "SECRET",
            Self::Path => "PATH",
            Self::Addr => "ADDR",
            Self::Url => "URL",
            Self::Bytes => "SIZE",
            Self::Duration => "DURATION",
            Self::Count => "N",
            Self::Bool => "BOOL",
        }
    }
}

/// Whether a text is of a kind; if not, what was expected.
pub(super) fn check_text(kind: Kind, text: &str) -> Result<(), String> {
    let expected = |ok: bool, what: &str| {
        if ok { Ok(()) } else { Err(format!("{text:?} is not {what}")) }
    };
    match kind {
        Kind::Text | Kind::List | Kind::Secret => Ok(()),
        Kind::Path => expected(!text.is_empty(), "a path"),
        Kind::Addr => expected(
            units::addr(text).is_some(),
            "an address; expected IP:PORT, for example 127.0.0.1:4100",
        ),
        Kind::Url => expected(
            text.starts_with("http://") || text.starts_with("https://"),
            "a URL; expected http://HOST:PORT or https://HOST:PORT",
        ),
        Kind::Bytes => expected(
            units::bytes(text).is_some(),
            "a size; expected a number with B, kB, KiB, MB, MiB, GB, GiB, TB or TiB",
        ),
        Kind::Duration => expected(
            units::duration(text).is_some(),
            "a duration; expected a number with ms, s, m, h, d or w, for example 15s",
        ),
        Kind::Count => expected(text.parse::<u64>().is_ok(), "a whole number"),
        Kind::Bool => expected(matches!(text, "true" | "false"), "true or false"),
    }
}
