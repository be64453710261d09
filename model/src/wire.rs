//! The names that Taffrail's agent adds to OTLP, and the rules of its batches.
//!
//! An agent's batch is a plain OTLP `ExportLogsServiceRequest` or `ExportMetricsServiceRequest`
//! (opentelemetry-proto 1.x), protobuf, `Content-Encoding: zstd`, posted to `/v1/logs` or
//! `/v1/metrics`. Any OTLP receiver can take it; ours reads a few names more:
//!
//! - The instrumentation scope is [`AGENT_SCOPE`]. Then resource attributes are stream labels (or
//!   series labels) under exactly their names, but for those that begin with `taffrail.` or `log.`.
//! - One `ResourceLogs` covers one range of one file, given by [`SOURCE`], [`BEGIN`], [`END`],
//!   [`ORIGIN`] and [`CHECK`] (see [`crate::SourceRange`]). Integers are OTLP integers; [`CHECK`] is
//!   the bit pattern of a `u64`. A `ResourceLogs` may hold no record at all: it moves the position.
//!   Several `ResourceLogs` of a batch may name the same range (a container's stdout and stderr are
//!   two streams in one file); the ranges of one file follow each other within a batch.
//! - A batch is committed as a whole, when each of its ranges continues its file's committed position.
//!   When all of them are committed already, nothing is stored and the answer is 200. When neither
//!   holds, nothing is stored and the answer is 409 with a [`CONFLICT_CONTENT_TYPE`] body:
//!   `{"positions":[{"source":"…","committed":123,"check":456}]}` for each file of the batch. (A line
//!   may begin in one file and end in the next: what is new in the one only was put together wrong.)
//! - Bytes of a file that are lost for good are part of a range too: a line with [`META_GAP_BYTES`]
//!   stands for them. So a range never has a hole, and a loss is committed once, as a line is.
//! - `GET /api/v1/agent/positions?prefix=P` answers the same shape for all sources whose identity
//!   begins with `P`; agents begin their identities with `<node>/`.
//! - A scraped metric is an OTLP gauge whose name is the series' name as scraped; its declared type
//!   is [`METRIC_KIND`] in the metric's metadata; a staleness marker is a point with the flag
//!   `NO_RECORDED_VALUE`.

/// Name of the instrumentation scope of an agent's batches.
pub const AGENT_SCOPE: &str = "taffrail.agent";
/// Resource attribute: identity of the file (string).
pub const SOURCE: &str = "taffrail.source";
/// Resource attribute: first byte of the range (integer).
pub const BEGIN: &str = "taffrail.begin";
/// Resource attribute: first byte after the range (integer).
pub const END: &str = "taffrail.end";
/// Resource attribute: where reading of the file began (integer; absent means 0).
pub const ORIGIN: &str = "taffrail.origin";
/// Resource attribute: hash of the bytes before the end (integer; absent means 0).
pub const CHECK: &str = "taffrail.check";
/// Resource attribute: path of the file, for people (string; an OpenTelemetry convention).
pub const FILE_PATH: &str = "log.file.path";
/// Metric metadata: the declared type of a scraped metric (string, as in `# TYPE`).
pub const METRIC_KIND: &str = "taffrail.metric.kind";
/// Content type of the answer to a batch that does not continue what is committed.
pub const CONFLICT_CONTENT_TYPE: &str = "application/json";
/// Path at which an agent asks for the committed positions.
pub const POSITIONS_PATH: &str = "/api/v1/agent/positions";
/// Line metadata: the line was cut at the limit; the value is its length in bytes before the cut.
pub const META_CUT: &str = "taffrail_cut";
/// Line metadata: the line is the part of a longer line whose end never came.
pub const META_PARTIAL: &str = "taffrail_partial";
/// Line metadata: the line was not in the format of its file and is kept as it was.
pub const META_RAW: &str = "taffrail_raw";
/// Line metadata: the line stands for bytes of its file that are lost; the value is how many.
pub const META_GAP_BYTES: &str = "taffrail_gap_bytes";
/// Line metadata of such a line: the path of the file.
pub const META_GAP_PATH: &str = "taffrail_gap_path";
/// Line metadata of such a line: why they are lost.
pub const META_GAP_REASON: &str = "taffrail_gap_reason";
