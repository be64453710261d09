//! The demo workload and the corpus of realistic log lines.
