//! What a body will take in memory once it is decoded, told from a look at it before. Pure.
//!
//! Two bytes on the wire are an empty record, which takes hundreds in memory, and what is said once of
//! a resource is repeated with each of its lines: without a limit a body far below that of the wire
//! could ask for gigabytes. The look follows the messages that repeat, and counts too much rather
//! than too little; whether the body makes sense is for the decoder to say.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogramDataPoint, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, SummaryDataPoint, summary_data_point::ValueAtQuantile,
};
use taffrail_model::limits::BODY_BYTES_MAX;

use super::loki_push::proto::{Entry, Pair, Stream};
use super::refusal::Refusal;
use crate::wal::Kind;

/// Most that the messages of a request, or its lines with their metadata, may take, in bytes.
const DECODED_BYTES_MAX: usize = 4 * BODY_BYTES_MAX;

/// What an object in JSON counts for: an attribute is two of them, a record some.
const OBJECT_BYTES: usize = 64;

/// Messages within messages; deeper ones are refused by the decoder.
const DEPTH_MAX: usize = 100;

/// What is left of [`DECODED_BYTES_MAX`].
pub(super) struct Room(usize);

impl Default for Room {
    fn default() -> Self {
        Self(DECODED_BYTES_MAX)
    }
}

impl Room {
    /// Takes room for `count` things of so many bytes.
    ///
    /// # Errors
    /// [`Refusal::TooLarge`] when there is not so much.
    pub(super) fn take(&mut self, count: usize, bytes: usize) -> Result<(), Refusal> {
        let left = self.0.checked_sub(count.saturating_mul(bytes));
        let what = "what the request takes in memory";
        self.0 = left.ok_or(Refusal::TooLarge { what, limit: DECODED_BYTES_MAX })?;
        Ok(())
    }
}

/// Checks a plain body.
///
/// # Errors
/// [`Refusal::TooLarge`] when it would take too much.
pub(super) fn check(kind: Kind, body: &[u8]) -> Result<(), Refusal> {
    let mut room = Room::default();
    let message = match kind {
        Kind::OtlpLogs => Message::LogsRequest,
        Kind::OtlpMetrics => Message::MetricsRequest,
        Kind::LokiPush => Message::PushRequest,
        Kind::OtlpLogsJson | Kind::OtlpMetricsJson | Kind::LokiPushJson => {
            return room.take(memchr::memchr_iter(b'{', body).count(), OBJECT_BYTES);
        }
    };
    message.weigh(body, DEPTH_MAX, &mut room)
}

/// The messages that have others as fields, or are such fields.
#[derive(Clone, Copy)]
enum Message {
    LogsRequest,
    ResourceLogs,
    ScopeLogs,
    LogRecord,
    MetricsRequest,
    ResourceMetrics,
    ScopeMetrics,
    Metric,
    /// Gauge, sum, histogram or summary: all have their points in field 1.
    Points(Point),
    Point(Point),
    Quantile,
    Exemplar,
    /// Resource or scope: only their attributes count.
    Source,
    Attribute,
    Value,
    ListOfValues,
    ListOfAttributes,
    PushRequest,
    Stream,
    Entry,
    Pair,
}

#[derive(Clone, Copy)]
enum Point {
    Number,
    Histogram,
    Exponential,
    Summary,
}

impl Message {
    /// The message in a field, if it is one that counts.
    fn field(self, number: u64) -> Option<Self> {
        Some(match (self, number) {
            (Self::LogsRequest, 1) => Self::ResourceLogs,
            (Self::MetricsRequest, 1) => Self::ResourceMetrics,
            (Self::ResourceLogs | Self::ResourceMetrics | Self::ScopeLogs, 1)
            | (Self::ScopeMetrics, 1) => Self::Source,
            (Self::ResourceLogs, 2) => Self::ScopeLogs,
            (Self::ScopeLogs, 2) => Self::LogRecord,
            (Self::LogRecord, 5) | (Self::Attribute, 2) | (Self::ListOfValues, 1) => Self::Value,
            (Self::ResourceMetrics, 2) => Self::ScopeMetrics,
            (Self::ScopeMetrics, 2) => Self::Metric,
            (Self::Metric, 5 | 7) => Self::Points(Point::Number),
            (Self::Metric, 9) => Self::Points(Point::Histogram),
            (Self::Metric, 10) => Self::Points(Point::Exponential),
            (Self::Metric, 11) => Self::Points(Point::Summary),
            (Self::Points(point), 1) => Self::Point(point),
            (Self::Point(Point::Number), 5)
            | (Self::Point(Point::Histogram), 8)
            | (Self::Point(Point::Exponential), 11) => Self::Exemplar,
            (Self::Point(Point::Summary), 6) => Self::Quantile,
            (Self::LogRecord, 6)
            | (Self::Metric, 12)
            | (Self::Exemplar | Self::Point(Point::Number | Point::Summary), 7)
            | (Self::Point(Point::Histogram), 9)
            | (Self::Point(Point::Exponential) | Self::ListOfAttributes, 1)
            // A resource has them in the first field, a scope in the third.
            | (Self::Source, 1 | 3) => Self::Attribute,
            (Self::Value, 5) => Self::ListOfValues,
            (Self::Value, 6) => Self::ListOfAttributes,
            (Self::PushRequest, 1) => Self::Stream,
            (Self::Stream, 2) => Self::Entry,
            (Self::Entry, 3) => Self::Pair,
            _ => return None,
        })
    }

