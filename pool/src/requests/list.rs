//! A first-in-first-out list through the slab: links live in the requests, the ends in a [`List`].
//!
//! A request has two pairs of links: pair 0 for the list that it is in wherever it is, pair 1 for the one that the
//! queue's order may need besides.

use super::{Key, Requests};

/// One request's neighbours in the list that it is in.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Links {
    before: Option<Key>,
    after: Option<Key>,
}

/// The ends and the length of one list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct List<const PAIR: usize = 0> {
    first: Option<Key>,
    last: Option<Key>,
    len: u32,
}

impl<const PAIR: usize> List<PAIR> {
    /// How many are in it.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Whether nobody is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Who has been in it the longest.
    pub(crate) fn first(&self) -> Option<Key> {
        self.first
    }

    /// Who has been in it the shortest.
    pub(crate) fn last(&self) -> Option<Key> {
        self.last
    }

    /// All of them, who has been in it the longest first.
    pub(crate) fn keys(self, requests: &Requests) -> impl Iterator<Item = Key> {
        std::iter::successors(self.first, |key| requests[*key].links[PAIR].after)
    }
}

impl Requests {
    /// Joins `key`, which is in no list, at the end.
    pub(crate) fn push_back<const PAIR: usize>(&mut self, list: &mut List<PAIR>, key: Key) {
        self[key].links[PAIR] = Links { before: list.last, after: None };
        match list.last {
            Some(last) => self[last].links[PAIR].after = Some(key),
            None => list.first = Some(key),
        }
        list.last = Some(key);
        list.len += 1;
    }

    /// Takes `key`, which is in this list, out of it.
    pub(crate) fn unlink<const PAIR: usize>(&mut self, list: &mut List<PAIR>, key: Key) {
        let Links { before, after } = std::mem::take(&mut self[key].links[PAIR]);
        match before {
            Some(before) => self[before].links[PAIR].after = after,
            None => list.first = after,
        }
        match after {
            Some(after) => self[after].links[PAIR].before = before,
            None => list.last = before,
        }
        list.len -= 1;
    }

    /// Takes out who has been in it the longest.
    pub(crate) fn pop_front<const PAIR: usize>(&mut self, list: &mut List<PAIR>) -> Option<Key> {
        let first = list.first?;
        self.unlink(list, first);
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Class, RequestId};
    use crate::requests::Request;
    use crate::time::Time;

    #[test]
    fn any_member_leaves_and_the_others_keep_their_order() {
        let (mut requests, mut list) = (Requests::default(), List::<0>::default());
        let keys: Vec<_> = (0..5)
            .map(|n| {
                requests
                    .insert(Request::new(RequestId(n), Time::MAX, true, Class::default(), n, Time::ZERO))
                    .unwrap()
            })
            .collect();
        keys.iter().for_each(|key| requests.push_back(&mut list, *key));
        for gone in [2, 0, 4] {
            requests.unlink(&mut list, keys[gone]);
            requests.remove(keys[gone]);
        }
        assert_eq!(list.len(), 2);
        assert_eq!(requests.pop_front(&mut list), Some(keys[1]));
        assert_eq!(requests.pop_front(&mut list), Some(keys[3]));
        assert_eq!(requests.pop_front(&mut list), None);
        assert_eq!(list, List::default());
    }
}
