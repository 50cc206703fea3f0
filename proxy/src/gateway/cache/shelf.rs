//! Where answers are: the least recently used goes when there is no room. Bounded by bytes, and so by number.

use std::sync::Arc;

use http::header::{HeaderMap, HeaderName};
use longshore_pool::Time;
use lru::LruCache;

use super::asked::{Id, variant};
use super::stored::Stored;

/// What a note takes of memory, roughly.
const NOTE: u64 = 256;

/// What is there for a request.
#[derive(Clone, Debug)]
pub enum Place {
    /// An answer; perhaps not fresh enough.
    Answer(Arc<Stored>),
    /// Answers are for one only, so far as is known.
    ForOne,
}

#[derive(Debug)]
enum Item {
    Answer(Arc<Stored>),
    /// Answers vary by these fields: each is under an id of its own.
    Varies(Arc<[HeaderName]>),
    /// Answers are for one only; believed until then.
    ForOne(Time),
}

/// Answers and what is known of them.
#[derive(Debug)]
pub struct Shelf {
    items: LruCache<Id, Item>,
    bytes: u64,
    max_bytes: u64,
}

impl Shelf {
    /// An empty one with room for so much.
    pub fn new(max_bytes: u64) -> Self {
        Self { items: LruCache::unbounded(), bytes: 0, max_bytes }
    }

    /// Bytes that are taken.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What is there for a request, and what it is known by among those that answers vary by.
    pub fn find(&mut self, id: Id, headers: &HeaderMap, now: Time) -> (Id, Option<Place>) {
        let id = match self.items.get(&id) {
            Some(Item::Varies(names)) => variant(id, names, headers),
            Some(Item::Answer(_) | Item::ForOne(_)) | None => id,
        };
        let place = match self.items.get(&id) {
            Some(Item::Answer(stored)) if !stored.fresh_for(now).is_zero() => {
                Some(Place::Answer(stored.clone()))
            }
            Some(Item::ForOne(until)) if *until > now => Some(Place::ForOne),
            Some(Item::Answer(_) | Item::ForOne(_)) => {
                self.remove(id);
                None
            }
            Some(Item::Varies(_)) | None => None,
        };
        (id, place)
    }

    /// Keeps an answer to requests that are known by this, but for what it varies by.
    pub fn keep(&mut self, id: Id, stored: Arc<Stored>) {
        if !stored.vary.is_empty() {
            self.put(id, Item::Varies(stored.vary.as_slice().into()));
        }
        self.put(stored.id, Item::Answer(stored));
    }

    /// Notes that answers are for one only.
    pub fn note_for_one(&mut self, id: Id, until: Time) {
        self.put(id, Item::ForOne(until));
    }

    /// Forgets what is there.
    pub fn remove(&mut self, id: Id) {
        if let Some(item) = self.items.pop(&id) {
            self.bytes -= item.size();
        }
    }

    fn put(&mut self, id: Id, item: Item) {
        self.bytes += item.size();
        if let Some(before) = self.items.put(id, item) {
            self.bytes -= before.size();
        }
        while self.bytes > self.max_bytes {
            let Some((_, oldest)) = self.items.pop_lru() else { return };
            self.bytes -= oldest.size();
        }
    }
}

impl Item {
    fn size(&self) -> u64 {
        match self {
            Self::Answer(stored) => stored.size(),
            Self::Varies(names) => {
                NOTE + names.iter().map(|name| name.as_str().len() as u64 + 32).sum::<u64>()
            }
            Self::ForOne(_) => NOTE,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http::StatusCode;
    use http::header::ACCEPT;

    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_nanos(seconds * 1_000_000_000)
    }

    fn answer(id: Id, size: usize, until: Time) -> Arc<Stored> {
        let body = Bytes::from(vec![0; size]);
        let (status, age) = (StatusCode::OK, Duration::ZERO);
        Arc::new(Stored {
            status,
            headers: HeaderMap::new(),
            spelling: Default::default(),
            body,
            id,
            vary: Vec::new(),
            age,
            since: at(0),
            until,
        })
    }

    fn has(shelf: &mut Shelf, number: u8, now: Time) -> bool {
        matches!(shelf.find([number; 32], &HeaderMap::new(), now), (_, Some(Place::Answer(_))))
    }

    #[test]
    fn what_was_not_used_for_longest_goes_when_there_is_no_room() {
        let mut shelf = Shelf::new(3_000);
        for number in 0..3 {
            shelf.keep([number; 32], answer([number; 32], 600, at(100)));
        }
        assert!(has(&mut shelf, 0, at(1)));
        shelf.keep([3; 32], answer([3; 32], 600, at(100)));
        let here: Vec<bool> = (0..4).map(|number| has(&mut shelf, number, at(1))).collect();
        assert_eq!(here, [true, false, true, true]);
        for number in 4..200 {
            shelf.keep([number; 32], answer([number; 32], 10 * usize::from(number), at(100)));
            assert!(shelf.bytes() <= 3_000, "{}", shelf.bytes());
        }
        for number in 0..200 {
            shelf.remove([number; 32]);
        }
        assert_eq!(shelf.bytes(), 0, "what is gone takes nothing");
    }

    #[test]
    fn what_is_not_fresh_any_more_is_not_there() {
        let mut shelf = Shelf::new(10_000);
        shelf.keep([1; 32], answer([1; 32], 10, at(5)));
        shelf.note_for_one([2; 32], at(5));
        assert!(has(&mut shelf, 1, at(4)));
        assert!(matches!(shelf.find([2; 32], &HeaderMap::new(), at(4)), (_, Some(Place::ForOne))));
        assert!(!has(&mut shelf, 1, at(5)));
        assert!(shelf.find([2; 32], &HeaderMap::new(), at(5)).1.is_none());
        assert_eq!(shelf.bytes(), 0);
    }

    #[test]
    fn answers_that_vary_are_beside_each_other() {
        let mut shelf = Shelf::new(10_000);
        let headers = |value: &'static str| HeaderMap::from_iter([(ACCEPT, value.parse().unwrap())]);
        for value in ["a", "b"] {
            let id = variant([1; 32], &[ACCEPT], &headers(value));
            let answer = Arc::into_inner(answer(id, value.len(), at(9))).unwrap();
            shelf.keep([1; 32], Arc::new(Stored { vary: vec![ACCEPT], ..answer }));
        }
        for (value, found) in [("a", true), ("b", true), ("c", false)] {
            let (id, place) = shelf.find([1; 32], &headers(value), at(1));
            assert_eq!(id, variant([1; 32], &[ACCEPT], &headers(value)));
            assert_eq!(place.is_some(), found, "{value}");
        }
    }
}
