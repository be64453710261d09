//! Stored lines of a range of time, asked for in pages, so that an answer may be longer than what
//! the server gives at once.
//!
//! A page begins at the time where the one before it ended; lines of that very time come again and
//! are left out, so each line is given once.

use std::collections::HashMap;

use taffrail_model::{Nanos, TimeRange};
use xxhash_rust::xxh3::xxh3_128;

use super::Error;
use super::row::{Event, Row, parse};
use super::screen::{Screen, complain};
use super::server::{Lines, Server};

/// Lines asked for at once: below the server's limit of 5,000, with room for those that come again.
const PAGE_LINES: usize = 4000;

/// What is asked.
#[derive(Clone, Debug)]
pub(super) struct History<'a> {
    /// LogQL.
    pub(super) query: &'a str,
    /// Time of the lines.
    pub(super) range: TimeRange,
    /// Most lines.
    pub(super) limit: usize,
    /// Oldest first.
    pub(super) forward: bool,
}

impl History<'_> {
    /// Gives each line to `each`. Says whether there was one.
    pub(super) async fn each(
        &self,
        server: &Server,
        screen: &mut Screen,
        mut each: impl FnMut(Row, &mut Screen) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        let mut given = 0;
        let mut range = self.range;
        let mut edge = Edge::default();
        while given < self.limit {
            let again = edge.begin();
            let wanted = PAGE_LINES.min(self.limit - given) + again;
            let lines = self.page(server, range, wanted).await?;
            let mut received = 0;
            each_row(lines, screen, |row, screen| {
                received += 1;
                if !edge.is_new(&row) {
                    return Ok(());
                }
                given += 1;
                each(row, screen)
            })
            .await?;
            if received < wanted {
                break;
            }
            match self.forward {
                true => range.start = edge.ts,
                false => range.end = edge.ts.saturating_add(1),
            }
        }
        Ok(given > 0)
    }

    async fn page(&self, server: &Server, range: TimeRange, limit: usize) -> Result<Lines, Error> {
        let direction = if self.forward { "forward" } else { "backward" };
        let parameters = [
            ("query", self.query.to_owned()),
            ("start", range.start.to_string()),
            ("end", range.end.to_string()),
            ("limit", limit.to_string()),
            ("direction", direction.to_owned()),
        ];
        server.lines("/api/v1/logs/query", &parameters).await
    }
}

/// The lines of the last time that was given: those come again at the beginning of the next page.
#[derive(Debug, Default)]
struct Edge {
    ts: Nanos,
    lines: HashMap<u128, u32>,
    /// Of them, how often each may still come again.
    expected: HashMap<u128, u32>,
}

impl Edge {
    /// A page begins. Returns how many lines will come again.
    fn begin(&mut self) -> usize {
        self.expected.clone_from(&self.lines);
        self.lines.values().map(|count| *count as usize).sum()
    }

    fn is_new(&mut self, row: &Row) -> bool {
        let hash = xxh3_128(row.source.as_bytes());
        if let Some(left) = self.expected.get_mut(&hash).filter(|left| **left > 0) {
            *left -= 1;
            return false;
        }
        if row.ts != self.ts {
            self.ts = row.ts;
            self.lines.clear();
        }
        *self.lines.entry(hash).or_default() += 1;
        true
    }
}

