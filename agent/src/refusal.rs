//! What a refusal says, as a text for people.
//!
//! An OTLP receiver answers a refused protobuf request with a `google.rpc.Status` in protobuf (OTLP
//! specification, "Failures"); others, and proxies between, answer with text.

use prost::Message;
use taffrail_kit::http::Response;

/// The two fields of `google.rpc.Status` that are for people.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// The text of an answer, at most `chars_max` characters of it.
pub(crate) fn text(answer: &Response, chars_max: usize) -> String {
    let protobuf = answer.header("content-type").is_some_and(|t| t.contains("protobuf"));
    let status = protobuf.then(|| Status::decode(&*answer.body).ok()).flatten();
    let whole = status.map_or_else(|| answer.text(), |status| status.message);
    whole.chars().take(chars_max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(content_type: &str, body: Vec<u8>) -> Response {
        let mut headers = http::HeaderMap::new();
        headers.insert("content-type", content_type.parse().expect("a header"));
        Response { status: http::StatusCode::BAD_REQUEST, headers, body: body.into() }
    }

    #[test]
    fn the_message_of_a_status_or_the_text_itself() {
        let status = Status { code: 3, message: "line 7 is too long".into() }.encode_to_vec();
        let cases = [
            (answer("application/x-protobuf", status.clone()), "line 7 is too long"),
            (
                answer("application/x-protobuf", b"\xFF\xFF no status".to_vec()),
                "\u{FFFD}\u{FFFD} no status",
            ),
            (answer("text/plain", b"try later".to_vec()), "try later"),
        ];
        for (answer, expected) in cases {
            assert_eq!(text(&answer, 300), expected);
        }
        assert_eq!(text(&answer("application/x-protobuf", status), 6), "line 7");
    }
}
