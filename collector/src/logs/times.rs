//! The column of times: ascending nanoseconds in few bits, read at two nanoseconds a row.
//!
//! ```text
//! kind u8
//!   0 packed: unit u8 (0-3: 1 ns, 1 us, 1 ms, 1 s), then of each 64 differences their width in bits
//!             u8, then the differences from row to row, bit-packed with the width of their group,
//!             each group from a byte on
//!   1 pco
//! ```
//! The first time stands in the header. Bursts with long pauses between them leave packing far from
//! the entropy; pco is taken where it is a fifth smaller.

use taffrail_model::Nanos;

use super::block::Damage;

const PACKED: u8 = 0;
const PCO: u8 = 1;
const GROUP: usize = 64;
const UNITS: [u64; 4] = [1, 1_000, 1_000_000, 1_000_000_000];
/// Pco's own default is 8; from 4 on the size hardly changes and the time doubles.
const PCO_LEVEL: usize = 4;
/// So many bytes behind the differences let each be read as a `u128`.
const PADDING: usize = 16;

/// The column of these times: at least one, ascending.
pub(super) fn encode(times: &[Nanos]) -> std::io::Result<Vec<u8>> {
    let steps: Vec<u64> = times.windows(2).map(|pair| step(pair[0], pair[1])).collect();
    let fits = |unit: &u64| steps.iter().all(|step| step % unit == 0);
    let unit = (1..UNITS.len()).rev().find(|&at| fits(&UNITS[at])).unwrap_or(0);
    let mut out = vec![PACKED, unit as u8];
    let widths = out.len();
    out.resize(widths + steps.len().div_ceil(GROUP), 0);
    let mut own_bits = 0_usize;
    for (group, steps) in steps.chunks(GROUP).enumerate() {
        let steps = steps.iter().map(|step| step / UNITS[unit]);
        own_bits += steps.clone().map(|step| bits(step) as usize).sum::<usize>();
        let width = bits(steps.clone().max().unwrap_or_default());
        out[widths + group] = width as u8;
        pack(steps, width, &mut out);
    }
    // Half a byte more than the bits of each number is what packing costs as a rule.
    if (out.len() - widths) * 8 > own_bits + own_bits / 2 + 2 * steps.len() + 64 {
        let config = pco::ChunkConfig::default().with_compression_level(PCO_LEVEL);
        let packed = pco::standalone::simple_compress(times, &config);
        let packed = packed.map_err(std::io::Error::other)?;
        if packed.len() + packed.len() / 4 < out.len() {
            out = vec![PCO];
            out.extend_from_slice(&packed);
        }
    }
    Ok(out)
}

/// The difference of two times in order; of the farthest ones it still fits.
fn step(from: Nanos, to: Nanos) -> u64 {
    to.wrapping_sub(from).cast_unsigned()
}

fn bits(number: u64) -> u32 {
    u64::BITS - number.leading_zeros()
}

fn pack(numbers: impl Iterator<Item = u64>, width: u32, out: &mut Vec<u8>) {
    let (mut pending, mut filled) = (0_u128, 0);
    for number in numbers {
        pending |= u128::from(number) << filled;
        filled += width;
        while filled >= 8 {
            out.push(pending as u8);
            pending >>= 8;
            filled -= 8;
        }
    }
    if filled > 0 {
        out.push(pending as u8);
    }
}

/// The times of a column: as many as there are rows, the first and last of which are known.
pub(super) fn decode(
    column: &[u8],
    rows: usize,
    ends: (Nanos, Nanos),
) -> Result<Vec<Nanos>, Damage> {
    match column.split_first() {
        Some((&PACKED, rest)) => checked(unpack(rest, rows, ends.0).ok_or(DAMAGE)?, rows, ends),
        Some((&PCO, rest)) => decode_pco(rest, rows, ends),
        _ => Err(DAMAGE),
    }
}

