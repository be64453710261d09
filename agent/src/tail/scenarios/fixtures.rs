//! Folders of logs that a real kubelet and a real containerd have written.

use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};

use crate::discover::parse_pod_log_path;
use crate::tail::cri;
use crate::tail::lines::Lines;

/// Name and content of each regular file of a `.tar.gz`.
fn unpack(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut bytes = Vec::new();
    let packed = std::fs::File::open(path).unwrap();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut bytes).unwrap();
    let text = |field: &[u8]| {
        let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
        String::from_utf8_lossy(&field[..end]).trim().to_owned()
    };
    let mut files = Vec::new();
    let mut rest = &bytes[..];
    let mut long_name = None;
    while rest.len() >= 512 && rest[0] != 0 {
        let (header, after) = rest.split_at(512);
        let size = usize::from_str_radix(&text(&header[124..136]), 8).unwrap();
        let content = &after[..size];
        rest = &after[size.div_ceil(512) * 512..];
        let prefix = text(&header[345..500]);
        let name = PathBuf::from(prefix).join(text(&header[..100]));
        match header[156] {
            // GNU tar: the content is the name of the next file.
            b'L' => long_name = Some(PathBuf::from(text(content))),
            b'0' | 0 => files.push((long_name.take().unwrap_or(name), content.to_vec())),
            _ => long_name = None,
        }
    }
    files
}

#[test]
fn logs_of_real_runtimes_are_understood() {
    let beside = || concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures").into();
    let root = std::env::var_os("FIXTURES_DIR").map_or_else(beside, PathBuf::from);
    let mut files = 0;
    let mut lines = 0;
    for set in ["k120", "k136", "k136b", "k136static"] {
        let archive = root.join("kubernetes").join(set).join("varlog_pods.tar.gz");
        if !archive.exists() {
            let _ = writeln!(std::io::stderr(), "SKIPPED: {} not found", archive.display());
            continue;
        }
        for (path, content) in unpack(&archive) {
            let Some(found) = parse_pod_log_path(&path) else {
                assert!(!path.to_string_lossy().contains(".log"), "{}", path.display());
                continue;
            };
            files += 1;
            let mut plain = content;
            if found.place.packed {
                let mut unpacked = Vec::new();
                flate2::read::GzDecoder::new(&plain[..]).read_to_end(&mut unpacked).unwrap();
                plain = unpacked;
            }
            Lines::new(0, 1 << 20).push(&plain, |line| {
                lines += 1;
                let text = String::from_utf8_lossy(line.text);
                assert!(cri::parse(line.text).is_some(), "{}: {text}", path.display());
            });
        }
    }
    eprintln!("{files} files, {lines} lines of real runtimes");
    assert!(files == 0 || lines > 0);
}
