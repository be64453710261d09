//! How long the oldest byte of a file that is not in the store has waited.
//!
//! A container runtime writes the time in front of each line: the first line that is not in the store
//! tells it exactly. Other files are looked at now and then: what lies behind the end that a file had
//! at a look is younger than that look. So the age is known within the time between two looks and an
//! acknowledgement; before the first look that was followed by one it is not known. Pure.

use taffrail_model::Nanos;

use super::timestamp;

/// How many bytes of a line are looked at for its time.
pub const PEEK_BYTES: usize = 48;

/// Ends that a file had, with the times of the looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Everything behind this offset was written after this time; it is in the store up to there.
    reached: Option<(u64, Nanos)>,
    /// The next one, which is not in the store yet.
    next: Option<(u64, Nanos)>,
}

impl Marks {
    /// At `now` the file was `size` bytes long, of which `committed` are in the store.
    pub fn look(&mut self, size: u64, committed: u64, now: Nanos) {
        let beyond = |mark: &(u64, Nanos)| mark.0 > size;
        if self.reached.as_ref().is_some_and(beyond) || self.next.as_ref().is_some_and(beyond) {
            *self = Self::default();
        }
        if self.next.is_some_and(|(end, _)| end <= committed) {
            self.reached = self.next.take();
        }
        if committed >= size {
            *self = Self { reached: Some((size, now)), next: None };
        } else {
            self.next.get_or_insert((size, now));
        }
    }

    /// A time before which the first byte behind `committed` was not written, as late as is known.
    #[must_use]
    pub fn since(&self, committed: u64) -> Option<Nanos> {
        let below = |mark: &(u64, Nanos)| mark.0 <= committed;
        let mark = self.next.filter(below).or_else(|| self.reached.filter(below));
        mark.map(|(_, time)| time)
    }
}

/// The time that a line of a container runtime begins with, if `now` is not before it.
#[must_use]
pub fn time_of_line(begin: &[u8], now: Nanos) -> Option<Nanos> {
    let end = begin.iter().position(|b| *b == b' ')?;
    timestamp::parse(&begin[..end]).map(|time| time.min(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_silent_file_that_grows_waits_since_its_last_look() {
        let mut marks = Marks::default();
        marks.look(100, 50, 10);
        assert_eq!(marks.since(50), None, "nobody saw when it was written");
        marks.look(100, 100, 20);
        marks.look(100, 100, 90);
        marks.look(130, 100, 95);
        assert_eq!(marks.since(100), Some(90));
        assert_eq!(marks.since(130), Some(95));
        marks.look(40, 0, 99);
        assert_eq!(marks.since(0), None, "its content began anew");
    }

    #[test]
    fn lines_tell_their_time() {
        let now = 1_795_186_292_000_000_000;
        let cases: [(&[u8], Option<Nanos>); 4] = [
            (b"2026-11-20T14:51:31Z stdout F x", Some(now - 1_000_000_000)),
            (b"2026-11-20T15:51:31Z stdout F x", Some(now)),
            (b"no time here", None),
            (b"", None),
        ];
        for (begin, time) in cases {
            assert_eq!(time_of_line(begin, now), time);
        }
    }

    proptest! {
        /// A file grows and is committed in steps; the age is never less than the true one.
        #[test]
        fn no_age_is_too_young(
            steps in proptest::collection::vec((0_u64..4, 0_u64..5, any::<bool>()), 1..60),
        ) {
            let mut marks = Marks::default();
            // The time at which each byte was written.
            let mut written: Vec<Nanos> = Vec::new();
            let mut committed = 0_u64;
            for (now, (grown, done, looked)) in steps.into_iter().enumerate() {
                let now = now as Nanos;
                written.extend((0..grown).map(|_| now));
                committed = (committed + done).min(written.len() as u64);
                if looked {
                    marks.look(written.len() as u64, committed, now);
                }
                if let (Some(since), Some(true_time)) =
                    (marks.since(committed), written.get(committed as usize))
                {
                    prop_assert!(since <= *true_time, "{since} {true_time}");
                }
            }
        }
    }
}
