//! What was used last, in memory.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// Entries in two generations: what is used moves to the young one, and the
/// old one goes when the young one is full.
#[derive(Debug)]
pub struct Generations<K, V> {
    young: HashMap<K, (V, usize)>,
    old: HashMap<K, (V, usize)>,
    used: usize,
    budget: usize,
}

impl<K: Hash + Eq, V> Generations<K, V> {
    /// Makes one that holds twice the budget at most, in bytes.
    pub fn new(budget: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            used: 0,
            budget,
        }
    }

    /// Keeps an entry that costs so many bytes.
    pub fn put(&mut self, key: K, value: V, cost: usize) {
        let before = self.young.insert(key, (value, cost));
        self.used = self.used.saturating_sub(before.map_or(0, |(_, cost)| cost)) + cost;
        if self.used > self.budget {
            self.old = std::mem::take(&mut self.young);
            self.used = 0;
        }
    }

    /// Returns an entry.
    pub fn get<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        if !self.young.contains_key(key) {
            let (key, (value, cost)) = self.old.remove_entry(key)?;
            self.put(key, value, cost);
        }
        let entry = match self.young.get_mut(key) {
            Some(entry) => Some(entry),
            // It filled the young generation, and is in the old one again.
            None => self.old.get_mut(key),
        };
        entry.map(|(value, _)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let mut entries = Generations::new(100);
        for number in 0..1000 {
            entries.put(number, number, 10);
            assert_eq!(entries.get(&0), Some(&mut 0), "{number}");
            assert!(entries.young.len() + entries.old.len() <= 22, "{number}");
        }
        assert_eq!(entries.get(&1), None);
        assert_eq!(entries.get(&999), Some(&mut 999));
        // Once more is no more.
        for _ in 0..100 {
            entries.put(999, 7, 10);
        }
        assert_eq!(entries.get(&0), Some(&mut 0));
        // One that is larger than all is found once.
        entries.put(5, 5, 1000);
        assert_eq!(entries.get(&5), Some(&mut 5));
    }
}
