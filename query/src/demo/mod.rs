//! The demo workload and the corpus of realistic log lines.

pub mod corpus;
pub mod random;
