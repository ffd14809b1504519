//! A process that another one started for itself ends with it, however that one ends.

/// Set to `1` by who starts a process that must not outlive it.
pub const DIE_WITH_PARENT: &str = "OUTRIGGER_DIE_WITH_PARENT";

/// Asks the system for a SIGTERM when the parent is gone, if the parent wanted that.
pub fn die_with_parent() {
    if std::env::var_os(DIE_WITH_PARENT).is_some_and(|wanted| wanted == "1")
        && let Err(error) = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
    {
        tracing::warn!("this process may outlive the one that started it: {error}");
    }
}
