use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::*;

fn tail(path: &Path, position: u64) -> TailFile {
    let file = open(path, None).unwrap();
    let head = Head {
        number: FileNumber(1),
        id: identity::look(&file).unwrap().id,
        source: "n/1".into(),
        generation: 0,
        found: Found {
            path: path.to_owned(),
            beneath: None,
            kind: FileKind::Plain { path: "x".into() },
            place: Place::default(),
        },
    };
    TailFile::plain(file, head, position, 100).unwrap()
}

/// Reads once and takes the bytes, as the chain does.
fn step(file: &mut TailFile) -> Result<Vec<u8>, Read> {
    let mut buffer = vec![1; 8192];
    match file.read(&mut buffer).unwrap() {
        Read::Data(range) => {
            file.lines.push(&buffer[range.clone()], |_| {});
            file.remember(&buffer[range.clone()]);
            Ok(buffer[range].to_vec())
        }
        Read::Skipped(_) => step(file),
        other => Err(other),
    }
}

#[test]
fn growth_truncation_and_rewriting() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.log");
    std::fs::write(&path, "one\n").unwrap();
    let mut file = tail(&path, 0);
    assert_eq!(step(&mut file), Ok(b"one\n".to_vec()));
    assert_eq!(step(&mut file), Err(Read::End));
    let mut writer = File::options().append(true).open(&path).unwrap();
    writer.write_all(b"two\n").unwrap();
    assert_eq!(step(&mut file), Ok(b"two\n".to_vec()));
    assert_eq!(file.check(8), identity::check(b"one\ntwo\n"));
    assert_eq!(file.check(4), identity::check(b"one\n"));
    // The same length as before, other bytes: one look at the size would not see it.
    writer.set_len(0).unwrap();
    writer.write_all(b"six\nten\n").unwrap();
    assert_eq!(step(&mut file), Err(Read::Replaced));
    file.begin_anew(FileNumber(2), "n/2".into(), 100);
    assert_eq!(step(&mut file), Ok(b"six\nten\n".to_vec()));
    writer.set_len(4).unwrap();
    assert_eq!(step(&mut file), Err(Read::Replaced));
}

#[test]
fn what_is_told_where_it_is_read_to_counts_as_committed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.log");
    std::fs::write(&path, "one\n").unwrap();
    let mut file = tail(&path, 0);
    step(&mut file).unwrap();
    assert_eq!((file.position(), file.committed), (4, 0));
    file.rewind(4, 100).unwrap();
    assert_eq!((file.position(), file.committed), (4, 4));
}

#[test]
fn an_unlinked_file_is_read_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.log");
    std::fs::write(&path, "one\n").unwrap();
    let mut file = tail(&path, 0);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(step(&mut file), Ok(b"one\n".to_vec()));
    assert_eq!(file.look().unwrap().links, 0);
    file.rewind(0, 100).unwrap();
    assert_eq!(step(&mut file), Ok(b"one\n".to_vec()));
    file.close();
    assert!(file.rewind(0, 100).is_err());
}

#[test]
fn a_hole_is_passed_over() {
    const END: u64 = 1 << 40;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.log");
    // It begins in the middle of a page when the file held something before.
    for before in ["", "begin\n"] {
        let sparse = File::create(&path).unwrap();
        sparse.write_all_at(before.as_bytes(), 0).unwrap();
        sparse.set_len(END).unwrap();
        let mut file = tail(&path, before.len() as u64);
        assert_eq!(step(&mut file), Err(Read::End), "nothing but a hole");
        sparse.write_all_at(b"end\n", END).unwrap();
        assert_eq!(step(&mut file), Ok(b"end\n".to_vec()));
        assert_eq!(file.position(), END + 4);
        // Zeros that were written are content.
        sparse.write_all_at(&[0; 5000], END + 4).unwrap();
        assert_eq!(step(&mut file), Ok(vec![0; 5000]));
    }
}

#[test]
fn a_call_passes_over_one_hole() {
    const PAGE: u64 = 4096;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.log");
    let sparse = File::create(&path).unwrap();
    for page in (1..16).step_by(2) {
        sparse.write_all_at(&[0; 4096], page * PAGE).unwrap();
    }
    let mut file = tail(&path, 0);
    let mut buffer = vec![0; 64 << 10];
    assert!(matches!(file.read(&mut buffer), Ok(Read::Skipped(bytes)) if bytes > 0));
    assert_eq!(file.position(), PAGE);
    assert!(matches!(file.read(&mut buffer), Ok(Read::Skipped(_))));
    assert_eq!(file.position(), 3 * PAGE);
}

#[test]
fn links_do_not_lead_out_of_a_volume() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("volume");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(folder.path().join("secret"), "x").unwrap();
    std::fs::write(root.join("a.log"), "x").unwrap();
    std::os::unix::fs::symlink("../secret", root.join("evil.log")).unwrap();
    assert!(open(&root.join("a.log"), Some(&root)).is_ok());
    assert!(open(&root.join("evil.log"), Some(&root)).is_err());
    assert!(open(&root.join("../secret"), Some(&root)).is_err());
}
