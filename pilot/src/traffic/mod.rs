//! What proxies count, gathered: every proxy's metrics page, again and again, as the figures of the last half minute.

mod page;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::Key;
use futures_util::StreamExt;
use smi_adapter::metrics::{Figures, Flow, Traffic, WINDOW_SECONDS};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::push::Latest;

/// The port of a proxy's metrics page.
const PORT: u16 = 15090;
const ROUND: Duration = Duration::from_secs(5);
/// How long one page may take.
const LIMIT: Duration = Duration::from_secs(3);
/// How many are asked at once.
const AT_ONCE: usize = 32;

/// The latest figures.
pub type Figured = watch::Receiver<Arc<Traffic>>;

/// What one proxy had counted, and when.
type Count = (Instant, BTreeMap<Flow, Figures>);

/// Gathers for as long as anyone listens.
#[must_use]
pub fn gather(latest: Latest) -> Figured {
    let (sender, receiver) = watch::channel(Arc::default());
    tokio::spawn(async move {
        let mut rounds = interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut history: BTreeMap<Key, VecDeque<Count>> = BTreeMap::new();
        let mut first = true;
        while !sender.is_closed() {
            rounds.tick().await;
            let places = places(&latest);
            history.retain(|key, _| places.contains_key(key));
            let asked =
                places.into_iter().map(|(key, at)| async move { (timeout(LIMIT, page::read(&key, at)).await, key) });
            let mut asked = futures_util::stream::iter(asked).buffer_unordered(AT_ONCE);
            while let Some((page, key)) = asked.next().await {
                let Ok(Ok(counted)) = page else { continue };
                let counts = history.entry(key).or_default();
                // A proxy that is new since the last round has counted nothing before it.
                if counts.is_empty() && !first {
                    counts.push_back((Instant::now(), BTreeMap::new()));
                }
                counts.push_back((Instant::now(), counted));
            }
            first = false;
            sender.send_replace(Arc::new(figures(&mut history)));
        }
    });
    receiver
}

fn places(latest: &Latest) -> BTreeMap<Key, SocketAddr> {
    let published = latest.borrow();
    let workloads = published.mesh.workloads.iter();
    workloads.map(|(key, workload)| (key.clone(), SocketAddr::new(workload.address, PORT))).collect()
}

/// What came within the window; counts that are older are forgotten but for the last of them, from which it is reckoned.
fn figures(history: &mut BTreeMap<Key, VecDeque<Count>>) -> Traffic {
    let window = Duration::from_secs(WINDOW_SECONDS);
    let mut traffic = Traffic::new();
    for counts in history.values_mut() {
        while counts.get(1).is_some_and(|(at, _)| at.elapsed() >= window) {
            counts.pop_front();
        }
        let (Some((_, before)), Some((_, now))) = (counts.front(), counts.back()) else { continue };
        let nothing = Figures::default();
        for (flow, figures) in now {
            traffic.insert(flow.clone(), figures.since(before.get(flow).unwrap_or(&nothing)));
        }
    }
    traffic
}
