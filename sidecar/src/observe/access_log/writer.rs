//! The thread that writes access logs.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tracing::warn;

use crate::observe::stats::{Counter, Scope};

/// Where lines go. Source: `FileAccessLog.path`, `StdoutAccessLog`, `StderrAccessLog`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    Stdout,
    Stderr,
    File(PathBuf),
}

/// Lines that may wait for the disk.
const WAITING: usize = 16_384;

enum Message {
    Open(Destination),
    Line(Destination, String),
    Flush(SyncSender<()>),
}

struct Writer {
    messages: SyncSender<Message>,
    dropped: Counter,
}

fn writer() -> &'static Writer {
    static WRITER: OnceLock<Writer> = OnceLock::new();
    WRITER.get_or_init(|| {
        let (messages, inbox) = sync_channel(WAITING);
        let started = std::thread::Builder::new().name("access_log".to_owned()).spawn(move || run(&inbox));
        if let Err(error) = started {
            warn!("access logs are not written: {error}");
        }
        Writer { messages, dropped: Scope::root().child("filesystem").counter("write_failed") }
    })
}

impl Destination {
    /// Makes the file before there is a line for it, as Envoy does.
    pub(super) fn open(&self) {
        let _ = writer().messages.try_send(Message::Open(self.clone()));
    }

    pub(super) fn send(&self, line: String) {
        let writer = writer();
        if writer.messages.try_send(Message::Line(self.clone(), line)).is_err() {
            writer.dropped.inc();
        }
    }
}

/// Waits until everything sent so far is written (at exit).
pub fn flush() {
    let (done, flushed) = sync_channel(1);
    if writer().messages.send(Message::Flush(done)).is_ok() {
        let _ = flushed.recv();
    }
}

fn run(inbox: &Receiver<Message>) {
    let mut files: HashMap<PathBuf, Option<File>> = HashMap::new();
    // Everything that waits is written in one piece for each destination.
    let mut buffers: HashMap<Destination, String> = HashMap::new();
    while let Ok(first) = inbox.recv() {
        let mut flushed = Vec::new();
        for message in std::iter::once(first).chain(inbox.try_iter().take(1024)) {
            match message {
                Message::Open(to) => {
                    buffers.entry(to).or_default();
                }
                Message::Line(to, line) => buffers.entry(to).or_default().push_str(&line),
                Message::Flush(done) => flushed.push(done),
            }
        }
        for (to, text) in buffers.drain() {
            if let Err(error) = write(&mut files, &to, text.as_bytes()) {
                warn!("access log {to:?}: {error}");
            }
        }
        for done in flushed {
            let _ = done.send(());
        }
    }
}

fn write(files: &mut HashMap<PathBuf, Option<File>>, to: &Destination, bytes: &[u8]) -> std::io::Result<()> {
    match to {
        Destination::Stdout => std::io::stdout().write_all(bytes).and_then(|()| std::io::stdout().flush()),
        Destination::Stderr => std::io::stderr().write_all(bytes),
        Destination::File(path) => {
            let file = files.entry(path.clone()).or_default();
            if file.is_none() {
                *file = Some(OpenOptions::new().create(true).append(true).open(path)?);
            }
            match file {
                Some(file) => file.write_all(bytes),
                None => Ok(()),
            }
        }
    }
}
