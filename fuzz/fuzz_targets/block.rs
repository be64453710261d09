//! A block of log lines made of any bytes. The input's layout is in `collector/src/logs/fuzz.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| taffrail_collector::logs::fuzz::block(data));
