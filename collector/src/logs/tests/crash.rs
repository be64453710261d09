//! Crashes, damage and strange folders.
