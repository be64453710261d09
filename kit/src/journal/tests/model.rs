//! Random histories of appends, kills, power cuts, full disks and truncations against a `Vec`.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Event {
    Append(usize),
    /// Waits until everything is durable.
    Durable,
    /// The process dies; the page cache lives on.
    Kill,
    /// Removes what lies before a durable frame.
    Truncate(prop::sample::Index),
    /// The power goes; of what was not durable as much is left as the number has it.
    PowerCut(u64),
    /// So much room is left while one frame is appended.
    Full(usize),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => (0_usize..120).prop_map(Event::Append),
        2 => Just(Event::Durable),
        1 => Just(Event::Kill),
        1 => any::<u64>().prop_map(Event::PowerCut),
        1 => any::<prop::sample::Index>().prop_map(Event::Truncate),
        1 => (0_usize..100).prop_map(Event::Full),
    ];
    prop::collection::vec(event, 1..60)
}

/// What must be in the journal: the frames appended so far, and how many of them must be.
#[derive(Default)]
struct Model {
    frames: Vec<(u64, Vec<u8>)>,
    durable: usize,
    truncated_before: u64,
}

impl Model {
    fn append(&mut self, journal: &Journal, bytes: usize) -> bool {
        let payload = vec![u8::try_from(self.frames.len() % 251).unwrap(); bytes];
        match journal.append(&[&payload]) {
            Ok(seq) => {
                assert!(self.frames.last().is_none_or(|(last, _)| seq > *last));
                self.frames.push((seq, payload));
                true
            }
            Err(error) => {
                assert!(error.is_no_space(), "{error}");
                false
            }
        }
    }

    fn all_durable(&mut self, journal: &Journal) {
        if let Some((seq, _)) = self.frames.last() {
            journal.durable_blocking(*seq).unwrap();
        }
        self.durable = self.frames.len();
    }

    /// Compares, and forgets what a crash took.
    fn check(&mut self, journal: &Journal) {
        let read = frames(journal, self.truncated_before);
        let from = self.frames.partition_point(|(seq, _)| *seq < self.truncated_before);
        let expected = &self.frames[from..];
        assert!(read.len() <= expected.len(), "more than was appended");
        assert_eq!(read, expected[..read.len()], "a prefix, in order");
        assert!(from + read.len() >= self.durable, "a durable frame is lost");
        self.frames.truncate(from + read.len());
        self.durable = self.frames.len();
    }
}

fn run(history: Vec<Event>, segment_bytes: u64) {
    let mut disk = Faulty::default();
    let (mut journal, _) = open(&disk, segment_bytes);
    let mut model = Model::default();
    for event in history {
        match event {
            Event::Append(bytes) => assert!(model.append(&journal, bytes)),
            Event::Durable => model.all_durable(&journal),
            Event::Full(room) => {
                disk.set(|faults| faults.room = Some(room));
                model.append(&journal, 50);
                disk.set(|faults| faults.room = None);
            }
            Event::Truncate(at) => {
                if let Some((seq, _)) = model.frames.get(at.index(model.durable.max(1))) {
                    // One in three times the durable frame goes too.
                    let seq = *seq + u64::from(at.index(3) == 0 && model.durable > 0);
                    model.truncated_before = model.truncated_before.max(seq);
                    journal.truncate_before(seq).unwrap();
                }
            }
            Event::Kill | Event::PowerCut(_) => {
                if let Event::PowerCut(chance) = event {
                    disk = disk.after_power_cut(chance);
                }
                // The old journal goes on with the old disk, which nobody sees any more.
                let (reopened, recovery) = open(&disk, segment_bytes);
                let aside = recovery.quarantined.len();
                assert!(aside <= 1, "only the last segment can be torn: {recovery:?}");
                journal = reopened;
                model.check(&journal);
            }
        }
    }
    model.all_durable(&journal);
    model.check(&journal);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_durable_frame_is_ever_lost(history in events(), segment_bytes in 60_u64..600) {
        run(history, segment_bytes);
    }

    /// Any cut and any flipped bit of a single segment: a prefix is read, and nothing panics.
    #[test]
    fn a_cut_or_damaged_file_gives_a_prefix(
        sizes in prop::collection::vec(0_usize..50, 1..12),
        cut in any::<prop::sample::Index>(),
        flip in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let disk = Faulty::default();
        let (journal, _) = open(&disk, 1 << 20);
        for (n, &size) in sizes.iter().enumerate() {
            append_durably(&journal, &vec![u8::try_from(n).unwrap(); size]);
        }
        let all = frames(&journal, 0);
        drop(journal);
        let path = segment::path_of(Path::new(DIR), 1);
        let bytes = disk.len(&path);
        let kept = cut.index(bytes + 1);
        disk.open(&path).unwrap().set_len(kept as u64).unwrap();
        if let Some(flip) = flip.filter(|_| kept > 0) {
            disk.flip(&path, flip.index(kept));
        }
        let (journal, _) = open(&disk, 1 << 20);
        let read = frames(&journal, 0);
        prop_assert_eq!(&read[..], &all[..read.len()]);
        if flip.is_none() {
            let whole = all.iter().scan(28, |end, (_, payload)| {
                *end += 16 + payload.len();
                Some(*end)
            });
            prop_assert_eq!(read.len(), whole.filter(|end| *end <= kept).count());
        }
        let seq = append_durably(&journal, b"after");
        prop_assert_eq!(frames(&journal, seq), vec![(seq, b"after".to_vec())]);
    }
}
