//! The time of the day. The only file that asks the system for it; a lint keeps it so.
//!
//! Waiting and measuring durations use tokio's and std's monotonic clocks, which a step of the wall
//! clock does not touch.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since the Unix epoch, now.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place that asks")]
pub fn unix_nanos() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    // A clock before 1970 or after 2262 is broken; the nearest end keeps arithmetic sane.
    since.map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}

/// Milliseconds since the Unix epoch, now.
#[must_use]
pub fn unix_millis() -> i64 {
    unix_nanos() / 1_000_000
}
