//! The sealed form of a series: one column of times, one of values, each a run of bytes that a page
//! of the block compresses together with its neighbours.
//!
//! ```text
//! times    first (signed), then each change of the step (signed)
//! values   00  bits                                  all the same
//!          01  power of ten, exceptions, first, changes     decimals (most metrics)
//!          02  the same, with changes of the change         smooth counters
//!          03  eight planes of bytes of the XORs            anything else
//! exceptions: count, then for each: positions since the last one, 8 bytes of bits
//! ```
//!
//! A decimal is an integer divided by a power of ten, verified when written, so every value comes
//! back with the bits it had. NaN, the staleness marker, infinities and -0 are exceptions; columns
//! with many of them are written as planes.

use taffrail_model::time::Millis;

use super::codec::{Corrupt, Reader, put_signed, put_varint};

/// Samples in one column at the most.
pub(super) const COLUMN_SAMPLES_MAX: usize = 4096;

const CONSTANT: u8 = 0;
const CHANGES: u8 = 1;
const CHANGES_OF_CHANGES: u8 = 2;
const PLANES: u8 = 3;

/// Integers beyond this lose digits in an `f64`.
const INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

/// Powers of ten that decimals are tried with.
const TENS: [f64; 13] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12];

/// Appends a column of times, of which there is at least one.
pub(super) fn put_times(out: &mut Vec<u8>, times: &[Millis]) {
    let Some((first, rest)) = times.split_first() else { return };
    put_signed(out, *first);
    let (mut last, mut last_step) = (*first, 0i64);
    for ts in rest {
        let step = ts.wrapping_sub(last);
        put_signed(out, step.wrapping_sub(last_step));
        (last, last_step) = (*ts, step);
    }
}

/// Reads a column of `count` times.
pub(super) fn read_times(reader: &mut Reader<'_>, count: usize) -> Result<Vec<Millis>, Corrupt> {
    if count > COLUMN_SAMPLES_MAX {
        return Err(Corrupt("a column is too long"));
    }
    let mut times = Vec::with_capacity(count);
    let (mut ts, mut step) = (0i64, 0i64);
    for at in 0..count {
        let number = reader.signed()?;
        if at == 0 {
            ts = number;
        } else {
            step = step.wrapping_add(number);
            ts = ts.wrapping_add(step);
        }
        times.push(ts);
    }
    Ok(times)
}

/// Appends a column of values, of which there is at least one.
pub(super) fn put_values(out: &mut Vec<u8>, values: &[f64]) {
    let Some(first) = values.first() else { return };
    if values.iter().all(|v| v.to_bits() == first.to_bits()) {
        out.push(CONSTANT);
        out.extend_from_slice(&first.to_bits().to_le_bytes());
        return;
    }
    match Decimals::of(values) {
        Some(decimals) => decimals.put(out),
        None => put_planes(out, values),
    }
}

/// Appends the `count` values of a column to `values`.
pub(super) fn read_values(
    reader: &mut Reader<'_>,
    count: usize,
    values: &mut Vec<f64>,
) -> Result<(), Corrupt> {
    if count > COLUMN_SAMPLES_MAX {
        return Err(Corrupt("a column is too long"));
    }
    match reader.byte()? {
        CONSTANT => {
            let value = f64::from_bits(reader.u64()?);
            values.extend(std::iter::repeat_n(value, count));
            Ok(())
        }
        CHANGES => read_decimals(reader, count, false, values),
        CHANGES_OF_CHANGES => read_decimals(reader, count, true, values),
        PLANES => read_planes(reader, count, values),
        _ => Err(Corrupt("a column of values has an unknown form")),
    }
}

/// A column as integers over one power of ten, with the values that are none set aside.
struct Decimals {
    power: usize,
    integers: Vec<i64>,
    exceptions: Vec<(usize, u64)>,
}

impl Decimals {
    /// `None` when more than an eighth of the values (and more than two) are exceptions.
    fn of(values: &[f64]) -> Option<Self> {
        let power = common_power(values);
        let allowed = 2.max(values.len() / 8);
        let mut integers = Vec::with_capacity(values.len());
        let mut exceptions = Vec::new();
        let mut last = 0i64;
        for (at, value) in values.iter().enumerate() {
            if let Some(integer) = as_integer(*value, power) {
                last = integer;
            } else {
                exceptions.push((at, value.to_bits()));
                if exceptions.len() > allowed {
                    return None;
                }
            }
            integers.push(last);
        }
        Some(Self { power, integers, exceptions })
    }

    fn put(&self, out: &mut Vec<u8>) {
        let (mut changes, mut second) = (Vec::new(), Vec::new());
        let (mut last, mut last_change) = (0i64, 0i64);
        for integer in &self.integers {
            let change = integer.wrapping_sub(last);
            put_signed(&mut changes, change);
            put_signed(&mut second, change.wrapping_sub(last_change));
            (last, last_change) = (*integer, change);
        }
        let smooth = second.len() < changes.len();
        out.push(if smooth { CHANGES_OF_CHANGES } else { CHANGES });
        out.push(self.power as u8);
        put_varint(out, self.exceptions.len() as u64);
        let mut before = 0;
        for (at, bits) in &self.exceptions {
            put_varint(out, (at - before) as u64);
            out.extend_from_slice(&bits.to_le_bytes());
            before = *at;
        }
        out.extend_from_slice(if smooth { &second } else { &changes });
    }
}

/// The least power of ten that turns all decimals of the column into integers.
fn common_power(values: &[f64]) -> usize {
    let mut power = 0;
    for value in values {
        if as_integer(*value, power).is_none() {
            let enough = (power + 1..TENS.len()).find(|p| as_integer(*value, *p).is_some());
            power = enough.unwrap_or(power);
        }
    }
    power
}

