//! The journal against a model: whatever happens to disk and process, what was reported durable is
//! read again, in order, and nothing else is.

mod faulty;
mod model;

use std::path::Path;
use std::sync::Arc;

use super::disk::Disk;
use super::*;
use faulty::Faulty;

const DIR: &str = "/journal";

fn options(segment_bytes: u64) -> Options {
    Options { segment_bytes, frame_bytes_max: 1 << 16, ..Options::default() }
}

fn open(disk: &Faulty, segment_bytes: u64) -> (Journal, Recovery) {
    Journal::open_on(Arc::new(disk.clone()), Path::new(DIR), options(segment_bytes)).unwrap()
}

fn frames(journal: &Journal, from: u64) -> Vec<(u64, Vec<u8>)> {
    let read = |frame: Result<Frame, Error>| frame.map(|frame| (frame.seq, frame.payload)).unwrap();
    journal.read_from(from).map(read).collect()
}

fn append_durably(journal: &Journal, payload: &[u8]) -> u64 {
    let seq = journal.append(&[payload]).unwrap();
    journal.durable_blocking(seq).unwrap();
    seq
}

#[test]
fn real_files_hold_frames_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, recovery) = Journal::open(dir.path(), options(200)).unwrap();
    assert_eq!(recovery, Recovery::default());
    for n in 1..=20_u8 {
        assert_eq!(append_durably(&journal, &[n; 50]), u64::from(n));
    }
    assert!(journal.stats().segments > 5, "{:?}", journal.stats());
    drop(journal);
    let (journal, recovery) = Journal::open(dir.path(), options(200)).unwrap();
    assert_eq!(recovery, Recovery { frames: 20, ..Recovery::default() });
    let expected: Vec<_> = (12..=20_u8).map(|n| (u64::from(n), vec![n; 50])).collect();
    assert_eq!(frames(&journal, 12), expected);
    assert_eq!(append_durably(&journal, b"next"), 21);
}

#[test]
fn parts_are_one_frame_and_too_large_ones_are_refused() {
    let disk = Faulty::default();
    let (journal, _) = open(&disk, 1000);
    assert_eq!(journal.append(&[b"a", b"", b"bc"]).unwrap(), 1);
    assert_eq!(frames(&journal, 0), [(1, b"abc".to_vec())]);
    let error = journal.append(&[&[0; 1 << 16], &[0]]).unwrap_err();
    assert!(matches!(error, Error::FrameTooLarge { bytes: 65537, limit: 65536 }), "{error}");
    assert_eq!(journal.last_seq(), 1);
}

#[test]
fn truncation_removes_whole_segments_only() {
    let disk = Faulty::default();
    let (journal, _) = open(&disk, 100);
    for n in 1..=9_u8 {
        append_durably(&journal, &[n; 20]); // two frames fit into a segment
    }
    let segments = journal.stats().segments;
    assert!(journal.truncate_before(4).unwrap() > 0);
    assert_eq!(frames(&journal, 0).first().unwrap().0, 3, "3 and 4 share a segment");
    journal.truncate_before(9).unwrap();
    assert_eq!(frames(&journal, 0).first().unwrap().0, 9);
    journal.truncate_before(10).unwrap();
    assert_eq!(frames(&journal, 0), []);
    assert_eq!(journal.stats().segments, 1, "was {segments}");
    assert_eq!(journal.truncate_before(10).unwrap(), 0);
    drop(journal);
    let (journal, recovery) = open(&disk, 100);
    assert_eq!((recovery.frames, recovery.missing.len()), (0, 0));
    assert_eq!(append_durably(&journal, b"x"), 10);
}

#[test]
fn a_turn_lets_few_bytes_be_removed_too() {
    let disk = Faulty::default();
    let (journal, _) = open(&disk, 1 << 20);
    append_durably(&journal, b"few bytes");
    journal.truncate_before(2).unwrap();
    assert_eq!(
        (journal.oldest_seq(), frames(&journal, 0).len()),
        (1, 1),
        "they stay by themselves"
    );
    assert_eq!(journal.turn_over().unwrap(), 2);
    assert_eq!(journal.turn_over().unwrap(), 2);
    append_durably(&journal, b"more");
    assert_eq!((journal.stats().segments, frames(&journal, 0).len()), (2, 2));
    assert!(journal.truncate_before(2).unwrap() > 0);
    assert_eq!((journal.oldest_seq(), frames(&journal, 0).len()), (2, 1));
    drop(journal);
    let (journal, recovery) = open(&disk, 1 << 20);
    assert_eq!((recovery.frames, recovery.missing.len(), journal.oldest_seq()), (1, 0, 2));
    disk.set(|faults| faults.sync_fails = true);
    journal.append(&[b"x"]).unwrap();
    journal.turn_over().unwrap_err();
    assert!(matches!(journal.turn_over(), Err(Error::Poisoned(_))));
}

