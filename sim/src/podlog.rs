//! Writes container logs as containerd and kubelet do: CRI lines, long lines in pieces, rotation by
//! rename, the oldest files deleted.
//!
//! Every line carries a token `@@<pod>/<container>/<stream>:<number>@@`, with numbers from 0 without
//! a gap, so that whoever finds the lines again can tell what is missing, double or out of order.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;

use taffrail_kit::clock;

use crate::rng::Rng;

/// containerd cuts a line after so many bytes (`max_container_log_line_size`).
const PIECE_BYTES: usize = 16 * 1024;

/// One container whose log is written.
#[derive(Debug)]
pub struct Container {
    folder: PathBuf,
    file: File,
    name: String,
    rng: Rng,
    written: [u64; 2],
    lines_in_file: u64,
    rotations: u64,
    rotate_after: u64,
    keep: usize,
}

/// The names of the two streams of a container.
pub const STREAMS: [&str; 2] = ["stdout", "stderr"];

impl Container {
    /// The container `main` of pod `pod` in namespace `sim` under `root` (a `/var/log/pods`-shaped
    /// folder). Its file is rotated after about `rotate_after` lines; `keep` rotated files stay.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn create(
        root: &std::path::Path,
        pod: &str,
        seed: u64,
        rotate_after: u64,
        keep: usize,
    ) -> std::io::Result<Self> {
        let folder = root.join(format!("sim_{pod}_{}", uid(pod))).join("main");
        fs::create_dir_all(&folder)?;
        let file = File::options().create(true).append(true).open(folder.join("0.log"))?;
        Ok(Self {
            folder,
            file,
            name: format!("{pod}/main"),
            rng: Rng::new(seed),
            written: [0; 2],
            lines_in_file: 0,
            rotations: 0,
            rotate_after,
            keep,
        })
    }

    /// How many lines each stream has so far, with the stream's token prefix.
    #[must_use]
    pub fn totals(&self) -> Vec<(String, u64)> {
        STREAMS
            .iter()
            .zip(self.written)
            .map(|(stream, lines)| (format!("{}/{stream}", self.name), lines))
            .collect()
    }

    /// Writes one line to one of the streams; rotates now and then, also between the pieces of a
    /// line.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_line(&mut self) -> std::io::Result<()> {
        let stream = usize::from(self.rng.below(5) == 0);
        let text = self.text(stream);
        self.written[stream] += 1;
        let mut rest = text.as_str();
        while rest.len() > PIECE_BYTES {
            let (piece, tail) = rest.split_at(PIECE_BYTES);
            self.write_piece(stream, 'P', piece)?;
            rest = tail;
            if self.rng.below(4) == 0 {
                self.rotate()?;
            }
        }
        self.write_piece(stream, 'F', rest)?;
        self.lines_in_file += 1;
        if self.lines_in_file >= self.rotate_after {
            self.rotate()?;
        }
        Ok(())
    }

    fn text(&mut self, stream: usize) -> String {
        let mut text = String::with_capacity(200);
        let token = format!("@@{}/{}:{}@@", self.name, STREAMS[stream], self.written[stream]);
        let request = self.rng.next_u64();
        match self.rng.below(4) {
            0 => write!(
                text,
                r#"{{"level":"info","msg":"served {token}","request":"{request:016x}"}}"#
            ),
            1 => write!(text, "level=warn msg=\"slow {token}\" ms={}", request % 5000),
            2 => write!(
                text,
                "10.0.0.{} - - \"GET /{token} HTTP/1.1\" 200 {}",
                request % 250,
                request % 90_000
            ),
            _ => write!(text, "ERROR [worker-{}] could not {token}", request % 16),
        }
        .expect("writing to a string does not fail");
        // One line in a hundred is so long that the runtime cuts it.
        if self.rng.below(100) == 0 {
            let length = usize::try_from(self.rng.below(60_000)).expect("small");
            text.extend(std::iter::repeat_n('x', length));
        }
        text
    }

    fn write_piece(&mut self, stream: usize, tag: char, text: &str) -> std::io::Result<()> {
        let time = cri_time(clock::unix_nanos());
        // One write for the whole line, as containerd does.
        self.file.write_all(format!("{time} {} {tag} {text}\n", STREAMS[stream]).as_bytes())
    }

    /// What kubelet does: rename, let the runtime open a new file, delete the oldest.
    fn rotate(&mut self) -> std::io::Result<()> {
        self.rotations += 1;
        self.lines_in_file = 0;
        let live = self.folder.join("0.log");
        // kubelet's names have a resolution of a second; a number keeps faster rotations apart and
        // in order.
        fs::rename(&live, self.folder.join(format!("0.log.20261120-{:06}", self.rotations)))?;
        self.file = File::options().create_new(true).append(true).open(&live)?;
        let mut rotated: Vec<PathBuf> = fs::read_dir(&self.folder)?
            .filter_map(|entry| entry.ok().map(|e| e.path()))
            .filter(|path| {
                path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("0.log."))
            })
            .collect();
        rotated.sort();
        while rotated.len() > self.keep {
            fs::remove_file(rotated.remove(0))?;
        }
        Ok(())
    }
}

/// A pod's uid, made from its name.
#[must_use]
pub fn uid(pod: &str) -> String {
    let mut seed = 7_u64;
    for byte in pod.bytes() {
        seed = seed.wrapping_mul(131).wrapping_add(u64::from(byte));
    }
    let mut rng = Rng::new(seed);
    let (a, b) = (rng.next_u64(), rng.next_u64());
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        a >> 32,
        a & 0xffff,
        (a >> 16) & 0xfff,
        b >> 52,
        b & 0xffff_ffff_ffff
    )
}

/// A pod list in the shape of `kubectl get pods -o json` for these pods, each labelled
/// `app=<pod>` and `tier=sim`.
#[must_use]
pub fn pod_list(pods: &[String], node: &str) -> String {
    let items: Vec<serde_json::Value> = pods
        .iter()
        .map(|pod| {
            serde_json::json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": pod, "namespace": "sim", "uid": uid(pod),
                    "labels": {"app": pod, "tier": "sim", "app.kubernetes.io/part-of": "taffrail"},
                },
                "spec": {"nodeName": node, "containers": [{"name": "main", "image": "sim"}]},
                "status": {"phase": "Running", "podIP": "127.0.0.1"},
            })
        })
        .collect();
    serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

/// RFC 3339 with nine fraction digits, as containerd writes it.
#[must_use]
pub fn cri_time(nanos: i64) -> String {
    let text = taffrail_model::time::format_rfc3339(nanos);
    let whole = text.trim_end_matches('Z');
    let (seconds, fraction) = whole.split_once('.').unwrap_or((whole, ""));
    format!("{seconds}.{fraction:0<9}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_always_have_nine_digits() {
        let cases = [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (1_500_000_000, "1970-01-01T00:00:01.500000000Z"),
            (1_795_186_292_000_000_001, "2026-11-20T14:51:32.000000001Z"),
        ];
        for (nanos, expected) in cases {
            assert_eq!(cri_time(nanos), expected);
        }
    }
}