/// The integer that gives exactly `value` when divided by the power of ten.
fn as_integer(value: f64, power: usize) -> Option<i64> {
    let scaled = (value * TENS[power]).round();
    // NaN fails the comparison, too.
    let fits = scaled.abs() < INTEGER_MAX;
    (fits && (scaled as i64 as f64 / TENS[power]).to_bits() == value.to_bits())
        .then_some(scaled as i64)
}

fn read_decimals(
    reader: &mut Reader<'_>,
    count: usize,
    smooth: bool,
    values: &mut Vec<f64>,
) -> Result<(), Corrupt> {
    let ten = *TENS.get(usize::from(reader.byte()?)).ok_or(Corrupt("a power of ten is too big"))?;
    let mut exceptions = Vec::new();
    let mut before = 0usize;
    for _ in 0..reader.count()? {
        before = before.saturating_add(reader.index()? as usize);
        exceptions.push((before, f64::from_bits(reader.u64()?)));
    }
    let start = values.len();
    let (mut last, mut change) = (0i64, 0i64);
    for _ in 0..count {
        let number = reader.signed()?;
        change = if smooth { change.wrapping_add(number) } else { number };
        last = last.wrapping_add(change);
        values.push(if ten == 1.0 { last as f64 } else { last as f64 / ten });
    }
    for (at, value) in exceptions {
        *values.get_mut(start + at).ok_or(Corrupt("an exception lies beyond its column"))? = value;
    }
    Ok(())
}

/// XORs with the value before, the highest bytes of all first: what repeats lies side by side.
fn put_planes(out: &mut Vec<u8>, values: &[f64]) {
    out.push(PLANES);
    for plane in (0..8).rev() {
        let mut last = 0u64;
        for value in values {
            out.push(((value.to_bits() ^ last) >> (plane * 8)) as u8);
            last = value.to_bits();
        }
    }
}

fn read_planes(
    reader: &mut Reader<'_>,
    count: usize,
    values: &mut Vec<f64>,
) -> Result<(), Corrupt> {
    let bytes = reader.bytes(count * 8)?;
    let mut last = 0u64;
    for at in 0..count {
        let xor = (0..8).fold(0u64, |xor, plane| (xor << 8) | u64::from(bytes[plane * count + at]));
        last ^= xor;
        values.push(f64::from_bits(last));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use taffrail_model::sample::STALE_NAN_BITS;

    fn values_round_trip(bits: &[u64]) -> (Vec<u64>, u8) {
        let values: Vec<f64> = bits.iter().copied().map(f64::from_bits).collect();
        let mut out = Vec::new();
        put_values(&mut out, &values);
        let mut back = Vec::new();
        read_values(&mut Reader::new(&out), values.len(), &mut back).expect("what was written");
        (back.into_iter().map(f64::to_bits).collect(), out[0])
    }

    #[test]
    fn each_form_is_chosen_for_what_it_is_good_at() {
        let cases: [(&[f64], u8); 5] = [
            (&[5.0, 5.0, 5.0], CONSTANT),
            (&[1.0, 900.0, -3.0, 12.0, 12.5], CHANGES),
            (&[1000.0, 2000.0, 3000.0, 4000.0, 5000.0], CHANGES_OF_CHANGES),
            (&[0.1 + 0.2, 1.0 / 3.0, std::f64::consts::PI, 1e300], PLANES),
            (&[0.25, 1.0, 3.75, f64::from_bits(STALE_NAN_BITS)], CHANGES),
        ];
        for (values, form) in cases {
            let bits: Vec<u64> = values.iter().map(|v| v.to_bits()).collect();
            assert_eq!(values_round_trip(&bits), (bits, form), "{values:?}");
        }
    }

    #[test]
    fn damaged_columns_are_refused() {
        let cases: [(&[u8], usize); 6] = [
            (&[], 1),
            (&[9], 1),
            (&[CONSTANT, 1], 1),
            (&[CHANGES, 99, 0, 0], 1),
            (&[CHANGES, 0, 1, 5, 0, 0, 0, 0, 0, 0, 0, 0, 2], 1),
            (&[PLANES, 1, 2, 3], 1),
        ];
        for (bytes, count) in cases {
            read_values(&mut Reader::new(bytes), count, &mut Vec::new()).expect_err("damaged");
        }
        read_times(&mut Reader::new(&[0; 9]), COLUMN_SAMPLES_MAX + 1).expect_err("too long");
    }

    proptest! {
        #[test]
        fn any_values_come_back(bits in proptest::collection::vec(any::<u64>(), 1..50)) {
            prop_assert_eq!(values_round_trip(&bits).0, bits);
        }

        #[test]
        fn decimals_come_back(numbers in proptest::collection::vec((any::<i32>(), 0u32..7), 1..50)) {
            let bits: Vec<u64> = numbers.iter()
                .map(|(n, e)| (f64::from(*n) / 10f64.powi(*e as i32)).to_bits()).collect();
            prop_assert_eq!(values_round_trip(&bits).0, bits);
        }

        #[test]
        fn any_times_come_back(times in proptest::collection::vec(any::<i64>(), 1..50)) {
            let mut out = Vec::new();
            put_times(&mut out, &times);
            prop_assert_eq!(read_times(&mut Reader::new(&out), times.len()), Ok(times));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60), count in 0usize..200) {
            let _ = read_values(&mut Reader::new(&bytes), count, &mut Vec::new());
            let _ = read_times(&mut Reader::new(&bytes), count);
        }
    }
}
