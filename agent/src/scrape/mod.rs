//! Scrapes.
pub mod exposition;
pub mod openmetrics;
