//! The mesh's standard metrics of TCP: connections opened and closed, and their bytes, by who called whom. A connection is
//! told of once its peer is known, and when it ends at the latest. Source: Istio's "Standard metrics";
//! `IstioStatsFilter::reportHelper`.

pub mod config;

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::io::{Counted, Io, Traffic};
use crate::observe::stats::{Counter, labelled_counter};
use crate::observe::workload::Told;
use crate::observe::workload::labels::{SIDES, Sides, put};
use crate::observe::workload::series::{Known, labels};
use crate::stream::Stream;

/// A compiled filter; immutable, shared by all workers.
#[derive(Clone, Copy, Debug)]
pub struct IstioStats {
    /// Counted at the called side.
    pub inbound: bool,
    /// How often open connections are told of; `None`: when they end.
    pub every: Option<Duration>,
}

/// Handles for one set of labels.
#[derive(Clone)]
struct Series {
    opened: Counter,
    closed: Counter,
    sent: Counter,
    received: Counter,
}

thread_local! {
    /// Each worker's handles.
    static SERIES: RefCell<Known<Series>> = RefCell::default();
}

/// The labels' names behind those of [`SIDES`], in the order in which their values are gathered.
const LABELS: [&str; 3] = ["request_protocol", "response_flags", "connection_security_policy"];

/// What is told of one connection.
pub struct Report {
    filter: IstioStats,
    stream: Rc<Stream>,
    traffic: Arc<Traffic>,
    /// Not there before the connection was told of.
    series: OnceCell<Series>,
    /// Bytes told of already.
    sent: Cell<u64>,
    received: Cell<u64>,
}

impl IstioStats {
    /// Looks at a connection from here on.
    pub fn begin(&self, io: Box<dyn Io>, stream: &Rc<Stream>) -> (Box<dyn Io>, Report) {
        let io = Counted::watched(io);
        let report = Report {
            filter: *self,
            stream: stream.clone(),
            traffic: io.traffic(),
            series: OnceCell::new(),
            sent: Cell::default(),
            received: Cell::default(),
        };
        (Box::new(io), report)
    }
}

impl Report {
    /// Tells from time to time, and never ends.
    pub async fn run(&self) {
        let Some(every) = self.filter.every else { return std::future::pending().await };
        loop {
            tokio::time::sleep(every).await;
            self.tell(false);
        }
    }

    /// The connection is over.
    pub fn end(self) {
        self.tell(true);
    }

    fn told(&self) -> Told {
        match self.filter.inbound {
            true => self.stream.connection.told.clone(),
            false => self.stream.upstream.told.borrow().clone(),
        }
    }

    fn tell(&self, ended: bool) {
        let told = self.told();
        if self.series.get().is_none() && !ended && !told.is_settled() {
            return;
        }
        let series = self.series.get_or_init(|| {
            let write = |key: &mut String, named: bool| self.write_key(key, &told, named);
            let series = SERIES.with_borrow_mut(|known| known.find(write, Series::new));
            series.opened.inc();
            series
        });
        let (sent, received) = (self.traffic.sent(), self.traffic.received());
        series.sent.add(sent - self.sent.replace(sent));
        series.received.add(received - self.received.replace(received));
        if ended {
            series.closed.inc();
        }
    }

    fn write_key(&self, key: &mut String, told: &Told, named: bool) {
        let (stream, inbound) = (&*self.stream, self.filter.inbound);
        let peer = told.peer().map(|peer| &peer.workload);
        let sides = Sides { stream, inbound, peer, authority: "", named };
        sides.write(key);
        put(key, "tcp");
        put(key, &stream.response_flags.get().short());
        put(key, sides.security());
    }
}

impl Series {
    fn new(key: &str) -> Self {
        let labels = labels(SIDES.iter().chain(&LABELS), key);
        Series {
            opened: labelled_counter("istio_tcp_connections_opened_total", labels.clone()),
            closed: labelled_counter("istio_tcp_connections_closed_total", labels.clone()),
            sent: labelled_counter("istio_tcp_sent_bytes_total", labels.clone()),
            received: labelled_counter("istio_tcp_received_bytes_total", labels),
        }
    }
}
