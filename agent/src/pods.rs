//! The pods of this node: one writer, many readers.
