//! Carries a trace from one process to the next in the header `traceparent` (W3C Trace Context).
//!
//! Without spans that are sent anywhere ([`super::otlp::Spans`]) nothing is carried.

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Name of the header.
pub const TRACEPARENT: &str = "traceparent";

/// The header's value for a request made inside `span`; `None` when the span is sent nowhere.
#[must_use]
pub fn inject(span: &Span) -> Option<String> {
    let context = span.context();
    let span = context.span();
    let context = span.span_context();
    context.is_valid().then(|| {
        let flags = context.trace_flags().to_u8();
        format!("00-{:032x}-{:016x}-{flags:02x}", context.trace_id(), context.span_id())
    })
}

/// Makes `span` a child of the span that a request's header names. A header that is not in the
/// form of version 00 is left alone.
pub fn adopt(span: &Span, header: &str) {
    let Some(remote) = parse(header) else { return };
    let parent = opentelemetry::Context::new().with_remote_span_context(remote);
    // An error means that spans are sent nowhere.
    let _adopted = span.set_parent(parent).is_ok();
}

fn parse(header: &str) -> Option<SpanContext> {
    let mut parts = header.trim().split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let lower = |text: &str, len| {
        text.len() == len && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    if version != "00" || parts.next().is_some() {
        return None;
    }
    if !(lower(trace, 32) && lower(span, 16) && lower(flags, 2)) {
        return None;
    }
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?),
        true,
        TraceState::default(),
    );
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn headers_in_the_form_of_version_00_only() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(parse(good).is_some_and(|c| c.is_remote() && c.is_sampled()));
        let bad = [
            "",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ];
        for header in bad {
            assert!(parse(header).is_none(), "{header}");
        }
    }

    #[test]
    fn a_trace_goes_through_the_header() {
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            let client = tracing::info_span!("client");
            let header = inject(&client).expect("the span is sent somewhere");
            let server = tracing::info_span!("server");
            adopt(&server, &header);
            let continued = inject(&server).expect("likewise");
            assert_eq!(header[..35], continued[..35], "the same trace");
            assert_ne!(header, continued, "another span");
        });
        assert_eq!(inject(&Span::none()), None);
    }
}
