//! A ring of hashes: each host owns the points before its own. Source: Envoy's `RingHashLoadBalancer`;
//! the keys are `ADDRESS_N`, hashed with xxHash64, so that a request goes where Envoy sends it.

use std::sync::Arc;

use xxhash_rust::xxh64::xxh64;

use crate::cluster::Host;

pub struct Ring {
    points: Vec<(u64, Arc<Host>)>,
}

impl Ring {
    /// `minimum` and `maximum` bound the number of points.
    pub fn new(hosts: &[Arc<Host>], minimum: u64, maximum: u64) -> Self {
        let total: f64 = hosts.iter().map(|h| f64::from(h.weight)).sum();
        let Some(lightest) = hosts.iter().map(|h| f64::from(h.weight) / total).reduce(f64::min) else {
            return Ring { points: Vec::new() };
        };
        // As many points as give the lightest host a whole number of them.
        let scale = ((lightest * minimum as f64).ceil() / lightest).min(maximum as f64);
        let mut points = Vec::with_capacity(scale.ceil() as usize);
        let (mut done, mut target) = (0.0, 0.0);
        for host in hosts {
            target += scale * f64::from(host.weight) / total;
            let mut n = 0u64;
            while done < target {
                points.push((xxh64(format!("{}_{n}", host.address).as_bytes(), 0), host.clone()));
                n += 1;
                done += 1.0;
            }
        }
        points.sort_by_key(|(hash, _)| *hash);
        Ring { points }
    }

    pub fn pick(&self, hash: u64) -> Option<Arc<Host>> {
        let at = self.points.partition_point(|(point, _)| *point < hash);
        self.points.get(at).or_else(|| self.points.first()).map(|(_, host)| host.clone())
    }
}
