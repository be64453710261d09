//! Settings of the collector.
