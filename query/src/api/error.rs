//! The one map from errors to HTTP.
