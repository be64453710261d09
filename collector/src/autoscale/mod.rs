//! The aggregated API server for autoscalers.
