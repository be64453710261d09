//! LogQL: text to syntax tree to plan to answer.
