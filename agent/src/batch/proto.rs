//! Writes the few protobuf messages of an OTLP logs request straight into a buffer.
//!
//! The generated structs would need an allocation for each line and each attribute; these functions
//! need none. Field numbers are those of `opentelemetry/proto/logs/v1/logs.proto`; a test reads what
//! is written here with the generated code.
//!
//! Pure: bytes only.

/// `ExportLogsServiceRequest.resource_logs`.
pub(super) const REQUEST_RESOURCE_LOGS: u32 = 1;
/// `ResourceLogs.resource`.
pub(super) const RESOURCE_LOGS_RESOURCE: u32 = 1;
/// `ResourceLogs.scope_logs`.
pub(super) const RESOURCE_LOGS_SCOPE_LOGS: u32 = 2;
/// `Resource.attributes`.
pub(super) const RESOURCE_ATTRIBUTES: u32 = 1;
/// `ScopeLogs.scope`.
pub(super) const SCOPE_LOGS_SCOPE: u32 = 1;
/// `ScopeLogs.log_records`.
pub(super) const SCOPE_LOGS_RECORDS: u32 = 2;
/// `InstrumentationScope.name`.
pub(super) const SCOPE_NAME: u32 = 1;
/// `LogRecord.attributes`.
pub(super) const RECORD_ATTRIBUTES: u32 = 6;

const RECORD_TIME: u32 = 1;
const RECORD_SEVERITY: u32 = 2;
const RECORD_BODY: u32 = 5;
const RECORD_OBSERVED: u32 = 11;
const ANY_STRING: u32 = 1;
const ANY_INT: u32 = 3;
const KEY: u32 = 1;
const VALUE: u32 = 2;

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const DELIMITED: u32 = 2;

/// What a `LogRecord` says besides its attributes.
pub(super) struct RecordHead<'a> {
    pub(super) time: u64,
    pub(super) observed: u64,
    pub(super) severity: u64,
    pub(super) body: &'a str,
}

/// Writes one entry of `ScopeLogs.log_records`; `attributes` are ready-made bytes.
pub(super) fn log_record(out: &mut Vec<u8>, head: &RecordHead<'_>, attributes: &[u8]) {
    let text = head.body.len();
    let any = 1 + varint_len(text as u64) + text;
    let severity = if head.severity == 0 { 0 } else { 1 + varint_len(head.severity) };
    let len = 18 + severity + 1 + varint_len(any as u64) + any + attributes.len();
    out.reserve(len + 6);
    key(out, SCOPE_LOGS_RECORDS, DELIMITED);
    varint(out, len as u64);
    key(out, RECORD_TIME, FIXED64);
    out.extend_from_slice(&head.time.to_le_bytes());
    if head.severity != 0 {
        key(out, RECORD_SEVERITY, VARINT);
        varint(out, head.severity);
    }
    key(out, RECORD_BODY, DELIMITED);
    varint(out, any as u64);
    string(out, ANY_STRING, head.body);
    out.extend_from_slice(attributes);
    key(out, RECORD_OBSERVED, FIXED64);
    out.extend_from_slice(&head.observed.to_le_bytes());
}

/// Writes a `KeyValue` with a string as field `field`.
pub(super) fn string_attribute(out: &mut Vec<u8>, field: u32, name: &str, value: &str) {
    let any = 1 + varint_len(value.len() as u64) + value.len();
    attribute_head(out, field, name, any);
    string(out, ANY_STRING, value);
}

/// Writes a `KeyValue` with an integer as field `field`.
pub(super) fn int_attribute(out: &mut Vec<u8>, field: u32, name: &str, value: u64) {
    attribute_head(out, field, name, 1 + varint_len(value));
    key(out, ANY_INT, VARINT);
    varint(out, value);
}

fn attribute_head(out: &mut Vec<u8>, field: u32, name: &str, any: usize) {
    let len = 1 + varint_len(name.len() as u64) + name.len() + 1 + varint_len(any as u64) + any;
    key(out, field, DELIMITED);
    varint(out, len as u64);
    string(out, KEY, name);
    key(out, VALUE, DELIMITED);
    varint(out, any as u64);
}

/// Writes a field of text.
pub(super) fn string(out: &mut Vec<u8>, field: u32, text: &str) {
    message(out, field, text.as_bytes());
}

/// Writes a field whose bytes are ready.
pub(super) fn message(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    message_head(out, field, bytes.len());
    out.extend_from_slice(bytes);
}

/// Writes the key and the length of a field whose `len` bytes follow.
pub(super) fn message_head(out: &mut Vec<u8>, field: u32, len: usize) {
    key(out, field, DELIMITED);
    varint(out, len as u64);
}

/// How long a field of `len` bytes becomes. All field numbers here are below 16.
pub(super) fn message_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

fn key(out: &mut Vec<u8>, field: u32, wire: u32) {
    varint(out, u64::from(field << 3 | wire));
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_len(value: u64) -> usize {
    // Seven bits a byte; the bit that is or-ed in makes zero one byte long.
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn length_is_what_is_written(value in any::<u64>(), shift in 0_u32..64) {
            let value = value >> shift;
            let mut out = Vec::new();
            varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_len(value));
            prop_assert_eq!(prost::decode_length_delimiter(&out[..]).ok(), usize::try_from(value).ok());
        }
    }
}
