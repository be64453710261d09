//! The open chunk of a series in memory: times and values as bits, appended one sample at a time.
//!
//! Times are differences of differences, values the XOR with the value before (the two ideas of
//! Facebook's Gorilla paper). Bits, highest first:
//!
//! ```text
//! first sample   64 bits time, 64 bits value
//! time           0                 the step is the same as before
//!                10   +  8 bits    the step changed by a little (two's complement)
//!                110  + 14 bits
//!                1110 + 20 bits
//!                1111 + 64 bits    any change (wrapping)
//! value          0                 the same bits as before
//!                10   + bits       the XOR lies within the window of the one before
//!                11   + 5 bits leading zeros, 6 bits length less one, + bits
//! ```
//!
//! Every bit pattern of a value and every sequence of times comes back as it was.

use taffrail_model::time::Millis;

/// Samples in one chunk at the most: a read decodes whole chunks.
pub(super) const CHUNK_SAMPLES: u16 = 120;

/// Least room that a growing chunk asks for.
const GROWTH_BYTES: usize = 24;

/// A chunk that takes samples.
#[derive(Clone, Debug, Default)]
pub(super) struct Chunk {
    bytes: Vec<u8>,
    /// Bits of the last byte that are still free.
    free: u8,
    count: u16,
    leading: u8,
    /// Bits of the window; 0 while there is none.
    window: u8,
    last_ts: Millis,
    last_step: i64,
    last_value: u64,
}

/// A chunk that takes no more samples.
#[derive(Clone, Debug)]
pub(super) struct Full {
    bytes: std::sync::Arc<[u8]>,
    count: u16,
}

impl Chunk {
    pub(super) fn count(&self) -> u16 {
        self.count
    }

    pub(super) fn is_full(&self) -> bool {
        self.count >= CHUNK_SAMPLES
    }

    /// Bytes of memory behind the chunk.
    pub(super) fn size(&self) -> usize {
        self.bytes.capacity()
    }

    /// Appends a sample. The caller keeps times ascending; the codec does not care.
    pub(super) fn push(&mut self, ts: Millis, value: f64) {
        let bits = value.to_bits();
        if self.count == 0 {
            self.put(ts as u64, 64);
            self.put(bits, 64);
        } else {
            let step = ts.wrapping_sub(self.last_ts);
            self.put_change(step.wrapping_sub(self.last_step));
            self.last_step = step;
            self.put_xor(bits ^ self.last_value);
        }
        self.last_ts = ts;
        self.last_value = bits;
        self.count += 1;
    }

    /// Takes the samples out and leaves an empty chunk.
    pub(super) fn seal(&mut self) -> Full {
        let chunk = std::mem::take(self);
        Full { bytes: chunk.bytes.into(), count: chunk.count }
    }

    /// Appends the samples to two columns.
    pub(super) fn decode(&self, times: &mut Vec<Millis>, values: &mut Vec<f64>) {
        decode(&self.bytes, self.count, times, values);
    }

    fn put_change(&mut self, change: i64) {
        match change {
            0 => self.put(0, 1),
            -0x80..=0x7F => self.put(0b10 << 8 | change as u64 & 0xFF, 10),
            -0x2000..=0x1FFF => self.put(0b110 << 14 | change as u64 & 0x3FFF, 17),
            -0x8_0000..=0x7_FFFF => self.put(0b1110 << 20 | change as u64 & 0xF_FFFF, 24),
            _ => {
                self.put(0b1111, 4);
                self.put(change as u64, 64);
            }
        }
    }

    fn put_xor(&mut self, xor: u64) {
        if xor == 0 {
            self.put(0, 1);
            return;
        }
        let leading = (xor.leading_zeros() as u8).min(31);
        let trailing = xor.trailing_zeros() as u8;
        let window_trailing = 64 - self.leading - self.window.min(64 - self.leading);
        if self.window > 0 && leading >= self.leading && trailing >= window_trailing {
            self.put(0b10, 2);
            self.put(xor >> window_trailing, self.window);
            return;
        }
        let window = 64 - leading - trailing;
        self.put(0b11 << 11 | u64::from(leading) << 6 | u64::from(window - 1), 13);
        self.put(xor >> trailing, window);
        (self.leading, self.window) = (leading, window);
    }

    /// Appends the lowest `count` bits of `bits`, of which there are no others.
    fn put(&mut self, bits: u64, count: u8) {
        let used = if self.free == 0 { 0 } else { 8 - self.free };
        let open = if used == 0 { 0 } else { self.bytes.pop().unwrap_or(0) };
        let filled = used + count;
        let window = (u128::from(open) << 120) | (u128::from(bits) << (128 - filled));
        let size = usize::from(filled.div_ceil(8));
        if self.bytes.capacity() - self.bytes.len() < size {
            // Most chunks stay small and there are very many: room is added in small steps.
            self.bytes.reserve_exact(GROWTH_BYTES.max(self.bytes.len() / 4));
        }
        self.bytes.extend_from_slice(&window.to_be_bytes()[..size]);
        self.free = (8 - filled % 8) % 8;
    }
}

