//! Durable before acknowledged.
