//! What has been delivered of an answer, kept to be compared with what comes again.
//!
//! The bytes themselves are kept up to a bound and while there is room: so it can be said at which byte another run
//! differs. What follows goes into a running digest with marks, ever farther apart, so that it costs the same however
//! long the answer; where another run differs is then known to lie between two of them.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::gateway::kept::Kept;
use crate::gateway::space::{Room, Space};
use crate::gateway::spool::SpoolError;

/// Marks of a digest at the most; an even number.
const MARKS: usize = 128;

/// Bytes between two marks at first.
const STEP: u64 = 64 * 1024;

/// The beginning of an answer.
pub struct Record {
    kept: Kept,
    /// So many bytes are kept at the most.
    most: u64,
    tail: Option<Tail>,
}

/// How another run differs.
#[derive(Debug, thiserror::Error)]
pub enum Difference {
    /// In this byte, counted from 0.
    #[error("it differs at byte {0}")]
    At(u64),
    /// Somewhere from the first to before the second.
    #[error("it differs somewhere between byte {0} and byte {1}")]
    Between(u64, u64),
    /// It has no byte of this number, and there was one.
    #[error("it ends before byte {0}")]
    Ends(u64),
    /// What was kept cannot be read back.
    #[error(transparent)]
    Unreadable(#[from] SpoolError),
}

impl Record {
    /// Nothing was delivered yet.
    pub const fn new(space: Arc<Space>, most: u64) -> Self {
        Self { kept: Kept::new(Room::for_answer(space)), most, tail: None }
    }

    /// Bytes delivered.
    pub fn length(&self) -> u64 {
        self.kept.length() + self.tail.as_ref().map_or(0, |tail| tail.length)
    }

    /// These are delivered, too.
    pub fn note(&mut self, data: &[u8]) {
        if let Some(tail) = &mut self.tail {
            tail.note(data);
        } else if self.kept.length() + data.len() as u64 > self.most || self.kept.append(data).is_err() {
            // No room is no failure: a digest does it, if less exactly.
            self.tail.insert(Tail::new()).note(data);
        }
    }
}

/// Another run of an answer, as far as it is the same.
pub struct Comparison<'r> {
    record: &'r Record,
    at: u64,
    tail: Tail,
}

impl<'r> Comparison<'r> {
    /// Nothing has come again yet.
    pub fn of(record: &'r Record) -> Self {
        Self { record, at: 0, tail: Tail::new() }
    }

    /// Whether all that was delivered has come again.
    pub fn is_complete(&self) -> bool {
        self.at == self.record.length()
    }

    /// The next bytes; what goes beyond the record, and so is new, is returned.
    pub fn take(&mut self, mut data: Bytes) -> Result<Bytes, Difference> {
        while !data.is_empty() && self.at < self.record.kept.length() {
            let kept = self.record.kept.read(self.at)?;
            let both = kept.len().min(data.len());
            if let Some(place) = kept.iter().zip(&data).position(|(kept, came)| kept != came) {
                return Err(Difference::At(self.at + place as u64));
            }
            let _ = data.split_to(both);
            self.at += both as u64;
        }
        let Some(known) = &self.record.tail else { return Ok(data) };
        let rest = usize::try_from(self.record.length() - self.at).unwrap_or(usize::MAX);
        let compared = data.split_to(rest.min(data.len()));
        if !compared.is_empty() {
            self.at += compared.len() as u64;
            self.tail.follow(known, &compared).map_err(|(from, to)| self.between(from, to))?;
        }
        Ok(data)
    }

    /// The run has ended.
    pub fn end(&self) -> Result<(), Difference> {
        if self.is_complete() { Ok(()) } else { Err(Difference::Ends(self.at)) }
    }

    fn between(&self, from: u64, to: u64) -> Difference {
        let kept = self.record.kept.length();
        Difference::Between(kept + from, kept + to)
    }
}

/// A digest that runs, and what it was now and then.
struct Tail {
    digest: Sha256,
    length: u64,
    step: u64,
    /// The digest after each step.
    marks: Vec<[u8; 32]>,
}

impl Tail {
    fn new() -> Self {
        Self { digest: Sha256::new(), length: 0, step: STEP, marks: Vec::new() }
    }

    fn now(&self) -> [u8; 32] {
        self.digest.clone().finalize().into()
    }

