//! One host after the other, heavier ones more often (earliest deadline first, as Envoy's EDF).

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;

use crate::cluster::Host;

/// Whose turn it is among a few, by weight.
pub struct Turns {
    /// Deadline, order, and interval of each.
    each: Vec<(f64, u64, f64)>,
    turn: u64,
}

impl Turns {
    /// Weights are above 0.
    pub fn new(weights: impl Iterator<Item = f64>) -> Self {
        let each: Vec<_> = weights.enumerate().map(|(i, w)| (1.0 / w, i as u64, 1.0 / w)).collect();
        let turn = each.len() as u64;
        Turns { each, turn }
    }

    pub fn next(&mut self) -> Option<usize> {
        if let [_] = self.each.as_slice() {
            return Some(0);
        }
        let order = |a: &(f64, u64, f64), b: &(f64, u64, f64)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        let (at, _) = self.each.iter().enumerate().min_by(|(_, a), (_, b)| order(a, b))?;
        let chosen = self.each.get_mut(at)?;
        self.turn += 1;
        (chosen.0, chosen.1) = (chosen.0 + chosen.2, self.turn);
        Some(at)
    }
}

pub struct RoundRobin {
    order: Order,
}

enum Order {
    /// All weights are equal.
    Plain {
        hosts: Vec<Arc<Host>>,
        next: usize,
    },
    Weighted {
        heap: BinaryHeap<Entry>,
        turn: u64,
    },
}

struct Entry {
    deadline: f64,
    /// Ties go to who waited longest.
    turn: u64,
    host: Arc<Host>,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        other.deadline.total_cmp(&self.deadline).then(other.turn.cmp(&self.turn))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

fn interval(host: &Host) -> f64 {
    1.0 / f64::from(host.weight.max(1))
}

impl RoundRobin {
    pub fn new(hosts: &[Arc<Host>]) -> Self {
        let equal = hosts.windows(2).all(|pair| pair[0].weight == pair[1].weight);
        let order = if equal {
            Order::Plain { hosts: hosts.to_vec(), next: 0 }
        } else {
            let entries = hosts.iter().enumerate();
            let heap = entries.map(|(i, h)| Entry { deadline: interval(h), turn: i as u64, host: h.clone() }).collect();
            Order::Weighted { heap, turn: hosts.len() as u64 }
        };
        RoundRobin { order }
    }

    pub fn next(&mut self) -> Option<Arc<Host>> {
        match &mut self.order {
            Order::Plain { hosts, next } => {
                let host = hosts.get(*next % hosts.len().max(1)).cloned();
                *next = (*next + 1) % hosts.len().max(1);
                host
            }
            Order::Weighted { heap, turn } => {
                let Entry { deadline, host, .. } = heap.pop()?;
                *turn += 1;
                heap.push(Entry { deadline: deadline + interval(&host), turn: *turn, host: host.clone() });
                Some(host)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Address;

    fn check(weights: &[u32], draws: usize, expected: &[usize]) {
        let hosts: Vec<_> = weights
            .iter()
            .enumerate()
            .map(|(i, weight)| {
                let address = Address::Ip(([127, 0, 0, 1], i as u16).into());
                Arc::new(Host { weight: *weight, ..Host::at(address) })
            })
            .collect();
        let mut order = RoundRobin::new(&hosts);
        let mut counts = vec![0; weights.len()];
        for _ in 0..draws {
            let port = order.next().unwrap().address.socket().unwrap().port();
            counts[usize::from(port)] += 1;
        }
        assert_eq!(counts, expected, "{weights:?}");
    }

    #[test]
    fn shares_follow_weights() {
        check(&[1, 1, 1], 9, &[3, 3, 3]);
        check(&[3, 1], 8, &[6, 2]);
        check(&[5, 2, 1], 16, &[10, 4, 2]);
    }
}
