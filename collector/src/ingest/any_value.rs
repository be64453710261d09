//! OTLP attribute values as text: strings as they are, numbers and booleans printed, lists and maps
//! as JSON, bytes in hex, as ids are written. Pure.

use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use serde_json::Value as Json;

/// Lists and maps deeper than this are cut. The protobuf decoder allows a hundred.
const DEPTH_MAX: usize = 32;

/// The text of a value; empty when there is none.
#[must_use]
pub fn text_of(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        None => String::new(),
        Some(Value::StringValue(text)) => text,
        Some(value) => match json_of(value, DEPTH_MAX) {
            Json::String(text) => text,
            json => json.to_string(),
        },
    }
}

/// Bytes in lower-case hex, the way trace ids are written.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).expect("below sixteen");
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn json_of(value: Value, depth: usize) -> Json {
    let inner = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(value) if depth > 0 => json_of(value, depth - 1),
        _ => Json::Null,
    };
    match value {
        Value::StringValue(text) => Json::String(text),
        Value::BoolValue(yes) => Json::Bool(yes),
        Value::IntValue(number) => number.into(),
        // JSON has no word for these; the text is Go's and Prometheus'.
        Value::DoubleValue(number) if number.is_nan() => "NaN".into(),
        Value::DoubleValue(number) if number.is_infinite() => {
            if number > 0.0 { "+Inf" } else { "-Inf" }.into()
        }
        Value::DoubleValue(number) => number.into(),
        Value::ArrayValue(list) => list.values.into_iter().map(|v| inner(Some(v))).collect(),
        Value::KvlistValue(map) => {
            let pairs = map.values.into_iter().map(|pair| (pair.key, inner(pair.value)));
            Json::Object(pairs.collect())
        }
        Value::BytesValue(bytes) => hex(&bytes).into(),
        // An index into a table that only profiles have.
        Value::StringValueStrindex(_) => Json::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::common::v1::{ArrayValue, KeyValue, KeyValueList};

    fn any(value: Value) -> AnyValue {
        AnyValue { value: Some(value) }
    }

    #[test]
    fn values_print_as_people_expect() {
        let list = ArrayValue {
            values: vec![any(Value::IntValue(1)), any(Value::StringValue("a".into()))],
        };
        let pair = KeyValue {
            key: "k".into(),
            value: Some(any(Value::ArrayValue(list))),
            ..KeyValue::default()
        };
        let map = KeyValueList { values: vec![pair] };
        let cases = [
            (Value::StringValue("a \"b\"".into()), "a \"b\""),
            (Value::IntValue(-3), "-3"),
            (Value::DoubleValue(1.5), "1.5"),
            (Value::DoubleValue(f64::NAN), "NaN"),
            (Value::BoolValue(true), "true"),
            (Value::BytesValue(vec![0, 255]), "00ff"),
            (Value::KvlistValue(map), r#"{"k":[1,"a"]}"#),
        ];
        for (value, expected) in cases {
            assert_eq!(text_of(Some(any(value))), expected);
        }
        assert_eq!(text_of(None), "");
    }

    #[test]
    fn deep_values_are_cut() {
        let mut value = any(Value::IntValue(1));
        for _ in 0..90 {
            value = any(Value::ArrayValue(ArrayValue { values: vec![value] }));
        }
        assert!(text_of(Some(value)).contains("null"));
    }
}
