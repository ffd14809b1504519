//! What weights give a canary its share. Pure; not what share it should have.

use std::fmt;

use serde::Serialize;

/// A backend of a split and its weight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Backend {
    pub(super) service: String,
    pub(super) weight: u64,
}

/// All backends of a split, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Weights(pub(super) Vec<Backend>);

impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, backend) in self.0.iter().enumerate() {
            let comma = if nth == 0 { "" } else { ", " };
            write!(f, "{comma}{} {}", backend.service, backend.weight)?;
        }
        Ok(())
    }
}

impl Weights {
    /// A backend's share, in percent.
    pub(super) fn share(&self, service: &str) -> f64 {
        let sum = |of: &dyn Fn(&Backend) -> bool| {
            self.0.iter().filter(|backend| of(backend)).map(|backend| u128::from(backend.weight)).sum::<u128>()
        };
        let all = sum(&|_| true);
        if all == 0 { 0.0 } else { 100.0 * sum(&|backend| backend.service == service) as f64 / all as f64 }
    }

    /// Whether there is a backend of this name, and another that takes what it has not.
    pub(super) fn can_move(&self, canary: &str) -> bool {
        self.0.iter().any(|backend| backend.service == canary) && self.0.iter().any(|backend| backend.service != canary)
    }

    /// The canary at a share of up to 100 percent, the others at the rest in the proportion that they have. Others that have nothing
    /// share alike: a split whose weights are all 0 would be none.
    pub(super) fn moved(&self, canary: &str, share: u64) -> Self {
        let rest = u128::from(100_u64.saturating_sub(share));
        let others = || self.0.iter().filter(|backend| backend.service != canary);
        let idle = others().all(|backend| backend.weight == 0);
        let part = |backend: &Backend| if idle { 1 } else { u128::from(backend.weight) };
        let all = others().map(part).sum::<u128>().max(1);
        // What has been given so far is rounded, not each part, so that the whole is what it should be.
        let mut before = 0;
        let backend = |backend: &Backend| {
            let mut moved = Backend { service: backend.service.clone(), weight: share };
            if backend.service != canary {
                let now = before + part(backend);
                moved.weight = u64::try_from(rest * now / all - rest * before / all).unwrap_or(100);
                before = now;
            }
            moved
        };
        Self(self.0.iter().map(backend).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(of: &[u64]) -> Weights {
        let backend = |(nth, weight): (usize, &u64)| Backend { service: format!("v{nth}"), weight: *weight };
        Weights(of.iter().enumerate().map(backend).collect())
    }

    #[test]
    fn moves() {
        let cases: [(&[u64], u64, &[u64]); 9] = [
            (&[100, 0], 10, &[90, 10]),
            (&[90, 10], 0, &[100, 0]),
            (&[90, 10], 100, &[0, 100]),
            (&[0, 100], 0, &[100, 0]),
            (&[1000, 500], 20, &[80, 20]),
            (&[0, 0], 10, &[90, 10]),
            (&[60, 10, 30], 10, &[60, 10, 30]),
            (&[2, 0, 1], 50, &[33, 50, 17]),
            (&[0, 100, 0], 0, &[50, 0, 50]),
        ];
        for (before, share, after) in cases {
            assert_eq!(weights(before).moved("v1", share), weights(after), "{before:?} to {share}");
        }
    }

    #[test]
    fn shares() {
        for (of, share) in [(&[90_u64, 10], 10.0), (&[1000, 500], 100.0 / 3.0), (&[0, 0], 0.0), (&[0, 1], 100.0)] {
            assert!((weights(of).share("v1") - share).abs() < 1e-9, "{of:?}");
        }
        assert!(weights(&[1, 2]).can_move("v1") && !weights(&[1, 2]).can_move("v2") && !weights(&[1]).can_move("v0"));
        assert_eq!(weights(&[90, 10]).to_string(), "v0 90, v1 10");
    }
}
