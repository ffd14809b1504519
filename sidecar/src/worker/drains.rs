//! The worker's HTTP connections, so that they can be told to go.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use slab::Slab;
use tokio::sync::oneshot;

use crate::http::serve::Session;

/// All open HTTP connections of a worker.
#[derive(Default)]
pub struct Drains {
    sessions: Rc<RefCell<Slab<Weak<Session>>>>,
    waiting: Rc<RefCell<Vec<oneshot::Sender<()>>>>,
}

/// Takes the connection off the list when it ends.
pub struct Registered {
    sessions: Rc<RefCell<Slab<Weak<Session>>>>,
    waiting: Rc<RefCell<Vec<oneshot::Sender<()>>>>,
    key: usize,
}

impl Drains {
    pub fn register(&self, session: &Rc<Session>) -> Registered {
        let key = self.sessions.borrow_mut().insert(Rc::downgrade(session));
        Registered { sessions: self.sessions.clone(), waiting: self.waiting.clone(), key }
    }

    /// Answers when the last connection has ended.
    pub fn when_idle(&self, done: oneshot::Sender<()>) {
        if self.sessions.borrow().is_empty() {
            let _ = done.send(());
        } else {
            self.waiting.borrow_mut().push(done);
        }
    }

    /// Tells all connections, or only those of inbound listeners, to end when they can.
    pub fn drain_all(&self, inbound_only: bool) {
        self.drain(|session| !inbound_only || session.manager.inbound);
    }

    fn drain(&self, which: impl Fn(&Session) -> bool) {
        for session in self.of(which) {
            session.manager.stats.cx_drain_close.inc();
            session.drain();
        }
    }

    /// Tells the connections that `which` names to end with their next answers.
    pub fn leave(&self, which: impl Fn(&Session) -> bool) {
        for session in self.of(which) {
            session.manager.stats.cx_drain_close.inc();
            session.leave();
        }
    }

    fn of(&self, which: impl Fn(&Session) -> bool) -> Vec<Rc<Session>> {
        let all = self.sessions.borrow();
        all.iter().filter_map(|(_, session)| session.upgrade()).filter(|session| which(session)).collect()
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut sessions = self.sessions.borrow_mut();
        if sessions.contains(self.key) {
            sessions.remove(self.key);
        }
        if sessions.is_empty() {
            self.waiting.borrow_mut().drain(..).for_each(|done| {
                let _ = done.send(());
            });
        }
    }
}
