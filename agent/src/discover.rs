//! Which files there are to tail.
