//! OTLP attribute values as text, the same for logs and metrics: strings as they are, numbers and
//! booleans printed, lists and maps as JSON, bytes in base64, as OpenTelemetry says for targets that
//! know text alone. Pure.

use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use serde_json::Value as Json;

/// Lists and maps deeper than this are cut. The protobuf decoder allows a hundred.
const DEPTH_MAX: usize = 32;
/// Numbers from here on, and below its like under one, are printed with an exponent, as JSON is
/// elsewhere.
const EXPONENT_FROM: f64 = 1e21;
const EXPONENT_BELOW: f64 = 1e-6;

/// The text of a value that is not needed any more; empty when there is none.
#[must_use]
pub fn into_text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        value => text_of_value(value.as_ref()),
    }
}

/// The text of a value; empty when there is none.
#[must_use]
pub fn text_of(value: Option<&AnyValue>) -> String {
    text_of_value(value.and_then(|value| value.value.as_ref()))
}

/// Bytes in lower-case hex, the way trace ids are written.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).expect("below sixteen");
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn text_of_value(value: Option<&Value>) -> String {
    match value {
        None => String::new(),
        Some(Value::DoubleValue(number)) if number.is_finite() => {
            let size = number.abs();
            if size >= EXPONENT_FROM || (size > 0.0 && size < EXPONENT_BELOW) {
                format!("{number:e}")
            } else {
                number.to_string()
            }
        }
        Some(value) => match json_of(value, DEPTH_MAX) {
            Json::String(text) => text,
            Json::Null => String::new(),
            json => json.to_string(),
        },
    }
}

fn json_of(value: &Value, depth: usize) -> Json {
    let inner = |value: Option<&AnyValue>| match value.and_then(|value| value.value.as_ref()) {
        Some(value) if depth > 0 => json_of(value, depth - 1),
        _ => Json::Null,
    };
    match value {
        Value::StringValue(text) => Json::from(text.as_str()),
        Value::BoolValue(yes) => Json::Bool(*yes),
        Value::IntValue(number) => (*number).into(),
        // JSON has no word for these; the text is Go's and Prometheus'.
        Value::DoubleValue(number) if number.is_nan() => "NaN".into(),
        Value::DoubleValue(number) if number.is_infinite() => {
            if *number > 0.0 { "+Inf" } else { "-Inf" }.into()
        }
        Value::DoubleValue(number) => (*number).into(),
        Value::ArrayValue(list) => list.values.iter().map(|v| inner(Some(v))).collect(),
        Value::KvlistValue(map) => {
            let pairs =
                map.values.iter().map(|pair| (pair.key.clone(), inner(pair.value.as_ref())));
            Json::Object(pairs.collect())
        }
        Value::BytesValue(bytes) => base64(bytes).into(),
        // An index into a table that only profiles have.
        Value::StringValueStrindex(_) => Json::Null,
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |n: usize| u32::from(group.get(n).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) & 63;
            text.push(if digit > group.len() { '=' } else { DIGITS[index as usize] as char });
        }
    }
    text
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
            (Value::BoolValue(false), "false"),
            (Value::DoubleValue(2.0), "2"),
            (Value::DoubleValue(f64::NEG_INFINITY), "-Inf"),
            (Value::DoubleValue(1e300), "1e300"),
            (Value::DoubleValue(-2.5e-9), "-2.5e-9"),
            (Value::DoubleValue(0.0), "0"),
            (Value::BytesValue(b"Man".to_vec()), "TWFu"),
            (Value::BytesValue(b"Ma".to_vec()), "TWE="),
            (Value::BytesValue(b"M".to_vec()), "TQ=="),
            (Value::StringValueStrindex(1), ""),
            (Value::KvlistValue(map), r#"{"k":[1,"a"]}"#),
        ];
        for (value, expected) in cases {
            let value = any(value);
            assert_eq!(text_of(Some(&value)), expected);
            assert_eq!(into_text(Some(value)), expected);
        }
        assert_eq!(text_of(None), "");
        assert_eq!(into_text(None), "");
        assert_eq!(hex(&[0, 255]), "00ff");
    }

    #[test]
    fn deep_values_are_cut() {
        let mut value = any(Value::IntValue(1));
        for _ in 0..90 {
            value = any(Value::ArrayValue(ArrayValue { values: vec![value] }));
        }
        assert!(into_text(Some(value)).contains("null"));
    }
}
