//! What a panic does: it ends the process, unless it happens inside [`contained`].
//!
//! A broken invariant in what writes data must stop everything, and Kubernetes starts it again. A
//! query reads and answers one client; its panic is that query's error, not everybody's.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// From now on a panic outside of [`contained`] ends the process (SIGABRT), after it was printed.
/// Call it first in `main`.
pub fn abort_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        print(info);
        if !CONTAINED.get() {
            std::process::abort();
        }
    }));
}

/// Runs `work`, and gives the text of its panic if it panics. What `work` changes must stay whole if
/// it ends in the middle: it should only read.
///
/// # Errors
/// With the panic's message.
pub fn contained<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let outer = CONTAINED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    CONTAINED.set(outer);
    result.map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        text.or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a panic without a text".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contained_panic_is_an_error_with_its_text() {
        assert_eq!(contained(|| 7), Ok(7));
        let number = 3;
        let failed = contained(|| if number == 3 { panic!("number {number}") } else { number });
        assert_eq!(failed, Err("number 3".to_owned()));
        assert!(!CONTAINED.get());
    }
}