/// The times that pco alone holds, as in format 1.
pub(super) fn decode_pco(
    bytes: &[u8],
    rows: usize,
    ends: (Nanos, Nanos),
) -> Result<Vec<Nanos>, Damage> {
    let times = pco::standalone::simple_decompress(bytes).map_err(|_| Damage("pco"))?;
    checked(times, rows, ends)
}

const DAMAGE: Damage = Damage("times");

fn checked(
    times: Vec<Nanos>,
    rows: usize,
    (first, last): (Nanos, Nanos),
) -> Result<Vec<Nanos>, Damage> {
    let fits = times.first() == Some(&first) && times.last() == Some(&last);
    if fits && times.len() == rows && times.is_sorted() { Ok(times) } else { Err(DAMAGE) }
}

fn unpack(column: &[u8], rows: usize, first: Nanos) -> Option<Vec<Nanos>> {
    let (&unit, rest) = column.split_first()?;
    let unit = *UNITS.get(usize::from(unit))?;
    let steps = rows.checked_sub(1)?;
    let (widths, packed) = rest.split_at_checked(steps.div_ceil(GROUP))?;
    if widths.iter().any(|&width| width > 64) {
        return None;
    }
    let mut padded = Vec::with_capacity(packed.len() + PADDING);
    padded.extend_from_slice(packed);
    padded.resize(packed.len() + PADDING, 0);
    let mut times = Vec::with_capacity(rows);
    times.push(first);
    let (mut time, mut at) = (first, 0);
    for (group, &width) in widths.iter().enumerate() {
        let count = (steps - group * GROUP).min(GROUP);
        let width = usize::from(width);
        let bytes = padded.get(at..at + (count * width).div_ceil(8) + PADDING)?;
        let mask = if width == 64 { u64::MAX } else { (1 << width) - 1 };
        for index in 0..count {
            let bit = index * width;
            let word: &[u8; PADDING] = bytes.get(bit / 8..)?.first_chunk()?;
            let number = (u128::from_le_bytes(*word) >> (bit % 8)) as u64 & mask;
            time = time.wrapping_add(number.wrapping_mul(unit).cast_signed());
            times.push(time);
        }
        at += (count * width).div_ceil(8);
    }
    (at == packed.len()).then_some(times)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(times: &[Nanos]) -> usize {
        let column = encode(times).unwrap();
        let ends = (times[0], times[times.len() - 1]);
        assert_eq!(decode(&column, times.len(), ends).unwrap(), times);
        column.len()
    }

    #[test]
    fn regular_times_take_few_bytes() {
        let seconds: Vec<Nanos> = (0..1000).map(|n| n * 1_000_000_000).collect();
        assert!(round_trip(&seconds) < 160);
        assert_eq!(round_trip(&[5]), 2);
        assert_eq!(round_trip(&[7; 64]), 3);
        assert!(round_trip(&[Nanos::MIN, 0, Nanos::MAX]) < 30);
        // Bursts: one long pause in each group.
        let bursts: Vec<Nanos> =
            (0..4096).map(|n| n / 50 * 1_000_000_007 + n % 50 * (n % 7 + 1)).collect();
        let mut bursts = bursts;
        bursts.sort_unstable();
        assert!(round_trip(&bursts) < 4096 * 3);
    }

    proptest! {
        #[test]
        fn times_come_back(
            mut times in prop_oneof![
                proptest::collection::vec(any::<i64>(), 1..200),
                proptest::collection::vec((0_i64..1 << 40).prop_map(|n| n * 1000), 1..300),
                proptest::collection::vec(0_i64..50, 1..300),
            ],
            at in any::<prop::sample::Index>(), bit in 0_u8..8,
        ) {
            times.sort_unstable();
            round_trip(&times);
            let mut column = encode(&times).unwrap();
            let at = at.index(column.len());
            column[at] ^= 1_u8 << bit;
            let ends = (times[0], times[times.len() - 1]);
            decode(&column, times.len(), ends).ok();
            decode(&column[..at], times.len(), ends).ok();
        }
    }
}
