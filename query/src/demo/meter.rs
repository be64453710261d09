//! The metrics that a pod of the demo serves: counted requests, a histogram of their durations, and
//! gauges that go up and down, in Prometheus' text format.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use super::random::Random;

/// Upper bounds of the buckets, in seconds.
const BOUNDS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
const METHODS: [&str; 3] = ["GET", "POST", "DELETE"];
const CODES: [&str; 5] = ["200", "201", "404", "429", "500"];
const PATHS: [&str; 4] = ["/api/v1/products", "/api/v1/cart", "/api/v1/orders", "/healthz"];

/// Counts for one pod. Every method locks for a moment only.
#[derive(Debug)]
pub(super) struct Meter {
    started: f64,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    requests: [[[u64; PATHS.len()]; CODES.len()]; METHODS.len()],
    buckets: [u64; BOUNDS.len() + 1],
    seconds: f64,
    queue_depth: f64,
    in_flight: u64,
}

impl Meter {
    /// A meter of a process that started at `started` (Unix seconds).
    pub(super) fn new(started: f64) -> Self {
        Self { started, counts: Mutex::default() }
    }

    /// Counts one request; of a thousand, `errors_per_mille` fail.
    pub(super) fn count(&self, random: &mut Random, errors_per_mille: u32) {
        let failed = random.chance(errors_per_mille);
        let code = if failed { CODES.len() - 1 } else { random.skewed(4) as usize };
        let (method, path) = (random.skewed(3) as usize, random.skewed(4) as usize);
        let typical = if failed { 900 } else { 34 };
        let seconds = f64::from(random.long_tailed(typical)) / 1000.0;
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.requests[method][code][path] += 1;
        counts.buckets[bucket] += 1;
        counts.seconds += seconds;
    }

    /// Sets the gauges.
    pub(super) fn set_load(&self, queue_depth: f64, in_flight: u64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.queue_depth = queue_depth.max(0.0).round();
        counts.in_flight = in_flight;
    }

    /// The page that a scrape gets.
    pub(super) fn page(&self) -> String {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut page = String::with_capacity(4096);
        counts.write(&mut page, self.started).expect("writing to a String does not fail");
        page
    }
}

impl Counts {
    fn write(&self, page: &mut String, started: f64) -> std::fmt::Result {
        head(page, "http_requests_total", "counter", "Requests answered.")?;
        for (method, codes) in METHODS.iter().zip(&self.requests) {
            for (code, paths) in CODES.iter().zip(codes) {
                for (path, count) in PATHS.iter().zip(paths).filter(|(_, count)| **count > 0) {
                    writeln!(
                        page,
                        "http_requests_total{{method=\"{method}\",code=\"{code}\",path=\"{path}\"}} {count}"
                    )?;
                }
            }
        }
        self.write_histogram(page)?;
        head(page, "queue_depth", "gauge", "Jobs that wait for a worker.")?;
        writeln!(page, "queue_depth{{queue=\"orders\"}} {}", self.queue_depth)?;
        head(page, "http_requests_in_flight", "gauge", "Requests being answered.")?;
        writeln!(page, "http_requests_in_flight {}", self.in_flight)?;
        head(page, "process_start_time_seconds", "gauge", "When the process started.")?;
        writeln!(page, "process_start_time_seconds {started}")
    }

    fn write_histogram(&self, page: &mut String) -> std::fmt::Result {
        const NAME: &str = "http_request_duration_seconds";
        head(page, NAME, "histogram", "How long requests took.")?;
        let mut below = 0;
        for (bound, count) in BOUNDS.iter().zip(&self.buckets) {
            below += count;
            writeln!(page, "{NAME}_bucket{{le=\"{bound}\"}} {below}")?;
        }
        below += self.buckets[BOUNDS.len()];
        writeln!(page, "{NAME}_bucket{{le=\"+Inf\"}} {below}")?;
        writeln!(page, "{NAME}_sum {}", self.seconds)?;
        writeln!(page, "{NAME}_count {below}")
    }
}

fn head(page: &mut String, name: &str, kind: &str, help: &str) -> std::fmt::Result {
    writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(page: &str, series: &str) -> f64 {
        let line = page.lines().find(|l| l.starts_with(series)).expect(series);
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    #[test]
    fn the_page_adds_up() {
        let (meter, mut random) = (Meter::new(1_795_186_292.5), Random::new(1));
        for _ in 0..1000 {
            meter.count(&mut random, 100);
        }
        meter.set_load(12.4, 3);
        let page = meter.page();
        let requests: f64 = page
            .lines()
            .filter(|l| l.starts_with("http_requests_total{"))
            .map(|l| value(l, "http_requests_total{"))
            .sum();
        assert_eq!(requests, 1000.0);
        assert_eq!(value(&page, "http_request_duration_seconds_count"), 1000.0);
        assert_eq!(value(&page, "http_request_duration_seconds_bucket{le=\"+Inf\"}"), 1000.0);
        assert_eq!(value(&page, "queue_depth"), 12.0);
        assert_eq!(value(&page, "process_start_time_seconds"), 1_795_186_292.5);
        let failed: f64 = page
            .lines()
            .filter(|l| l.contains("code=\"500\""))
            .map(|l| value(l, "http_requests_total{"))
            .sum();
        assert!((60.0..150.0).contains(&failed), "{failed}");
    }
}
