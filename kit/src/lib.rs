//! Plumbing of a process, without a word of the domain.

pub mod clock;
pub mod journal;