    /// What one takes, without what it points to.
    fn bytes(self) -> usize {
        match self {
            Self::ResourceLogs => size_of::<ResourceLogs>(),
            Self::ScopeLogs => size_of::<ScopeLogs>(),
            Self::LogRecord => size_of::<LogRecord>(),
            Self::ResourceMetrics => size_of::<ResourceMetrics>(),
            Self::ScopeMetrics => size_of::<ScopeMetrics>(),
            Self::Metric => size_of::<Metric>(),
            Self::Point(Point::Number) => size_of::<NumberDataPoint>(),
            Self::Point(Point::Histogram) => size_of::<HistogramDataPoint>(),
            Self::Point(Point::Exponential) => size_of::<ExponentialHistogramDataPoint>(),
            Self::Point(Point::Summary) => size_of::<SummaryDataPoint>(),
            Self::Quantile => size_of::<ValueAtQuantile>(),
            Self::Exemplar => size_of::<Exemplar>(),
            Self::Attribute => size_of::<KeyValue>(),
            Self::Value => size_of::<AnyValue>(),
            Self::Stream => size_of::<Stream>(),
            Self::Entry => size_of::<Entry>(),
            Self::Pair => size_of::<Pair>(),
            // A part of the message that it is in.
            Self::LogsRequest
            | Self::MetricsRequest
            | Self::PushRequest
            | Self::Points(_)
            | Self::Source
            | Self::ListOfValues
            | Self::ListOfAttributes => 0,
        }
    }

    fn weigh(self, mut body: &[u8], depth: usize, room: &mut Room) -> Result<(), Refusal> {
        while let Some((number, content)) = next_field(&mut body) {
            if let Some(message) = self.field(number)
                && depth > 0
            {
                room.take(1, message.bytes())?;
                message.weigh(content, depth - 1, room)?;
            }
        }
        Ok(())
    }
}

/// The number and content of the next field that may be a message; none at the end, or where the
/// decoder would stop too.
fn next_field<'a>(body: &mut &'a [u8]) -> Option<(u64, &'a [u8])> {
    loop {
        let key = varint(body)?;
        let bytes = match key & 7 {
            0 => {
                varint(body)?;
                0
            }
            1 => 8,
            2 => {
                let bytes = usize::try_from(varint(body)?).ok()?;
                let (content, rest) = body.split_at_checked(bytes)?;
                *body = rest;
                return Some((key >> 3, content));
            }
            // Begin and end of a group: its fields are looked at as if they stood here.
            3 | 4 => 0,
            5 => 4,
            _ => return None,
        };
        *body = body.get(bytes..)?;
    }
}

fn varint(body: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = body.split_first()?;
        *body = rest;
        number |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A field with a message in it.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2];
        let mut left = content.len();
        while left >= 0x80 {
            bytes.push((left & 0x7F) as u8 | 0x80);
            left >>= 7;
        }
        bytes.push(left as u8);
        bytes.extend_from_slice(content);
        bytes
    }

    #[test]
    fn very_many_empty_messages_are_refused_before_they_are_decoded() {
        let many = |number: u8| [number << 3 | 2, 0].repeat(BODY_BYTES_MAX / 2 - 64);
        let within = |fields: &[u8], content: Vec<u8>| {
            fields.iter().rev().fold(content, |content, number| field(*number, &content))
        };
        let cases = [
            (Kind::OtlpLogs, within(&[1, 2], many(2))),
            (Kind::OtlpLogs, within(&[1, 1], many(1))),
            (Kind::OtlpLogs, within(&[1, 2, 2], many(6))),
            (Kind::OtlpLogs, within(&[1, 2, 2, 5, 5], many(1))),
            (Kind::OtlpMetrics, within(&[1, 2], many(2))),
            (Kind::OtlpMetrics, within(&[1, 2, 2, 7], many(1))),
            (Kind::OtlpMetrics, within(&[1, 2, 2, 11, 1], many(7))),
            (Kind::LokiPush, within(&[1], many(2))),
            (Kind::OtlpLogsJson, b"{},".repeat(BODY_BYTES_MAX / 3)),
        ];
        for (number, (kind, body)) in cases.into_iter().enumerate() {
            let refused = check(kind, &body);
            assert!(matches!(refused, Err(Refusal::TooLarge { .. })), "{number}: {refused:?}");
        }
        // What stands before, in an unknown group, does not hide it.
        let body = [vec![9 << 3 | 3, 9 << 3 | 4], within(&[1, 2], many(2))].concat();
        assert!(check(Kind::OtlpLogs, &body).is_err());
    }

    #[test]
    fn text_may_fill_a_body() {
        let record = field(2, &field(5, &field(1, &[b'x'; 100])));
        let scope = field(1, &field(2, &record.repeat(BODY_BYTES_MAX / 120)));
        assert_eq!(check(Kind::OtlpLogs, &scope), Ok(()));
        let stream = field(1, &field(2, &field(2, &[b'x'; 100])).repeat(BODY_BYTES_MAX / 120));
        assert_eq!(check(Kind::LokiPush, &stream), Ok(()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_at(body in prop::collection::vec(any::<u8>(), 0..300)) {
            for kind in [Kind::OtlpLogs, Kind::OtlpMetrics, Kind::LokiPush, Kind::LokiPushJson] {
                prop_assert_eq!(check(kind, &body), Ok(()));
            }
        }
    }
}
