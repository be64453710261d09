//! Collects metrics from pods and static targets.
