//! The live feed of `taffrail logs -f`, which goes on after the connection broke or the server was
//! started again.
//!
//! Every line is shown once: after a break the feed is asked again from a little before its last
//! line (lines of different pods do not come in exact order), and what was shown already is left
//! out.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use taffrail_model::Nanos;
use taffrail_model::time::NANOS_PER_SEC;
use xxhash_rust::xxh3::xxh3_128;

use super::Error;
use super::history::each_row;
use super::row::Row;
use super::screen::{Screen, complain};
use super::server::Server;

/// How far back the feed is asked again after a break.
const OVERLAP: Nanos = 10 * NANOS_PER_SEC;
/// Most lines remembered for that; beyond it the overlap is shorter.
const REMEMBERED_MAX: usize = 100_000;
/// First and longest wait before the server is asked again.
const WAIT_FIRST: Duration = Duration::from_millis(250);
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Shows lines from `start` on as they come. Ends only by an error that asking again cannot heal.
pub(super) async fn follow(
    server: &Server,
    query: &str,
    start: Nanos,
    timestamps: bool,
    screen: &mut Screen,
) -> Result<bool, Error> {
    let mut seen = Seen::from(start);
    let mut wait = WAIT_FIRST;
    let mut connected = false;
    loop {
        let shown = seen.count;
        seen.begin();
        let parameters = [("query", query.to_owned()), ("start", seen.start().to_string())];
        let broken = match server.lines("/api/v1/logs/tail", &parameters).await {
            Ok(lines) => {
                connected = true;
                each_row(lines, screen, |row, screen| match seen.is_new(&row) {
                    true => row.show(timestamps, screen),
                    false => Ok(()),
                })
                .await
                .err()
            }
            Err(error) => Some(error),
        };
        let reason = match broken {
            None => "the server has ended it".to_owned(),
            // A server that is not there yet may come back; one that never was is an error.
            Some(error @ (Error::Connection(_) | Error::Unreachable { .. })) if connected => {
                error.to_string().lines().next().unwrap_or_default().to_owned()
            }
            Some(error) => return Err(error),
        };
        if seen.count > shown {
            wait = WAIT_FIRST;
        }
        complain(&format!("taffrail: the live feed broke off ({reason}); asking again"));
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(WAIT_MAX);
    }
}

/// Which lines were shown of late.
#[derive(Debug)]
struct Seen {
    first: Nanos,
    newest: Nanos,
    count: u64,
    recent: VecDeque<(Nanos, u128)>,
    /// Of the lines that were shown on earlier connections, how often each may still come again.
    expected: HashMap<u128, u32>,
}

impl Seen {
    fn from(first: Nanos) -> Self {
        let (recent, expected) = (VecDeque::new(), HashMap::new());
        Self { first, newest: first, count: 0, recent, expected }
    }

    /// From when on the feed is asked.
    fn start(&self) -> Nanos {
        let overlap = self.newest.saturating_sub(OVERLAP).max(self.first);
        if self.recent.len() < REMEMBERED_MAX {
            return overlap;
        }
        // Older lines are forgotten, so they must not be asked for again.
        self.recent.iter().map(|(ts, _)| *ts).min().unwrap_or(self.first).max(overlap)
    }

    /// A new connection begins: all recent lines may come again.
    fn begin(&mut self) {
        let start = self.start();
        self.recent.retain(|(ts, _)| *ts >= start);
        self.expected.clear();
        for (_, hash) in &self.recent {
            *self.expected.entry(*hash).or_default() += 1;
        }
    }

    /// Whether a line was not shown before; it is remembered.
    fn is_new(&mut self, row: &Row) -> bool {
        let hash = xxh3_128(row.source.as_bytes());
        if let Some(left) = self.expected.get_mut(&hash).filter(|left| **left > 0) {
            *left -= 1;
            return false;
        }
        self.newest = self.newest.max(row.ts);
        self.count += 1;
        self.recent.push_back((row.ts, hash));
        while self.recent.len() > REMEMBERED_MAX
            || self.recent.front().is_some_and(|(ts, _)| *ts < self.newest.saturating_sub(OVERLAP))
        {
            self.recent.pop_front();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fake::{self, Written};
    use crate::cli::row::{Event, parse};
    use crate::cli::screen::Format;
    use axum::http::StatusCode;
    use axum::response::IntoResponse;
    use axum::routing::get;
    use proptest::prelude::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn row_text(second: i64, line: &str) -> String {
        let ts = second * NANOS_PER_SEC;
        format!("{{\"ts\":\"{ts}\",\"labels\":{{}},\"line\":\"{line}\"}}\n")
    }

    fn row(second: i64, line: &str) -> Row {
        match parse(row_text(second, line).into_bytes()) {
            Ok(Some(Event::Row(row))) => row,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn goes_on_after_a_break_without_a_line_twice() {
        let asked = Arc::new(AtomicUsize::new(0));
        let answer = move || async move {
            match asked.fetch_add(1, Ordering::Relaxed) {
                0 => (row_text(100, "a") + &row_text(101, "same") + &row_text(101, "same"))
                    .into_response(),
                // From the overlap on: a late line of another pod, what was shown, a third "same".
                1 => (row_text(99, "late")
                    + &row_text(100, "a")
                    + &row_text(101, "same").repeat(3)
                    + &row_text(102, "b"))
                    .into_response(),
                _ => (StatusCode::BAD_REQUEST, "enough").into_response(),
            }
        };
        let server = fake::serve(axum::Router::new().route("/api/v1/logs/tail", get(answer))).await;
        let written = Written::default();
        let mut screen = written.screen(Format::Raw, false);
        let ended = follow(&server, "{}", 90 * NANOS_PER_SEC, false, &mut screen).await;
        assert!(matches!(ended, Err(Error::Refused(text)) if text == "enough"));
        assert_eq!(written.text(), "a\nsame\nsame\nlate\nsame\nb\n");
    }

    #[tokio::test]
    async fn a_server_that_never_was_is_an_error() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server::new(&listener.local_addr().unwrap().to_string()).unwrap();
        drop(listener);
        let mut screen = Written::default().screen(Format::Raw, false);
        let ended = follow(&server, "{}", 0, false, &mut screen).await;
        assert!(matches!(ended, Err(Error::Unreachable { .. })));
    }

    proptest! {
        /// Whatever was shown before a break and comes again is left out, as often as it was shown;
        /// everything else is shown.
        #[test]
        fn each_line_once(
            lines in proptest::collection::vec((0_i64..8, "[ab]"), 0..30),
            cut in 0_usize..30,
        ) {
            let mut seen = Seen::from(0);
            let cut = cut.min(lines.len());
            seen.begin();
            let mut shown: Vec<&(i64, String)> = Vec::new();
            shown.extend(lines[..cut].iter().filter(|(second, line)| seen.is_new(&row(*second, line))));
            prop_assert_eq!(shown.len(), cut);
            seen.begin();
            shown.extend(lines.iter().filter(|(second, line)| seen.is_new(&row(*second, line))));
            let mut all: Vec<&(i64, String)> = lines.iter().collect();
            all.sort();
            shown.sort();
            prop_assert_eq!(shown, all);
        }
    }
}
