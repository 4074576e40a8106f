//! Names in a directory.

use std::fmt;
use std::sync::Arc;

/// Names in a directory, sorted bytewise; cheap to clone. In one piece, since a
/// directory may have a hundred thousand.
#[derive(Clone, PartialEq, Eq)]
pub struct Names(Arc<Inner>);

#[derive(PartialEq, Eq)]
struct Inner {
    text: Box<str>,
    /// Where each name ends.
    ends: Box<[usize]>,
}

impl fmt::Debug for Names {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

impl From<Vec<String>> for Names {
    fn from(mut names: Vec<String>) -> Self {
        names.sort_unstable();
        let mut text = String::with_capacity(names.iter().map(String::len).sum());
        let ends = names.iter().map(|name| {
            text.push_str(name);
            text.len()
        });
        let ends = ends.collect();
        Self(Arc::new(Inner {
            text: text.into(),
            ends,
        }))
    }
}

impl Names {
    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.0.ends.len()
    }

    /// Says whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the bytes that they take in memory.
    pub fn size(&self) -> usize {
        self.0.text.len() + size_of_val(&*self.0.ends)
    }

    /// Returns a name by its place.
    pub fn get(&self, at: usize) -> Option<&str> {
        let end = *self.0.ends.get(at)?;
        let begin = at.checked_sub(1).map_or(0, |before| self.0.ends[before]);
        Some(&self.0.text[begin..end])
    }

    /// Returns them in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).filter_map(|at| self.get(at))
    }

    /// Returns the place of the first of which `is_before` is not true, where it
    /// is true of all before that.
    pub fn partition_point(&self, is_before: impl Fn(&str) -> bool) -> usize {
        let (mut from, mut to) = (0, self.len());
        while from < to {
            let middle = usize::midpoint(from, to);
            if self.get(middle).is_some_and(&is_before) {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        from
    }

    /// Says whether a name is among them.
    pub fn contains(&self, name: &str) -> bool {
        self.get(self.partition_point(|own| own < name)) == Some(name)
    }

    /// Says whether both are one listing, not only alike.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_order_and_found() {
        let names: Names = ["b", "", "a-b", "zz", "a"].map(str::to_owned).to_vec().into();
        assert_eq!(names.iter().collect::<Vec<_>>(), ["", "a", "a-b", "b", "zz"]);
        assert_eq!((names.get(2), names.get(5)), (Some("a-b"), None));
        for name in ["", "a", "a-b", "b", "zz"] {
            assert!(names.contains(name), "{name}");
        }
        for name in ["a-", "aa", "c", "zzz"] {
            assert!(!names.contains(name), "{name}");
        }
        assert_eq!(names.partition_point(|name| name <= "a-b"), 3);
        let none: Names = Vec::new().into();
        assert!(none.is_empty() && !none.contains("") && none.iter().next().is_none());
        assert!(names.is_same(&names.clone()) && !none.is_same(&Vec::new().into()));
    }
}
