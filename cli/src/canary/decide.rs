//! A canary's figures and what is demanded of them → what becomes of it. Pure; not how weights are moved, nor when.

use std::time::Duration;

use crate::traffic::figures::Figures;

/// So many looks without figures, one after the other, and the canary goes back: nobody watches over it.
const BLIND: u32 = 3;

/// What is demanded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Limits {
    /// In percent.
    pub(super) min_success: f64,
    pub(super) max_p99: Duration,
    /// With fewer, nothing can be said.
    pub(super) min_requests: u64,
}

/// What a look at the canary showed.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Seen {
    Figures(Figures),
    /// Why there are none, and for how many looks in a row.
    Nothing(String, u32),
}

/// What becomes of the canary, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Advance(String),
    Hold(String),
    RollBack(String),
}

pub(super) fn decide(seen: &Seen, limits: &Limits) -> Decision {
    let figures = match seen {
        Seen::Figures(figures) => figures,
        Seen::Nothing(why, times) if *times < BLIND => return Decision::Hold(why.clone()),
        Seen::Nothing(why, times) => return Decision::RollBack(format!("{times} times in a row: {why}")),
    };
    let requests = figures.requests();
    if requests < limits.min_requests {
        return Decision::Hold(format!("{requests} requests are too few, wanted {}", limits.min_requests));
    }
    // Where none is demanded and none came, nothing is wrong.
    let success = figures.success_rate().unwrap_or(100.0);
    if success < limits.min_success {
        let (failed, least) = (figures.failure, limits.min_success);
        return Decision::RollBack(format!(
            "success is {success:.2} %, wanted {least} % or more: {failed} of {requests} requests failed"
        ));
    }
    if figures.p99 > limits.max_p99 {
        return Decision::RollBack(format!("p99 is {:.1?}, wanted {:?} or less", figures.p99, limits.max_p99));
    }
    Decision::Advance(format!("{requests} requests, {success:.2} % success, p99 {:.1?}", figures.p99))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(success: u64, failure: u64, p99: u64) -> Seen {
        let p99 = Duration::from_millis(p99);
        Seen::Figures(Figures { success, failure, p99, window: Duration::from_secs(30), ..Figures::default() })
    }

    #[test]
    fn decisions() {
        let limits = Limits { min_success: 99.0, max_p99: Duration::from_millis(500), min_requests: 20 };
        let none = Limits { min_requests: 0, ..limits };
        let advance = |why: &str| Decision::Advance(why.to_owned());
        let hold = |why: &str| Decision::Hold(why.to_owned());
        let back = |why: &str| Decision::RollBack(why.to_owned());
        let blind = |times| Seen::Nothing("no pilot".to_owned(), times);
        let cases = [
            ("well", seen(100, 0, 5), limits, advance("100 requests, 100.00 % success, p99 5.0ms")),
            ("just enough", seen(99, 1, 500), limits, advance("100 requests, 99.00 % success, p99 500.0ms")),
            ("too few", seen(19, 0, 5), limits, hold("19 requests are too few, wanted 20")),
            // Two of three may be chance.
            ("too few, and bad", seen(1, 2, 900), limits, hold("3 requests are too few, wanted 20")),
            ("none", seen(0, 0, 0), limits, hold("0 requests are too few, wanted 20")),
            ("none is enough", seen(0, 0, 0), none, advance("0 requests, 100.00 % success, p99 0.0ns")),
            (
                "fails",
                seen(98, 2, 5),
                limits,
                back("success is 98.00 %, wanted 99 % or more: 2 of 100 requests failed"),
            ),
            (
                "fails always",
                seen(0, 20, 5),
                limits,
                back("success is 0.00 %, wanted 99 % or more: 20 of 20 requests failed"),
            ),
            ("slow", seen(100, 0, 501), limits, back("p99 is 501.0ms, wanted 500ms or less")),
            ("not seen", blind(1), limits, hold("no pilot")),
            ("not seen again", blind(2), limits, hold("no pilot")),
            ("not seen any longer", blind(3), limits, back("3 times in a row: no pilot")),
        ];
        for (name, seen, limits, wanted) in cases {
            assert_eq!(decide(&seen, &limits), wanted, "{name}");
        }
    }
}
