//! The end of a process: one signal that everybody can wait for.
//!
//! The signal goes to the sources (listeners, readers); later stages end when their input is closed
//! and empty.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Tells all holders of the matching [`Shutdown`] to stop. Dropping it does so too.
#[derive(Debug)]
pub struct Trigger(watch::Sender<bool>);

/// Waits for the end. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

/// A connected pair.
#[must_use]
pub fn channel() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (Trigger(sender), Shutdown(receiver))
}

impl Trigger {
    /// Tells everybody to stop. May be called more than once.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Returns once it is time to stop. Cancel safe.
    pub async fn wait(&mut self) {
        // An error means that the trigger is gone: that is the end too.
        let _ended = self.0.wait_for(|stop| *stop).await.is_ok();
    }

    /// Whether it is time to stop, without waiting.
    #[must_use]
    pub fn is_set(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}

/// Returns the name of the first SIGTERM or SIGINT that comes.
///
/// # Errors
/// When the handlers cannot be installed.
pub async fn signalled() -> std::io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everybody_hears_the_end_also_when_the_trigger_is_dropped() {
        let (trigger, mut one) = channel();
        let mut two = one.clone();
        assert!(!one.is_set());
        trigger.stop();
        one.wait().await;
        assert!(two.is_set());
        drop(trigger);
        two.wait().await;

        let (trigger, mut three) = channel();
        drop(trigger);
        assert!(three.is_set());
        three.wait().await;
    }
}
