//! Maglev's table: as even as can be, and little moves when a host comes or goes.
//! Source: "Maglev: A Fast and Reliable Software Network Load Balancer", 3.4; Envoy's `MaglevTable`.

use std::sync::Arc;

use xxhash_rust::xxh64::xxh64;

use crate::cluster::Host;

pub struct Table {
    slots: Vec<u32>,
    hosts: Vec<Arc<Host>>,
}

struct Row {
    offset: u64,
    skip: u64,
    next: u64,
    weight: f64,
    target: f64,
}

impl Table {
    /// `size` is a prime.
    pub fn new(hosts: &[Arc<Host>], size: u64, by_hostname: bool) -> Self {
        let heaviest = hosts.iter().map(|h| h.weight).max().unwrap_or(1).max(1);
        let mut rows: Vec<Row> = hosts
            .iter()
            .map(|host| {
                let key = super::hash_key(host, by_hostname);
                Row {
                    offset: xxh64(key.as_bytes(), 0) % size,
                    skip: xxh64(key.as_bytes(), 1) % (size - 1).max(1) + 1,
                    next: 0,
                    weight: f64::from(host.weight) / f64::from(heaviest),
                    target: 0.0,
                }
            })
            .collect();
        let mut slots = vec![u32::MAX; if hosts.is_empty() { 0 } else { size as usize }];
        let (mut filled, mut round) = (0u64, 1.0);
        while filled < size && !rows.is_empty() {
            for (i, row) in rows.iter_mut().enumerate() {
                if filled == size {
                    break;
                }
                // A lighter host takes its turn only in some rounds.
                if round * row.weight < row.target {
                    continue;
                }
                row.target += 1.0;
                loop {
                    let at = (row.offset + row.skip * row.next) % size;
                    row.next += 1;
                    if let Some(slot) = slots.get_mut(at as usize).filter(|slot| **slot == u32::MAX) {
                        *slot = i as u32;
                        filled += 1;
                        break;
                    }
                }
            }
            round += 1.0;
        }
        Table { slots, hosts: hosts.to_vec() }
    }

    pub fn pick(&self, hash: u64) -> Option<Arc<Host>> {
        let slot = self.slots.get((hash % self.slots.len().max(1) as u64) as usize)?;
        self.hosts.get(*slot as usize).cloned()
    }
}
