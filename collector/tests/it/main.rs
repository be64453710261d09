//! The collector as a library over real files and real HTTP on loopback.

#![expect(clippy::unwrap_used, reason = "everything here is a test")]

mod agent;
mod deletions;
mod doors;
mod frames;
mod harness;
mod recorded;
mod restart;
mod tail;
