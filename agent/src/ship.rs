//! Oldest batch first, in order, until acknowledged.
