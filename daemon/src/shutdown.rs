//! SIGTERM or SIGINT asks a process to stop gracefully; a second one ends it at once.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Becomes true once the process is asked to stop. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// Listens for signals; within a runtime, once in a process. After a second signal the process exits with 1.
    ///
    /// # Errors
    /// When the signals cannot be listened for.
    pub fn on_signals() -> std::io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (sender, receiver) = watch::channel(false);
        tokio::spawn(async move {
            for round in 0..2 {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if round == 0 {
                    tracing::info!("asked to stop");
                    sender.send_replace(true);
                }
            }
            tracing::warn!("asked a second time: stopping now");
            std::process::exit(1);
        });
        Ok(Self(receiver))
    }

    /// What must go on for some time after the process was asked to stop listens to this one; within a runtime.
    #[must_use]
    pub fn after(&self, time: Duration) -> Self {
        let (sender, receiver) = watch::channel(false);
        let asked = self.clone();
        tokio::spawn(async move {
            asked.asked().await;
            tokio::time::sleep(time).await;
            sender.send_replace(true);
            // For whoever asks later.
            sender.closed().await;
        });
        Self(receiver)
    }

    /// Until the process is asked to stop.
    pub async fn asked(&self) {
        let mut receiver = self.0.clone();
        // The sender lives as long as the process.
        let _ = receiver.wait_for(|asked| *asked).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_goes_on_longer_stops_later() {
        let (sender, receiver) = watch::channel(false);
        let shutdown = Shutdown(receiver);
        let later = shutdown.after(Duration::from_secs(5));
        let stopped = |of: &Shutdown| *of.0.borrow();
        sender.send_replace(true);
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(stopped(&shutdown) && !stopped(&later));
        tokio::time::sleep(Duration::from_secs(2)).await;
        later.asked().await;
        assert!(stopped(&later));
    }
}
