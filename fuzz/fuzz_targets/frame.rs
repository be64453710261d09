//! A frame of a write-ahead log made of any bytes, and the request in it: OTLP and Loki, protobuf and
//! JSON, in every encoding.
#![no_main]

use taffrail_collector::ingest::decode;
use taffrail_collector::wal::Received;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(received) = Received::parse(data) {
        decode::logs(&received).ok();
        decode::metrics(&received).ok();
    }
});
