//! Reads one line of a container's log file: the CRI format, or docker's JSON.
//!
//! A CRI runtime writes `<time> <stdout|stderr> <tags> <text>`, where tags are joined by `:` and the
//! first is `F` (the line ends here) or `P` (it goes on in the next piece of the same stream).
//! Docker writes one JSON object a line, `{"log":"text\n","stream":"stdout","time":"…"}`; a `log`
//! without its newline goes on in the next.
//!
//! Invariant: a line is either understood whole or not at all; there is no error. What is not
//! understood is kept as text by `tail::join`.
//!
//! Pure: no I/O and no clock.

use std::borrow::Cow;

use serde::Deserialize;
use taffrail_model::Nanos;

use super::LogStream;
use super::timestamp;

/// One piece of a container's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// When the runtime wrote it.
    pub ts: Nanos,
    /// Which of the container's outputs.
    pub stream: LogStream,
    /// Whether the line goes on in the next piece of this stream.
    pub partial: bool,
    /// The text.
    pub text: Cow<'a, [u8]>,
}

/// Reads a line in either format, told apart by the first byte. `None` when it is neither.
#[must_use]
pub fn parse(raw: &[u8]) -> Option<Piece<'_>> {
    if raw.first() == Some(&b'{') { parse_docker(raw) } else { parse_cri(raw) }
}

fn parse_cri(raw: &[u8]) -> Option<Piece<'_>> {
    let (time, rest) = word(raw)?;
    // The stream is checked first: it is cheap and settles most lines that are not CRI.
    let stream = match rest.get(..7)? {
        b"stdout " => LogStream::Stdout,
        b"stderr " => LogStream::Stderr,
        _ => return None,
    };
    let rest = &rest[7..];
    let (tags, text) = word(rest).unwrap_or((rest, b""));
    let partial = match tags {
        b"F" => false,
        b"P" => true,
        [b'F', b':', ..] => false,
        [b'P', b':', ..] => true,
        _ => return None,
    };
    Some(Piece { ts: timestamp::parse(time)?, stream, partial, text: Cow::Borrowed(text) })
}

/// The bytes before the first space, and those after it.
fn word(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = memchr::memchr(b' ', bytes)?;
    Some((&bytes[..space], &bytes[space + 1..]))
}

#[derive(Deserialize)]
struct DockerLine<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

fn parse_docker(raw: &[u8]) -> Option<Piece<'_>> {
    let line: DockerLine<'_> = serde_json::from_slice(raw).ok()?;
    let stream = match &*line.stream {
        "stderr" => LogStream::Stderr,
        "stdout" | "" => LogStream::Stdout,
        _ => return None,
    };
    let ts = timestamp::parse(line.time.as_bytes())?;
    let partial = !line.log.ends_with('\n');
    let text = match line.log {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(mut text) => {
            if !partial {
                text.pop();
            }
            Cow::Owned(text.into_bytes())
        }
    };
    Some(Piece { ts, stream, partial, text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIME: &str = "2026-11-20T14:51:32.000000001Z";
    const NANOS: Nanos = 1_795_186_292_000_000_001;

    fn check(raw: &str, expected: Option<(LogStream, bool, &str)>) {
        let found = parse(raw.as_bytes());
        let expected = expected.map(|(stream, partial, text)| Piece {
            ts: NANOS,
            stream,
            partial,
            text: Cow::Borrowed(text.as_bytes()),
        });
        assert_eq!(found, expected, "{raw}");
    }

    #[test]
    fn cri() {
        use LogStream::{Stderr, Stdout};
        let cases = [
            ("stdout F hello world", Some((Stdout, false, "hello world"))),
            ("stderr P piece", Some((Stderr, true, "piece"))),
            ("stdout F ", Some((Stdout, false, ""))),
            ("stdout F", Some((Stdout, false, ""))),
            ("stdout F:x  two spaces", Some((Stdout, false, " two spaces"))),
            ("stdout P:y:z t", Some((Stdout, true, "t"))),
            ("stdout G t", None),
            ("stdin F t", None),
            ("stdout 2026-11-20T14:51:33Z stdout F t", None),
            ("", None),
        ];
        for (rest, expected) in cases {
            check(&format!("{TIME} {rest}"), expected);
        }
        for raw in ["", " ", "plain text", "x stdout F t", "Traceback (most recent call last):"] {
            check(raw, None);
        }
    }

    #[test]
    fn docker() {
        use LogStream::{Stderr, Stdout};
        let cases = [
            (r#"{"log":"hi\n","stream":"stderr","time":"T"}"#, Some((Stderr, false, "hi"))),
            (r#"{"log":"part","stream":"stdout","time":"T"}"#, Some((Stdout, true, "part"))),
            (r#"{"log":"é\u0000\"\n","time":"T","attrs":{"a":1}}"#, Some((Stdout, false, "é\0\""))),
            (r#"{"log":"x\n","stream":"stdout"}"#, None),
            (r#"{"log":"x\n","stream":"other","time":"T"}"#, None),
            (r#"{"level":"info"}"#, None),
            ("{", None),
        ];
        for (raw, expected) in cases {
            check(&raw.replace("\"T\"", &format!("\"{TIME}\"")), expected);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_text_survives_docker(text in "\\PC{0,40}") {
            let line = serde_json::json!({"log": format!("{text}\n"), "stream": "stdout", "time": TIME});
            let line = line.to_string();
            prop_assert_eq!(&*parse(line.as_bytes()).unwrap().text, text.as_bytes());
        }

        #[test]
        fn any_text_survives_cri(text in proptest::collection::vec(any::<u8>(), 0..40)) {
            let line = [TIME.as_bytes(), b" stderr P ", &text].concat();
            prop_assert_eq!(&*parse(&line).unwrap().text, &text[..]);
        }
    }
}
