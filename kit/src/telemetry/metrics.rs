//! The registry of a process's own metrics, and its `/metrics` page.
//!
//! Names begin with the program's noun (`taffrail_tail_…`). A registry is handed to whoever counts
//! something; there is no global one.

use prometheus::process_collector::ProcessCollector;
use prometheus::{Encoder, Registry, TextEncoder};

/// Content type of [`render`]'s text (Prometheus text format 0.0.4).
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A registry that already holds `process_*` and `taffrail_build_info{version}`.
#[must_use]
pub fn registry(program: &str) -> Registry {
    let registry = Registry::new();
    let build = prometheus::Gauge::with_opts(
        prometheus::Opts::new("taffrail_build_info", "1, labelled by program and version.")
            .const_label("program", program)
            .const_label("version", env!("CARGO_PKG_VERSION")),
    )
    .expect("the name and labels are valid");
    build.set(1.0);
    registry.register(Box::new(build)).expect("the registry is new");
    registry
        .register(Box::new(ProcessCollector::for_self()))
        .expect("the registry holds no other process collector");
    registry
}

/// The text of `/metrics`.
#[must_use]
pub fn render(registry: &Registry) -> String {
    let mut text = Vec::new();
    match TextEncoder::new().encode(&registry.gather(), &mut text) {
        Ok(()) => String::from_utf8_lossy(&text).into_owned(),
        // Only a family without metrics or a failing writer gets here; neither can be.
        Err(error) => format!("# {error}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_tells_of_the_process_and_of_what_was_registered() {
        let registry = registry("ship");
        let counter = prometheus::IntCounter::new("taffrail_knots_total", "Knots.").expect("valid");
        registry.register(Box::new(counter.clone())).expect("new");
        counter.inc_by(3);
        let page = render(&registry);
        for line in ["taffrail_knots_total 3", "process_resident_memory_bytes ", "program=\"ship\""]
        {
            assert!(page.contains(line), "{line} in {page}");
        }
    }
}
