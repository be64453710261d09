//! JSON application logs: nested, with trace and span ids and UUIDs of orders.

use super::{Line, Voice};

const EVENTS: [(&str, &str); 8] = [
    ("checkout.orders", "order accepted"),
    ("checkout.payment", "payment authorised"),
    ("http.server", "request completed"),
    ("checkout.stock", "stock reserved"),
    ("cache", "cache refreshed"),
    ("checkout.mail", "confirmation queued"),
    ("auth.session", "session renewed"),
    ("checkout.pricing", "discount applied"),
];
const FAILURES: [(&str, &str); 4] = [
    ("checkout.payment", "payment declined by issuer"),
    ("http.client", "upstream request failed"),
    ("db.pool", "connection acquire timed out"),
    ("checkout.stock", "stock reservation conflict"),
];
const ERRORS: [&str; 4] = [
    "context deadline exceeded",
    "dial tcp 10.42.3.17:5432: connect: connection refused",
    "card_declined: insufficient_funds",
    "could not serialize access due to concurrent update",
];

pub(super) fn write(line: &mut Line<'_>, voice: &Voice) {
    let failed = line.random.chance(voice.errors_per_mille);
    let (logger, message) = if failed {
        FAILURES[line.random.skewed(4) as usize]
    } else {
        EVENTS[line.random.skewed(8) as usize]
    };
    let level = match failed {
        true => "error",
        false => line.random.pick_skewed(&["info", "info", "info", "debug", "warn"]),
    };
    line.text("{\"ts\":\"").time_iso().text("\",\"level\":\"").text(level);
    line.text("\",\"logger\":\"").text(logger).text("\",\"msg\":\"").text(message);
    line.text("\",\"trace_id\":\"").hex128().text("\",\"span_id\":\"").hex(16).text("\"");
    details(line);
    if failed {
        line.text(",\"error\":{\"message\":\"").pick(&ERRORS).text("\",\"retries\":");
        let retries = line.random.below(4);
        line.number(retries).text("}");
    }
    let tenths = line.random.long_tailed(130);
    line.text(",\"duration_ms\":").number(tenths / 10).text(".").number(tenths % 10).text("}");
}

fn details(line: &mut Line<'_>) {
    let (user, items, cents) =
        (line.random.skewed(50_000), line.random.skewed(12), line.random.long_tailed(6900));
    line.text(",\"user_id\":").number(100_000 + user);
    if line.random.chance(600) {
        line.text(",\"order\":{\"id\":\"").uuid().text("\",\"items\":").number(1 + items);
        line.text(",\"total\":{\"amount\":\"").hundredths(cents).text("\",\"currency\":\"");
        line.pick(&["EUR", "USD", "GBP"]).text("\"}}");
    } else {
        line.text(",\"http\":{\"method\":\"").pick(&["GET", "POST", "PUT"]).text("\",\"route\":\"");
        line.pick(&["/orders/{id}", "/carts/{id}/items", "/prices", "/healthz"]);
        line.text("\",\"remote\":\"").pod_address().text("\"}");
    }
}
