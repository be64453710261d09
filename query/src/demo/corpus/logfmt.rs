//! `key=value` lines, as Go services write them.

use super::{Line, Voice};

const MESSAGES: [&str; 7] = [
    "\"item added\"",
    "\"cart loaded\"",
    "\"cache hit\"",
    "\"request handled\"",
    "\"lease renewed\"",
    "\"snapshot written\"",
    "\"peer joined\"",
];
const FAILURES: [&str; 3] =
    ["\"redis: connection pool timeout\"", "\"write failed\"", "\"message rejected\""];

pub(super) fn write(line: &mut Line<'_>, voice: &Voice) {
    let failed = line.random.chance(voice.errors_per_mille);
    let level = match failed {
        true => "error",
        false => line.random.pick_skewed(&["info", "info", "info", "debug", "warn"]),
    };
    line.text("ts=").time_iso().text(" level=").text(level).text(" caller=");
    line.pick(&["cart/handler.go:", "store/redis.go:", "http/server.go:", "ring/lifecycler.go:"]);
    let (at, user, bytes, micros) = (
        line.random.skewed(40),
        line.random.skewed(50_000),
        line.random.long_tailed(2300),
        line.random.long_tailed(4100),
    );
    line.number(21 + at * 7).text(" msg=").pick(if failed { &FAILURES } else { &MESSAGES });
    line.text(" user=").number(100_000 + user).text(" request_id=").hex(16).text(" session=");
    line.hex(8).text(" bytes=").number(bytes).text(" duration=").number(micros / 1000).text(".");
    line.padded(micros % 1000, 3).text("ms");
    if failed {
        line.text(" attempt=").number(1 + at % 5).text(" err=\"i/o timeout\" addr=").pod_address();
        line.text(":6379");
    }
}