#[test]
fn a_failed_sync_ends_all_taking() {
    let disk = Faulty::default();
    let (journal, _) = open(&disk, 10_000);
    append_durably(&journal, b"good");
    disk.set(|faults| faults.sync_fails = true);
    let seq = journal.append(&[b"lost"]).unwrap();
    assert!(matches!(journal.durable_blocking(seq), Err(Error::Poisoned(_))));
    disk.set(|faults| faults.sync_fails = false);
    assert!(matches!(journal.append(&[b"more"]), Err(Error::Poisoned(_))));
    assert!(journal.poisoned().is_some());
    journal.durable_blocking(1).unwrap();
    drop(journal);
    let (journal, _) = open(&disk.after_power_cut(0), 10_000);
    assert_eq!(frames(&journal, 0), [(1, b"good".to_vec())]);
}

#[test]
fn a_failed_sync_at_a_new_segment_ends_all_taking() {
    let disk = Faulty::default();
    let (journal, _) = open(&disk, 80);
    append_durably(&journal, &[1; 20]);
    disk.set(|faults| faults.sync_fails = true);
    let outcomes: Vec<_> = (0..3).map(|_| journal.append(&[&[2; 40]])).collect();
    assert!(outcomes.last().unwrap().is_err());
    assert!(journal.poisoned().is_some());
}

#[test]
fn a_new_segment_does_not_hide_a_failing_sync() {
    let disk = Faulty::default();
    let (journal, _) = open(&disk, 80);
    let held = Arc::new(std::sync::Mutex::new(()));
    let failing = held.lock().unwrap();
    disk.set(|faults| faults.next_sync_fails = Some(held.clone()));
    let lost = journal.append(&[&[1; 20]]).unwrap();
    while disk.awaits_failure() {
        std::thread::yield_now();
    }
    // The sync thread is at its failing sync; this frame needs a new segment, and so a sync.
    std::thread::scope(|scope| {
        let next = scope.spawn(|| journal.append(&[&[2; 40]]));
        for _ in 0..10_000 {
            std::thread::yield_now();
        }
        drop(failing);
        assert!(matches!(next.join().unwrap(), Err(Error::Poisoned(_))));
    });
    assert!(matches!(journal.durable_blocking(lost), Err(Error::Poisoned(_))));
}

#[test]
fn health_can_be_asked_while_the_disk_hangs() {
    let disk = Faulty::default();
    let (journal, _) = open(&disk, 80);
    append_durably(&journal, &[1; 20]);
    std::thread::scope(|scope| {
        let hanging = disk.gate.lock().unwrap();
        let next = scope.spawn(|| journal.append(&[&[2; 40]]));
        let asked = scope.spawn(|| {
            for _ in 0..10_000 {
                std::thread::yield_now();
            }
            journal.poisoned()
        });
        let mut turns = 0_u32;
        while !asked.is_finished() && turns < 10_000_000 {
            turns += 1;
            std::thread::yield_now();
        }
        let answered = asked.is_finished();
        drop(hanging);
        next.join().unwrap().unwrap();
        assert!(answered, "waits for the disk");
    });
}

#[test]
fn a_full_disk_is_an_error_and_no_more() {
    for room in [0, 1, 15, 16, 30, 60, 100] {
        let disk = Faulty::default();
        let (journal, _) = open(&disk, 100);
        append_durably(&journal, &[1; 20]);
        disk.set(|faults| faults.room = Some(room));
        let mut stored = 1;
        let error = loop {
            match journal.append(&[&[2; 40]]) {
                Ok(_) => stored += 1,
                Err(error) => break error,
            }
        };
        assert!(error.is_no_space(), "{room}: {error}");
        assert!(journal.append(&[&[2; 40]]).unwrap_err().is_no_space(), "{room}");
        disk.set(|faults| faults.room = None);
        assert_eq!(append_durably(&journal, b"again"), stored + 1, "{room}");
        drop(journal);
        let (journal, recovery) = open(&disk, 100);
        assert_eq!(recovery, Recovery { frames: stored + 1, ..Recovery::default() }, "{room}");
        assert_eq!(frames(&journal, stored + 1), [(stored + 1, b"again".to_vec())], "{room}");
    }
}

#[test]
fn damage_in_the_middle_is_put_aside_and_later_segments_are_served() {
    let disk = Faulty::default();
    let (journal, _) = open(&disk, 100);
    for n in 1..=6_u8 {
        append_durably(&journal, &[n; 20]);
    }
    drop(journal);
    // Frames 3 and 4 are in the second segment; the first byte of 3's payload flips.
    disk.flip(&segment::path_of(Path::new(DIR), 3), 28 + 16);
    let (journal, recovery) = open(&disk, 100);
    assert_eq!(recovery.quarantined.len(), 1);
    assert_eq!(recovery.quarantined[0].bytes, 72);
    assert_eq!((recovery.truncated_bytes, recovery.missing), (0, vec![(3, 4)]));
    let seqs: Vec<u64> = frames(&journal, 0).iter().map(|(seq, _)| *seq).collect();
    assert_eq!(seqs, [1, 2, 5, 6]);
    assert_eq!(append_durably(&journal, b"x"), 7);
    assert_eq!(disk.len(&recovery.quarantined[0].path), 72);
}