    /// Takes bytes up to the next mark, and returns the rest.
    fn up_to_mark<'d>(&mut self, data: &'d [u8]) -> &'d [u8] {
        let room = self.step - self.length % self.step;
        let (now, later) = data.split_at(data.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
        self.digest.update(now);
        self.length += now.len() as u64;
        later
    }

    fn note(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            data = self.up_to_mark(data);
            if self.length.is_multiple_of(self.step) {
                self.marks.push(self.now());
            }
            if self.marks.len() == MARKS {
                let mut place = 0;
                self.marks.retain(|_| {
                    place += 1;
                    place % 2 == 0
                });
                self.step *= 2;
            }
        }
    }

    /// Takes bytes that should be those of `known`; where they are not, the places between which they differ.
    fn follow(&mut self, known: &Self, mut data: &[u8]) -> Result<(), (u64, u64)> {
        self.step = known.step;
        while !data.is_empty() {
            data = self.up_to_mark(data);
            let last = self.length == known.length;
            if !self.length.is_multiple_of(self.step) && !last {
                continue;
            }
            let place = self.length / self.step;
            let mark = if last {
                Some(known.now())
            } else {
                usize::try_from(place).ok().and_then(|place| known.marks.get(place.checked_sub(1)?).copied())
            };
            if mark != Some(self.now()) {
                let from = if self.length.is_multiple_of(self.step) { place - 1 } else { place } * self.step;
                return Err((from, self.length));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::space::tests::space;

    fn record(most: u64, max_total: u64, data: &[u8]) -> Record {
        let mut record = Record::new(space(1 << 10, max_total), most);
        data.chunks(1_000).for_each(|piece| record.note(piece));
        record
    }

    fn answer(length: u32) -> Vec<u8> {
        (0..length).map(|n| (n % 253) as u8 ^ (n / 65_536) as u8).collect()
    }

    /// What a run adds to the record, taken in pieces of this size.
    fn again(record: &Record, run: &[u8], size: usize) -> Result<Vec<u8>, Difference> {
        let mut comparison = Comparison::of(record);
        let mut new = Vec::new();
        for piece in run.chunks(size) {
            new.extend_from_slice(&comparison.take(Bytes::copy_from_slice(piece))?);
        }
        comparison.end().map(|()| new)
    }

    #[test]
    fn the_same_run_goes_on_where_the_last_one_broke() {
        let run = answer(3_000_000);
        for most in [u64::MAX, 100_000, 0] {
            for delivered in [0, 1, 65_536, 99_999, 1_500_000] {
                let record = record(most, 1 << 30, &run[..delivered]);
                assert_eq!(record.length(), delivered as u64);
                for size in [777, 65_536, 3_000_000] {
                    assert_eq!(
                        again(&record, &run, size).unwrap(),
                        run[delivered..],
                        "{most} {delivered} {size}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_kept_tells_the_byte_and_what_is_not_the_neighbourhood() {
        let delivered = answer(1_000_000);
        let kept = record(100_000, 1 << 30, &delivered);
        for place in [0, 1, 4_999, 99_998, 99_999, 100_000, 100_001, 500_000, 999_999] {
            let mut run = answer(1_000_100);
            run[place] ^= 1;
            for size in [1_013, 1_000_100] {
                match again(&kept, &run, size).unwrap_err() {
                    Difference::At(at) => assert!(place < 100_000 && at == place as u64, "{at} for {place}"),
                    Difference::Between(from, to) => {
                        let between = from..to;
                        assert!(
                            place >= 100_000 && between.contains(&(place as u64)),
                            "{between:?}: {place}"
                        );
                        assert!(to - from <= STEP, "{between:?}");
                    }
                    other @ (Difference::Ends(_) | Difference::Unreadable(_)) => panic!("{other}"),
                }
            }
        }
    }

    #[test]
    fn a_run_that_is_shorter_is_another_one() {
        for most in [u64::MAX, 10] {
            let record = record(most, 1 << 30, &answer(5_000));
            assert!(matches!(again(&record, &answer(4_999), 100), Err(Difference::Ends(4_999))));
            assert_eq!(again(&record, &answer(5_000), 100).unwrap(), b"");
        }
    }

    #[test]
    fn a_record_takes_the_same_memory_however_long_the_answer() {
        let mut record = record(1_000, 1 << 30, &[]);
        let piece = vec![7; 1 << 20];
        (0..20).for_each(|_| record.note(&piece));
        let tail = record.tail.as_ref().unwrap();
        assert!(tail.marks.len() < MARKS && tail.marks.capacity() <= MARKS, "{}", tail.marks.len());
        let mut comparison = Comparison::of(&record);
        (0..19).for_each(|_| assert!(comparison.take(piece.clone().into()).unwrap().is_empty()));
        let mut other = piece.clone();
        other[500_000] = 8;
        let differs = (19 << 20) + 500_000;
        let Err(Difference::Between(from, to)) = comparison.take(other.into()) else {
            panic!("it is another")
        };
        assert!((from..to).contains(&differs) && to - from <= 1 << 20, "{from}..{to}");
    }

    #[test]
    fn where_there_is_no_room_a_digest_does_it() {
        let run = answer(400_000);
        // Half of the space is for answers.
        let record = record(u64::MAX, 20_000, &run[..300_000]);
        assert_eq!(record.kept.length(), 10_000);
        assert_eq!(again(&record, &run, 5_000).unwrap(), run[300_000..]);
    }
}
