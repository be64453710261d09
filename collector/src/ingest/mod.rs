//! Protocols in: one protocol a file.
