//! Reads files forward from their committed position.
