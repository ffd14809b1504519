//! The open subscriptions: one for ADS, one for each other stream or file. What is wanted of each is set
//! as a whole; the streams tell the servers what changed.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use super::config::{Server, Source, response_file};
use crate::cluster::Host;
use crate::discovery::files::{self, FileSubscription};
use crate::discovery::identity::{self, Identity};
use crate::discovery::stream::{self, Dial, Options, Subscriber};
use crate::discovery::{Event, Events, Interest};
use crate::io::Io;
use crate::snapshot::{ClusterEntry, Snapshot};
use crate::tls::TlsRequest;
use crate::upstream::local_cluster::establish;
use xds::type_url;

/// Tells subscriptions apart; ADS is 0.
pub type SourceId = usize;
pub const ADS: SourceId = 0;

enum Open {
    Stream(Subscriber),
    File {
        _watch: FileSubscription,
    },
    /// ADS without a server: nothing ever comes.
    Closed,
}

/// Makes what a stream needs to know of a server; the flag says that it is ADS.
pub type StreamOptions = Box<dyn Fn(&Server, bool) -> Options>;

/// The proxy's own certificate, where it makes its key itself.
enum Own {
    /// The management server sends it, if anybody does.
    Sent,
    /// It is signed by this server's CA, once it is wanted, perhaps for an identity that is asked for.
    Signed(Server, Option<String>),
    Begun(Identity),
}

/// All subscriptions.
pub struct Sources {
    open: Vec<Open>,
    own: Own,
    known: HashMap<(Source, &'static str), SourceId>,
    node: StreamOptions,
    events: mpsc::UnboundedSender<(SourceId, Event)>,
}

impl Sources {
    /// `options` makes what a stream needs to know of a server; the flag says that it is ADS.
    /// `own` is who signs the proxy's own key, if one does, and the identity that is asked for.
    pub fn new(
        ads: Option<&Server>,
        own: Option<(Server, Option<String>)>,
        options: StreamOptions,
        events: mpsc::UnboundedSender<(SourceId, Event)>,
    ) -> Self {
        let first = match ads {
            None => Open::Closed,
            Some(server) => {
                let events = Events { source: ADS, sender: events.clone() };
                Open::Stream(stream::start(options(server, true), events))
            }
        };
        let own = own.map_or(Own::Sent, |(server, identity)| Own::Signed(server, identity));
        Sources { open: vec![first], own, known: HashMap::new(), node: options, events }
    }

    /// The subscription for a source, opened if it is the first time.
    pub fn id(&mut self, source: &Source, type_url: &'static str) -> SourceId {
        if *source == Source::Ads {
            return ADS;
        }
        let key = (source.clone(), type_url);
        if let Some(id) = self.known.get(&key) {
            return *id;
        }
        let id = self.open.len();
        let events = Events { source: id, sender: self.events.clone() };
        self.open.push(match source {
            Source::Ads => Open::Closed,
            Source::Stream(server) => Open::Stream(stream::start((self.node)(server, false), events)),
            Source::Path { path, watched_directory } => Open::File {
                _watch: files::start(path.clone(), watched_directory.clone(), type_url, response_file, events),
            },
        });
        self.known.insert(key, id);
        id
    }

    /// A stream asks again with every answer; a file is only read.
    pub fn is_stream(&self, id: SourceId) -> bool {
        matches!(self.open.get(id), Some(Open::Stream(_)))
    }

    /// All resources of a type.
    pub fn want_all(&self, id: SourceId, type_url: &str) {
        if let Some(Open::Stream(stream)) = self.open.get(id) {
            stream.want(type_url, Interest::Wildcard);
        }
    }

    /// These resources of a type and no others. Files give all they have.
    pub fn want(&mut self, id: SourceId, type_url: &str, mut names: BTreeSet<String>) {
        let signed = !matches!(self.own, Own::Sent);
        if signed && id == ADS && type_url == type_url::SECRET && names.remove(identity::CERTIFICATE) {
            self.begin();
        }
        if let Some(Open::Stream(stream)) = self.open.get(id) {
            stream.want(type_url, Interest::Names(names));
        }
    }
}

impl Sources {
    /// Begins to ask for the proxy's own certificate.
    fn begin(&mut self) {
        if let Own::Signed(server, identity) = &self.own {
            let events = Events { source: ADS, sender: self.events.clone() };
            self.own = Own::Begun(Identity::start((self.node)(server, true), identity.clone(), events));
        }
    }

    /// What is trusted has changed: who signs may have changed too.
    pub fn roots_changed(&self) {
        if let Own::Begun(identity) = &self.own {
            identity.renew();
        }
    }
}

/// Connects to a host of a cluster as the cluster says, with whatever hosts it has at that moment. `alpn` is the
/// protocol that will be spoken.
pub fn dial(cluster: String, snapshot: Arc<ArcSwap<Snapshot>>, alpn: &'static [u8], patience: Duration) -> Dial {
    Arc::new(move || {
        let (snapshot, cluster) = (snapshot.clone(), cluster.clone());
        Box::pin(async move {
            let (entry, host) = host(&cluster, &snapshot, patience).await?;
            let host = &host;
            let made = establish(&entry.cluster, host, TlsRequest::speaking(alpn)).await;
            let made = made.map_err(|error| std::io::Error::other(format!("{}: {error:?}", host.address)))?;
            Ok::<Box<dyn Io>, std::io::Error>(made.io)
        })
    })
}

/// How long a management server's cluster that has no host yet is waited for: at the start its name is still being looked up.
pub const PATIENCE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(20);

async fn host(
    cluster: &str,
    snapshot: &ArcSwap<Snapshot>,
    patience: Duration,
) -> std::io::Result<(ClusterEntry, Arc<Host>)> {
    let end = tokio::time::Instant::now() + patience;
    loop {
        let entry = snapshot.load().clusters.get(cluster).cloned();
        let hosts: Vec<_> = entry.iter().flat_map(|entry| entry.hosts.first_choice().cloned()).collect();
        if let (Some(entry), Some(host)) = (&entry, fastrand::choice(&hosts)) {
            return Ok((entry.clone(), host.clone()));
        }
        if tokio::time::Instant::now() > end {
            let what = if entry.is_some() { "has no healthy host" } else { "is not known" };
            return Err(std::io::Error::other(format!("cluster '{cluster}' {what}")));
        }
        tokio::time::sleep(LOOK).await;
    }
}
