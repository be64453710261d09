//! PromQL: text to syntax tree to answer.
