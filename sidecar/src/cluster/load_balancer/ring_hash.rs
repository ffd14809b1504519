//! A ring of hashes: each host owns the points before its own. Source: Envoy's `RingHashLoadBalancer`;
//! the keys are `KEY_N`, so that a request goes where Envoy sends it.

use std::sync::Arc;

use xxhash_rust::xxh64::xxh64;

use super::hash_key;
use super::murmur::murmur_hash_2;
use crate::cluster::{Host, RingHashFunction};

pub struct Ring {
    points: Vec<(u64, Arc<Host>)>,
    size: RingSize,
}

/// Points of the whole ring, of the host with the fewest, and of the one with the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSize {
    pub all: u64,
    pub fewest: u64,
    pub most: u64,
}

impl Ring {
    /// The bounds are of the number of points.
    pub fn new(
        hosts: &[Arc<Host>],
        (minimum, maximum): (u64, u64),
        function: RingHashFunction,
        by_hostname: bool,
    ) -> Self {
        let total: f64 = hosts.iter().map(|h| f64::from(h.weight)).sum();
        let Some(lightest) = hosts.iter().map(|h| f64::from(h.weight) / total).reduce(f64::min) else {
            return Ring { points: Vec::new(), size: RingSize { all: 0, fewest: 0, most: 0 } };
        };
        // As many points as give the lightest host a whole number of them.
        let scale = ((lightest * minimum as f64).ceil() / lightest).min(maximum as f64);
        let mut points = Vec::with_capacity(scale.ceil() as usize);
        let (mut done, mut target) = (0.0, 0.0);
        let (mut fewest, mut most) = (u64::MAX, 0);
        for host in hosts {
            target += scale * f64::from(host.weight) / total;
            let key = hash_key(host, by_hostname);
            let mut n = 0u64;
            while done < target {
                let text = format!("{key}_{n}");
                let hash = match function {
                    RingHashFunction::XxHash => xxh64(text.as_bytes(), 0),
                    RingHashFunction::MurmurHash2 => murmur_hash_2(text.as_bytes()),
                };
                points.push((hash, host.clone()));
                n += 1;
                done += 1.0;
            }
            (fewest, most) = (fewest.min(n), most.max(n));
        }
        points.sort_by_key(|(hash, _)| *hash);
        let size = RingSize { all: points.len() as u64, fewest, most };
        Ring { points, size }
    }

    pub fn size(&self) -> RingSize {
        self.size
    }

    pub fn pick(&self, hash: u64) -> Option<Arc<Host>> {
        let at = self.points.partition_point(|(point, _)| *point < hash);
        self.points.get(at).or_else(|| self.points.first()).map(|(_, host)| host.clone())
    }
}
