//! A corpus of container logs from a seed: many streams with Zipf-like rates over six hours.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use taffrail_kit::clock;
use taffrail_query::demo::corpus::Corpus;
use taffrail_query::demo::random::Zipf;

use crate::podlog::{cri_time, uid};

/// The corpus spans so much time and ends now.
const SPAN_NANOS: i64 = 6 * 3600 * 1_000_000_000;

/// What was written.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// Bytes of message text.
    pub text_bytes: u64,
    /// Bytes of the files.
    pub file_bytes: u64,
    /// Lines.
    pub lines: u64,
    /// Time of the newest line, nanoseconds.
    pub newest: i64,
}

/// Writes `mb` MB of text: one log file a stream under `pods/`, and the list of the pods, all of
/// `node`, in `pods.json`.
///
/// # Errors
/// When a file cannot be written.
pub fn write(
    folder: &Path,
    node: &str,
    mb: u64,
    streams: usize,
    seed: u64,
) -> anyhow::Result<Written> {
    let mut corpus = Corpus::new(seed);
    let zipf = Zipf::new(streams);
    let mut files = Vec::new();
    let mut items = Vec::new();
    for n in 0..streams {
        let spec = corpus.stream(n);
        let pod_folder =
            folder.join("pods").join(format!("{}_{}_{}", spec.namespace, spec.pod, uid(&spec.pod)));
        std::fs::create_dir_all(pod_folder.join(&spec.container))?;
        files.push(BufWriter::with_capacity(
            1 << 16,
            File::create(pod_folder.join(&spec.container).join("0.log"))?,
        ));
        let labels: serde_json::Map<String, serde_json::Value> = spec
            .labels
            .iter()
            .filter(|(name, _)| {
                !["namespace", "pod", "container", "node", "stream", "job", "cluster"]
                    .contains(name)
            })
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        items.push(serde_json::json!({
            "metadata": {"name": spec.pod, "namespace": spec.namespace, "uid": uid(&spec.pod), "labels": labels},
            "spec": {"nodeName": node, "containers": [{"name": spec.container}]},
            "status": {"phase": "Running", "podIP": "127.0.0.1"},
        }));
    }
    std::fs::write(
        folder.join("pods.json"),
        serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string(),
    )?;
    let mut written = Written { text_bytes: 0, file_bytes: 0, lines: 0, newest: 0 };
    let target = mb * 1_000_000;
    let end = clock::unix_nanos();
    let mut line = String::new();
    while written.text_bytes < target {
        let n = corpus.pick(&zipf);
        // Time goes with the bytes, so that the last line is of now whatever the size.
        let done = written.text_bytes as f64 / target as f64;
        let time = end - SPAN_NANOS + (SPAN_NANOS as f64 * done) as i64;
        corpus.set_time(time);
        line.clear();
        corpus.write_line(n, &mut line);
        let prefix = format!("{} stdout F ", cri_time(time));
        files[n].write_all(prefix.as_bytes())?;
        files[n].write_all(line.as_bytes())?;
        files[n].write_all(b"\n")?;
        written.text_bytes += line.len() as u64;
        written.file_bytes += (prefix.len() + line.len() + 1) as u64;
        written.lines += 1;
        written.newest = time;
    }
    for mut file in files {
        file.flush()?;
    }
    Ok(written)
}