impl Full {
    /// Bytes of memory behind the chunk.
    pub(super) fn size(&self) -> usize {
        self.bytes.len() + 16
    }

    /// Appends the samples to two columns.
    pub(super) fn decode(&self, times: &mut Vec<Millis>, values: &mut Vec<f64>) {
        decode(&self.bytes, self.count, times, values);
    }
}

fn decode(bytes: &[u8], count: u16, times: &mut Vec<Millis>, values: &mut Vec<f64>) {
    if count == 0 {
        return;
    }
    let mut bits = Bits { bytes, at: 0 };
    let mut ts = bits.take(64) as i64;
    let mut value = bits.take(64);
    let (mut step, mut leading, mut window) = (0i64, 0u8, 0u8);
    times.push(ts);
    values.push(f64::from_bits(value));
    for _ in 1..count {
        if bits.peek() >> 62 == 0 {
            // The same step and the same value: most samples of most series.
            bits.at += 2;
            ts = ts.wrapping_add(step);
            times.push(ts);
            values.push(f64::from_bits(value));
            continue;
        }
        step = step.wrapping_add(bits.change());
        ts = ts.wrapping_add(step);
        if bits.take(1) == 1 {
            if bits.take(1) == 1 {
                leading = bits.take(5) as u8;
                window = bits.take(6) as u8 + 1;
            }
            let trailing = 64u8.saturating_sub(leading).saturating_sub(window);
            value ^= bits.take(window).checked_shl(u32::from(trailing)).unwrap_or(0);
        }
        times.push(ts);
        values.push(f64::from_bits(value));
    }
}

/// Reads bits, highest first; zeros after the end.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    /// The next bits at the left of a word, at least 57 of them.
    fn peek(&self) -> u64 {
        let rest = self.bytes.get(self.at / 8..).unwrap_or_default();
        let word = rest.first_chunk::<8>().copied().unwrap_or_else(|| {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            word
        });
        u64::from_be_bytes(word) << (self.at % 8)
    }

    fn take(&mut self, count: u8) -> u64 {
        if count == 0 {
            return 0;
        }
        if count > 57 {
            let high = self.take(count - 32);
            return high << 32 | self.take(32);
        }
        let value = self.peek() >> (64 - count);
        self.at += usize::from(count);
        value
    }

    fn change(&mut self) -> i64 {
        let ones = (!self.peek()).leading_zeros().min(4) as usize;
        self.at += (ones + 1).min(4);
        self.signed([0, 8, 14, 20, 64][ones])
    }

    fn signed(&mut self, width: u8) -> i64 {
        if width == 0 {
            return 0;
        }
        let unused = 64 - width;
        ((self.take(width) << unused) as i64) >> unused
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use taffrail_model::sample::STALE_NAN_BITS;

    fn round_trip(samples: &[(i64, u64)]) -> Vec<(i64, u64)> {
        let mut chunk = Chunk::default();
        for (ts, bits) in samples {
            chunk.push(*ts, f64::from_bits(*bits));
        }
        let (mut times, mut values) = (Vec::new(), Vec::new());
        chunk.decode(&mut times, &mut values);
        assert_eq!(usize::from(chunk.seal().count), times.len());
        times.into_iter().zip(values.into_iter().map(f64::to_bits)).collect()
    }

    #[test]
    fn special_values_keep_their_bits() {
        let bits = [0, 1, STALE_NAN_BITS, f64::NAN.to_bits(), u64::MAX, (-0.0f64).to_bits(), 7, 7];
        let samples: Vec<_> = bits.iter().enumerate().map(|(at, b)| (at as i64 * 15, *b)).collect();
        assert_eq!(round_trip(&samples), samples);
    }

    #[test]
    fn a_constant_series_takes_two_bits_a_sample() {
        let mut chunk = Chunk::default();
        for at in 0..i64::from(CHUNK_SAMPLES) {
            chunk.push(at * 15_000, 1.0);
        }
        assert!(chunk.is_full());
        assert!(chunk.bytes.len() <= 16 + 30 + 4, "{}", chunk.bytes.len());
    }

    proptest! {
        #[test]
        fn any_samples_come_back(samples in proptest::collection::vec((any::<i64>(), any::<u64>()), 0..60)) {
            prop_assert_eq!(round_trip(&samples), samples);
        }

        #[test]
        fn usual_samples_come_back(steps in proptest::collection::vec((14_000i64..700_000, -4i64..1_000_000), 0..120)) {
            let mut ts = 0;
            let samples: Vec<_> = steps.into_iter().map(|(step, v)| {
                ts += step;
                (ts, (v as f64 / 4.0).to_bits())
            }).collect();
            prop_assert_eq!(round_trip(&samples), samples);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60), count in 0u16..200) {
            decode(&bytes, count, &mut Vec::new(), &mut Vec::new());
        }
    }
}
