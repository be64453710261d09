//! Small questions about one line that several languages ask.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use taffrail_model::Level;

use super::{State, Verdict};

/// Whether the line begins with a space or a tab.
pub(super) fn indented(line: &[u8]) -> bool {
    matches!(line.first(), Some(b' ' | b'\t'))
}

pub(super) fn starts_with_any(line: &[u8], heads: &[&[u8]]) -> bool {
    heads.iter().any(|head| line.starts_with(head))
}

/// Whether the line rather begins something new than goes on with a message: a time, a bracket, an
/// object, a level.
pub(super) fn looks_like_record(line: &[u8], level: Level) -> bool {
    match line.first() {
        Some(b'[' | b'{' | b'<' | b'0'..=b'9') => true,
        Some(_) => level != Level::Unknown,
        None => false,
    }
}

/// `12: ` after the spaces.
pub(super) fn is_numbered(line: &[u8]) -> bool {
    let digits = line.iter().take_while(|b| b.is_ascii_digit()).count();
    digits > 0 && line.get(digits) == Some(&b':')
}

/// The name at the front, as exceptions are named: `java.lang.Error`, `Foo::BarError`, `TypeError`.
pub(super) fn name(line: &[u8]) -> &[u8] {
    let mut len = 0;
    while let Some(byte) = line.get(len) {
        len += match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'$' => 1,
            b':' if line.get(len + 1) == Some(&b':') => 2,
            // Namespaces of PHP.
            b'\\' if len > 0 => 1,
            _ => break,
        };
    }
    &line[..len]
}

/// `/app/index.js:10`, `node:events:495`, `file:///app/x.mjs:3`: a place in JavaScript, and no more.
pub(super) fn is_node_source(line: &[u8]) -> bool {
    if !matches!(line.first(), Some(b'/' | b'n' | b'f' | b'w' | b'e' | b'C'..=b'E')) {
        return false;
    }
    let Some(colon) = memchr::memrchr(b':', line) else { return false };
    let (path, digits) = (&line[..colon], &line[colon + 1..]);
    let endings: [&[u8]; 4] = [b".js", b".ts", b".mjs", b".cjs"];
    !digits.is_empty()
        && digits.iter().all(u8::is_ascii_digit)
        && !path.contains(&b' ')
        && (path.starts_with(b"node:") || endings.iter().any(|end| path.ends_with(end)))
}

/// `fail: Microsoft.AspNetCore.Server.Kestrel[13]`: the first line of .NET's console logger.
pub(super) fn is_console_log(line: &[u8]) -> bool {
    line.last() == Some(&b']')
        && starts_with_any(
            line,
            &[b"info: ", b"warn: ", b"fail: ", b"crit: ", b"dbug: ", b"trce: "],
        )
}

/// `-----BEGIN RSA PRIVATE KEY-----`, and its like, wherever it stands in a line: the key begins here and
/// does not end here.
pub(super) fn begins_key(line: &[u8]) -> bool {
    static BEGIN: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("-----BEGIN "));
    let Some(at) = BEGIN.find(line) else { return false };
    let head = &line[at..line.len().min(at + 80)];
    memchr::memmem::find(head, b"PRIVATE KEY-----").is_some() && !ends_key(&line[at..])
}

fn ends_key(line: &[u8]) -> bool {
    memchr::memmem::find(line, b"-----END ").is_some()
}

/// Shortest line of base64 that is surely of a key, behind whatever a logger has put before it.
const BASE64_MIN: usize = 40;

/// What is inside of a private key: base64, headers, its end. A line of somebody else may stand between.
pub(super) fn key(line: &[u8]) -> Verdict {
    if ends_key(line) {
        return Verdict::Joins(State::Done);
    }
    let base64 =
        |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b'-' | b'_');
    let around =
        |b: &u8| b.is_ascii_whitespace() || matches!(b, b'"' | b'\'' | b',' | b'\\' | b'|');
    let last = line.len() - line.iter().rev().take_while(|b| around(b)).count();
    let first = line[..last].iter().take_while(|b| around(b)).count();
    let inner = &line[first..last];
    let header = starts_with_any(inner, &[b"Proc-Type:", b"DEK-Info:"]);
    let tail = inner.iter().rev().take_while(|b| base64(b)).count();
    if header || tail == inner.len() || tail >= BASE64_MIN {
        Verdict::Joins(State::Key)
    } else {
        Verdict::Perhaps(State::Key)
    }
}
