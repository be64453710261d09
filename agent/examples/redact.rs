//! What redaction costs: nanoseconds for one line, by preset and by kind of line, as a table in
//! Markdown for `docs/redaction.md`.
//!
//! `cargo run --release -p taffrail-agent --example redact`. The best of many rounds counts: what else
//! the machine does only makes a round slower.

use std::fmt::Write as _;
use std::hint::black_box;
use std::io::Write as _;
use std::time::Instant;

use taffrail_agent::process::redact::{Action, Outcome, Redactor, named};

/// Rounds, and lines in each.
const ROUNDS: usize = 400;
const LINES: u32 = 500;

/// Lines as programs write them; only the access log holds what a preset finds.
const KINDS: [(&str, &str); 4] = [
    (
        "plain text",
        "Reconciled the deployment shop-web in 31 ms: three replicas were ready, none had to be moved, \
         the volume claims were bound before and nothing else was waiting in the queue of the controller",
    ),
    (
        "JSON",
        r#"{"time":"2026-11-20T14:51:32.120Z","level":"info","logger":"http.access","msg":"request done","method":"GET","path":"/api/v1/orders/81237","status":200,"duration_ms":12.7,"bytes":5231,"worker":"web-3"}"#,
    ),
    (
        "access log",
        r#"10.42.0.17 - - [20/Nov/2026:14:51:32 +0000] "GET /api/v1/orders/81237 HTTP/1.1" 200 5231 "-" "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0""#,
    ),
    (
        "log4j",
        "2026-11-20 14:51:32,120 INFO  [http-nio-8080-exec-7] org.example.shop.OrderService - order \
         81237 was taken in 12 ms, 3 positions, total 149.90 EUR, next step is payment",
    ),
];

fn main() -> std::io::Result<()> {
    let mut table = String::from("|");
    for (name, line) in KINDS {
        let _infallible = write!(table, " | {name}, {} bytes", line.len());
    }
    table.push_str(" |\n|---|---|---|---|---|\n");
    for presets in [&["secrets"][..], &["pci"], &["healthcare"], &["secrets", "pci", "healthcare"]]
    {
        let detectors = presets.iter().filter_map(|preset| named(preset)).flatten();
        let wanted: Vec<_> = detectors.map(|detector| (detector, Action::Mask)).collect();
        let redactor = Redactor::new(wanted, Vec::new(), None);
        let _infallible = write!(table, "| {}", presets.join(", "));
        for (_, line) in KINDS {
            let (nanos, finds) = cost(&redactor, line.as_bytes());
            let remark = if finds { " (finds an address)" } else { "" };
            let _infallible = write!(table, " | {nanos}{remark}");
        }
        table.push_str(" |\n");
    }
    std::io::stdout().write_all(table.as_bytes())
}

/// Nanoseconds for one line, and whether something is found in it.
fn cost(redactor: &Redactor, line: &[u8]) -> (u128, bool) {
    let mut out = Vec::new();
    let mut best = u128::MAX;
    for _round in 0..ROUNDS {
        let began = Instant::now();
        for _line in 0..LINES {
            black_box(redactor.apply(black_box(line), &mut out));
        }
        best = best.min(began.elapsed().as_nanos() / u128::from(LINES));
    }
    (best, redactor.apply(line, &mut out) != Outcome::Clean)
}
