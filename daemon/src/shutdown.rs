//! SIGTERM or SIGINT asks a process to stop gracefully; a second one ends it at once.

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

    /// Until the process is asked to stop.
    pub async fn asked(&self) {
        let mut receiver = self.0.clone();
        // The sender lives as long as the process.
        let _ = receiver.wait_for(|asked| *asked).await;
    }
}
