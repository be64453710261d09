//! What the scripts do not cover: budgets, cancellation, reading once.
