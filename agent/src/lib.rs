//! The node's side: find, read, label, keep, send.

pub mod batch;
pub mod config;
pub mod discover;
pub mod enrich;
pub mod pods;
pub mod scrape;
pub mod ship;
pub mod tail;
