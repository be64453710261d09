//! Two runs of samples into one: ascending, each time once, the value of the first run stays.

use taffrail_model::time::Millis;

/// Merges the second run into the first. Both are ascending without duplicates.
pub(super) fn merge(
    times: &mut Vec<Millis>,
    values: &mut Vec<f64>,
    more_times: &[Millis],
    more_values: &[f64],
) {
    let Some(first) = more_times.first() else { return };
    if times.last().is_none_or(|last| last < first) {
        times.extend_from_slice(more_times);
        values.extend_from_slice(more_values);
        return;
    }
    let old_times = std::mem::take(times);
    let old_values = std::mem::take(values);
    times.reserve(old_times.len() + more_times.len());
    values.reserve(old_times.len() + more_times.len());
    let (mut a, mut b) = (0, 0);
    while a < old_times.len() || b < more_times.len() {
        let take_old =
            b == more_times.len() || old_times.get(a).is_some_and(|t| *t <= more_times[b]);
        if take_old {
            // The same time in the second run is a copy.
            b += usize::from(b < more_times.len() && old_times[a] == more_times[b]);
            times.push(old_times[a]);
            values.push(old_values[a]);
            a += 1;
        } else {
            times.push(more_times[b]);
            values.push(more_values[b]);
            b += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn equals_a_map(a in proptest::collection::btree_map(0i64..50, -9.0f64..0.0, 0..30),
                        b in proptest::collection::btree_map(0i64..80, 0.0f64..9.0, 0..30)) {
            let (mut times, mut values): (Vec<_>, Vec<_>) = a.clone().into_iter().unzip();
            let (more_times, more_values): (Vec<_>, Vec<_>) = b.clone().into_iter().unzip();
            merge(&mut times, &mut values, &more_times, &more_values);
            let mut model: BTreeMap<i64, f64> = b;
            model.extend(a);
            let expected: (Vec<i64>, Vec<f64>) = model.into_iter().unzip();
            prop_assert_eq!((times, values), expected);
        }
    }
}
