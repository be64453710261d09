//! `taffrail up` as a process: what becomes of its programs when it is killed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A collector that is never ready, notes where it has begun, and notes when it is asked to end.
const COLLECTOR: &str = "#!/bin/sh
cd \"$(dirname \"$0\")\"
trap 'echo ended > ended; exit 0' TERM
echo begun > begun
while :; do sleep 0.05; done
";

fn wait_for(file: &Path) {
    let begun = Instant::now();
    while fs::read_to_string(file).unwrap_or_default().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(30), "no {}", file.display());
        std::thread::yield_now();
    }
}

#[test]
#[cfg(target_os = "linux")]
fn programs_end_when_up_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let taffrail = folder.path().join("taffrail");
    fs::copy(env!("CARGO_BIN_EXE_taffrail"), &taffrail).unwrap();
    let collector = folder.path().join("taffrail-collector");
    fs::write(&collector, COLLECTOR).unwrap();
    fs::set_permissions(&collector, fs::Permissions::from_mode(0o755)).unwrap();
    let mut up = Command::new(&taffrail)
        .args(["up", "--http", "127.0.0.1:0", "--data-dir"])
        .arg(folder.path().join("data"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_for(&folder.path().join("begun"));
    up.kill().unwrap();
    up.wait().unwrap();
    wait_for(&folder.path().join("ended"));
}
