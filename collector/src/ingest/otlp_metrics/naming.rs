//! Names of OpenTelemetry metrics and attributes as Prometheus knows them.
//!
//! The rules are those of the OpenTelemetry specification's page on compatibility with Prometheus:
//! what a name may not contain becomes `_`, the unit follows the name in words, a counter ends in
//! `_total`, a gauge without dimension in `_ratio`.

/// Units of the UCUM table that the specification gives words for.
const UNITS: [(&str, &str); 28] = [
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("B", "bytes"),
    ("KB", "kilobytes"),
    ("MB", "megabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("%", "percent"),
];

/// Units after a slash.
const PER_UNITS: [(&str, &str); 7] = [
    ("s", "second"),
    ("m", "minute"),
    ("h", "hour"),
    ("d", "day"),
    ("w", "week"),
    ("mo", "month"),
    ("y", "year"),
];

/// What a metric is, as far as its name shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Counter,
    Gauge,
    Other,
}

/// The Prometheus name of a metric; empty when nothing of the name is left.
pub(super) fn metric_name(name: &str, unit: &str, shape: Shape) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == ':';
    let mut words: Vec<&str> = name.split(|c| !allowed(c)).filter(|w| !w.is_empty()).collect();
    if words.is_empty() {
        return String::new();
    }
    let (main, per) = unit_words(unit);
    if shape == Shape::Counter {
        words.retain(|word| *word != "total");
    }
    let ratio = shape == Shape::Gauge && unit.trim() == "1";
    if ratio {
        words.retain(|word| *word != "ratio");
    }
    for word in main.split('_').filter(|w| !w.is_empty()) {
        if !words.contains(&word) {
            words.push(word);
        }
    }
    if !per.is_empty() && !words.contains(&per.as_str()) {
        words.extend(["per", per.as_str()]);
    }
    if shape == Shape::Counter {
        words.push("total");
    }
    if ratio {
        words.push("ratio");
    }
    let joined = words.join("_");
    if joined.starts_with(|c: char| c.is_ascii_digit()) { format!("_{joined}") } else { joined }
}

/// The unit before and after the slash, in words. What stands in braces is a note, not a unit.
fn unit_words(unit: &str) -> (String, String) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let words = |part: &str, table: &[(&str, &str)]| {
        let part = part.trim();
        if part.contains(['{', '}']) || part == "1" {
            return String::new();
        }
        let known = table.iter().find(|(short, _)| *short == part);
        known.map_or_else(|| unit_as_it_is(part), |(_, word)| (*word).to_owned())
    };
    (words(main, &UNITS), words(per, &PER_UNITS))
}

fn unit_as_it_is(part: &str) -> String {
    let words: Vec<&str> =
        part.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).collect();
    words.join("_")
}

/// The Prometheus name of an attribute.
pub(super) fn label_name(key: &str) -> String {
    let name: String =
        key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("key_{name}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use taffrail_model::labels::is_valid_name;

    #[test]
    fn metric_names() {
        use Shape::{Counter, Gauge, Other};
        let cases = [
            ("http.server.request.duration", "s", Other, "http_server_request_duration_seconds"),
            ("http.requests", "{request}", Counter, "http_requests_total"),
            ("http.requests.total", "", Counter, "http_requests_total"),
            ("system.memory.usage", "By", Gauge, "system_memory_usage_bytes"),
            ("memory_bytes", "By", Gauge, "memory_bytes"),
            ("cpu.utilization", "1", Gauge, "cpu_utilization_ratio"),
            ("cpu.utilization", "1", Counter, "cpu_utilization_total"),
            ("net.speed", "By/s", Gauge, "net_speed_bytes_per_second"),
            ("load", "%", Gauge, "load_percent"),
            ("2xx", "", Gauge, "_2xx"),
            ("a..b__c", "", Gauge, "a_b_c"),
            ("job:rate", "", Gauge, "job:rate"),
            ("x", "foo bar", Gauge, "x_foo_bar"),
            ("...", "s", Gauge, ""),
        ];
        for (name, unit, shape, expected) in cases {
            assert_eq!(metric_name(name, unit, shape), expected, "{name} {unit}");
        }
    }

    #[test]
    fn label_names() {
        let cases = [("http.method", "http_method"), ("1st", "key_1st"), ("grün", "gr_n")];
        for (key, expected) in cases {
            assert_eq!(label_name(key), expected);
        }
    }

    proptest! {
        #[test]
        fn names_are_always_valid(name in ".{0,20}", unit in ".{0,8}") {
            for shape in [Shape::Counter, Shape::Gauge, Shape::Other] {
                let metric = metric_name(&name, &unit, shape);
                prop_assert!(metric.is_empty() || is_valid_name(&metric.replace(':', "_")));
            }
            prop_assert!(name.is_empty() || is_valid_name(&label_name(&name)));
        }
    }
}