/// Gives each row of an answer to `each` as it comes; what is written is flushed before waiting for
/// more.
pub(super) async fn each_row(
    mut lines: Lines,
    screen: &mut Screen,
    mut each: impl FnMut(Row, &mut Screen) -> Result<(), Error>,
) -> Result<(), Error> {
    loop {
        while let Some(line) = lines.ready() {
            match parse(line)? {
                Some(Event::Row(row)) => each(row, screen)?,
                Some(Event::Lagged(count)) => complain(&format!(
                    "taffrail: this terminal is too slow: {count} batches of lines were left out"
                )),
                None => {}
            }
        }
        screen.flush()?;
        if !lines.more().await? {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fake::{self, Written};
    use crate::cli::screen::Format;
    use axum::extract::Query;
    use axum::routing::get;
    use proptest::prelude::*;

    /// What the server is asked.
    type Asked = Query<HashMap<String, String>>;

    /// A store of lines with these times; line `n` is at `times[n]`.
    async fn store(times: Vec<i64>) -> Server {
        let answer = move |Query(asked): Asked| {
            let number = |name: &str| asked[name].parse::<i64>().unwrap();
            let range = TimeRange::new(number("start"), number("end"));
            let mut rows: Vec<(i64, usize)> = times
                .iter()
                .zip(0..)
                .filter(|(ts, _)| range.contains(**ts))
                .map(|(t, n)| (*t, n))
                .collect();
            rows.sort_unstable();
            if asked["direction"] == "backward" {
                rows.reverse();
            }
            let limit = usize::try_from(number("limit")).unwrap();
            assert!(limit <= 5000, "as the server would say");
            let lines: Vec<String> = rows
                .into_iter()
                .take(limit)
                // Every third line has a twin, word for word.
                .map(|(ts, n)| {
                    format!("{{\"ts\":\"{ts}\",\"line\":\"{}\"}}\n", n - usize::from(n % 3 == 1))
                })
                .collect();
            std::future::ready(lines.concat())
        };
        fake::serve(axum::Router::new().route("/api/v1/logs/query", get(answer))).await
    }

    async fn read(times: Vec<i64>, limit: usize, forward: bool) -> Vec<(i64, String)> {
        let server = store(times).await;
        let history = History { query: "{}", range: TimeRange::new(0, 1_000_000), limit, forward };
        let mut screen = Written::default().screen(Format::Raw, false);
        let mut seen = Vec::new();
        let each = |row: Row, _: &mut Screen| {
            seen.push((row.ts, row.source));
            Ok(())
        };
        let found = history.each(&server, &mut screen, each).await.unwrap();
        assert_eq!(found, !seen.is_empty());
        seen
    }

    #[tokio::test]
    async fn long_answers_come_in_pages_without_a_line_twice_or_missing() {
        // Up to nine lines share a time, so that pages end in the middle of one.
        let times: Vec<i64> = (0..10_000).map(|n| n / 9).collect();
        for forward in [true, false] {
            for limit in [0, 1, 3999, 4000, 4001, 9999, 10_000, 20_000] {
                let seen = read(times.clone(), limit, forward).await;
                assert_eq!(seen.len(), limit.min(10_000), "{forward} {limit}");
                assert!(seen.is_sorted_by(|a, b| if forward { a.0 <= b.0 } else { a.0 >= b.0 }));
                let mut lines: Vec<&String> = seen.iter().map(|(_, line)| line).collect();
                lines.sort_unstable();
                lines.dedup();
                // All but the twins differ; a limit may cut a pair of twins apart.
                let twins = seen.len() - lines.len();
                assert!((limit.min(10_000) / 3).abs_diff(twins) <= 2, "{limit}: {twins}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn the_edge_gives_each_line_once(times in proptest::collection::vec(0_i64..6, 0..40), page in 1_usize..6) {
            // The same walk as `each`, over a list instead of a server.
            let row = |ts: i64, n: usize| {
                let text = format!("{{\"ts\":\"{ts}\",\"line\":\"{}\"}}", n / 2);
                match parse(text.into_bytes()) {
                    Ok(Some(Event::Row(row))) => row,
                    other => panic!("{other:?}"),
                }
            };
            let mut all: Vec<(i64, usize)> = times.iter().copied().zip(0..).collect();
            all.sort_unstable();
            let (mut edge, mut start, mut given) = (Edge::default(), 0, Vec::<(i64, usize)>::new());
            loop {
                let wanted = page + edge.begin();
                let from = all.iter().filter(|(ts, _)| *ts >= start);
                let got: Vec<&(i64, usize)> = from.take(wanted).collect();
                given.extend(got.iter().filter(|(ts, n)| edge.is_new(&row(*ts, *n))).copied());
                if got.len() < wanted {
                    break;
                }
                start = edge.ts;
            }
            prop_assert_eq!(given.len(), all.len());
        }
    }
}
