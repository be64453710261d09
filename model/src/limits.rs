//! Every hard limit of the wire and the stores, with its unit in the name and its reason above it.
//! Limits that a user may turn are settings of the binaries; these are not.

/// Longest log line that is stored, in bytes. Longer lines are cut by the agent and marked; other
/// clients get an error. Loki's default is 256 KiB; Java stack traces and JSON dumps exceed it.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// Most labels on one stream. Kubernetes has no limit on labels of a pod; the API server's request
/// limit (3 MiB) is the practical one. This guards the collector against a runaway client.
pub const STREAM_LABELS_MAX: usize = 256;

/// Longest label name, in bytes. Kubernetes allows 253 + 1 + 63.
pub const LABEL_NAME_BYTES_MAX: usize = 1024;

/// Longest label value, in bytes (Loki: 2048; Kubernetes' own are 63, annotations are not labels).
pub const LABEL_VALUE_BYTES_MAX: usize = 4096;

/// Most structured metadata of one line, names and values together, in bytes (Loki: 64 KiB).
pub const METADATA_BYTES_MAX: usize = 64 << 10;

/// Largest body of a request after decompression, in bytes. The agent's batches are far below.
pub const BODY_BYTES_MAX: usize = 64 << 20;

/// Largest body of a request as it comes over the wire, in bytes.
pub const WIRE_BYTES_MAX: usize = 16 << 20;

/// What an agent puts into one batch at the most, in bytes of text before compression.
pub const BATCH_BYTES_MAX: usize = 4 << 20;

/// Longest query text, in bytes.
pub const QUERY_BYTES_MAX: usize = 128 << 10;

/// Most regular expressions of one query, and of all selectors of one request together: each may
/// take [`regex_bytes_max`] once compiled.
pub const REGEXES_MAX: usize = 64;

/// Most selectors (`match[]`) of one request.
pub const SELECTORS_MAX: usize = 100;

/// Largest compiled form of a regular expression, in bytes. It grows with the text, so that a list
/// of thousands of names fits, while a short text with big repetitions does not: a request can take
/// no more memory than its length and [`REGEXES_MAX`] allow.
#[must_use]
pub const fn regex_bytes_max(pattern: &str) -> usize {
    (1 << 20) + 100 * pattern.len()
}