#[test]
fn numbers_of_damaged_frames_are_not_used_again() {
    let disk = Faulty::default();
    let (journal, _) = open(&disk, 10_000);
    for n in 1..=5_u8 {
        append_durably(&journal, &[n; 20]);
    }
    drop(journal);
    disk.flip(&segment::path_of(Path::new(DIR), 1), 28 + 36 + 16); // frame 2
    let (journal, recovery) = open(&disk, 10_000);
    assert_eq!(recovery.missing, [(2, 5)]);
    assert_eq!(append_durably(&journal, b"six"), 6);
    drop(journal);
    let (journal, recovery) = open(&disk, 10_000);
    assert_eq!((recovery.frames, recovery.missing), (2, vec![(2, 5)]));
    assert_eq!(frames(&journal, 2), [(6, b"six".to_vec())]);
}

#[test]
fn a_damaged_header_puts_the_segment_aside() {
    let disk = Faulty::default();
    let (journal, _) = open(&disk, 100);
    for n in 1..=4_u8 {
        append_durably(&journal, &[n; 20]);
    }
    drop(journal);
    disk.flip(&segment::path_of(Path::new(DIR), 3), 0);
    let (journal, recovery) = open(&disk, 100);
    assert_eq!(recovery.quarantined.len(), 1);
    assert_eq!(append_durably(&journal, b"x"), 5);
}

#[test]
fn another_version_is_refused_and_nothing_is_touched() {
    let disk = Faulty::default();
    let (journal, _) = open(&disk, 100);
    for n in 1..=4_u8 {
        append_durably(&journal, &[n; 20]);
    }
    drop(journal);
    let path = segment::path_of(Path::new(DIR), 3);
    let mut header = frame::encode_segment_header(3);
    header[8] = 2;
    let check = crc32fast::hash(&header[..24]);
    header[24..].copy_from_slice(&check.to_le_bytes());
    disk.open(&path).unwrap().write_all_at(&header, 0).unwrap();
    let before = disk.snapshot();
    let opened = Journal::open_on(Arc::new(disk.clone()), Path::new(DIR), options(100));
    let error = opened.err().unwrap();
    assert!(matches!(error, Error::Version { found: 2, expected: 1, .. }), "{error}");
    assert_eq!(disk.snapshot(), before);
}

#[test]
fn a_reader_that_is_ahead_sets_the_next_number() {
    let disk = Faulty::default();
    let ahead = Options { next_seq_min: 100, ..options(1000) };
    let on = |options| Journal::open_on(Arc::new(disk.clone()), Path::new(DIR), options).unwrap().0;
    let journal = on(ahead.clone());
    assert_eq!(append_durably(&journal, b"a"), 100);
    drop(journal);
    let journal = on(Options { next_seq_min: 200, ..ahead.clone() });
    drop(journal);
    let journal = on(ahead);
    assert_eq!(append_durably(&journal, b"b"), 200);
    assert_eq!(frames(&journal, 101), [(200, b"b".to_vec())]);
}

#[test]
fn appends_during_a_sync_share_the_next() {
    let disk = Faulty::default();
    let (journal, _) = open(&disk, 1 << 20);
    let syncs = disk.syncs();
    let held = disk.gate.lock().unwrap();
    let mut last = 0;
    for _ in 0..100 {
        last = journal.append(&[b"x"]).unwrap();
    }
    drop(held);
    journal.durable_blocking(last).unwrap();
    assert!(disk.syncs() - syncs <= 2, "{} syncs for 100 frames", disk.syncs() - syncs);
}

#[test]
fn many_threads_append_in_one_order() {
    for gather in [Duration::ZERO, Duration::from_millis(2)] {
        let disk = Faulty::default();
        let options = Options { gather, ..options(2000) };
        let opened = Journal::open_on(Arc::new(disk.clone()), Path::new(DIR), options);
        let (journal, _) = opened.unwrap();
        std::thread::scope(|scope| {
            for thread in 0..8_u8 {
                let journal = &journal;
                scope.spawn(move || {
                    for turn in 0..20_u8 {
                        append_durably(journal, &[thread, turn]);
                    }
                });
            }
        });
        let all = frames(&journal, 0);
        assert_eq!(all.len(), 160);
        for thread in 0..8_u8 {
            let own = all.iter().filter(|(_, payload)| payload[0] == thread);
            assert!(own.map(|(_, payload)| payload[1]).eq(0..20), "in the order of its thread");
        }
    }
}

#[tokio::test]
async fn async_waiters_are_told() {
    let disk = Faulty::default();
    let (journal, _) = open(&disk, 1 << 20);
    let seq = journal.append(&[b"x"]).unwrap();
    journal.durable(seq).await.unwrap();
    assert_eq!(journal.stats().durable_seq, seq);
    disk.set(|faults| faults.sync_fails = true);
    let seq = journal.append(&[b"y"]).unwrap();
    assert!(matches!(journal.durable(seq).await, Err(Error::Poisoned(_))));
}
