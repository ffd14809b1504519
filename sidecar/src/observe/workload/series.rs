//! Handles to metrics by their labels' values, so that a set of values is made into names once. How many sets a worker
//! knows is decided here.

use std::collections::HashMap;

use super::labels::SEPARATOR;

/// Sets of labels of one worker. Callers name themselves and the host they want, so the number must end
/// somewhere: what comes later is counted without those names.
const MOST: usize = 1024;

pub struct Known<S> {
    series: HashMap<String, S, foldhash::fast::RandomState>,
    /// The labels' values of what is at hand; kept for its memory.
    key: String,
}

impl<S> Default for Known<S> {
    fn default() -> Self {
        Known { series: HashMap::default(), key: String::new() }
    }
}

impl<S: Clone> Known<S> {
    /// The handles for the values that `write` gathers; it is told whether names that others gave may be among them.
    pub fn find(&mut self, write: impl Fn(&mut String, bool), make: impl FnOnce(&str) -> S) -> S {
        self.key.clear();
        write(&mut self.key, true);
        if let Some(series) = self.series.get(&self.key) {
            return series.clone();
        }
        if self.series.len() >= MOST {
            self.key.clear();
            write(&mut self.key, false);
        }
        self.series.entry(self.key.clone()).or_insert_with_key(|key| make(key)).clone()
    }
}

/// Names beside the values that were gathered for them.
pub fn labels<'a>(names: impl Iterator<Item = &'a &'a str>, key: &str) -> Vec<(String, String)> {
    names.zip(key.split(SEPARATOR)).map(|(name, value)| ((*name).to_owned(), value.to_owned())).collect()
}
