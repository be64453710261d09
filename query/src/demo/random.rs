//! A small seeded generator: the same seed gives the same numbers on every machine and for ever,
//! which is what makes a corpus a corpus. Not for secrets.

/// SplitMix64: one addition, two multiplications, full period.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator that starts at `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A whole number below `bound`, evenly spread; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        let high = self.bits() >> 32;
        u32::try_from((high * u64::from(bound)) >> 32).expect("below a u32")
    }

    /// A whole number from `low` to `high`, both included.
    pub fn between(&mut self, low: u32, high: u32) -> u32 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// A number in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        f64::from(self.below(u32::MAX)) / f64::from(u32::MAX)
    }

    /// Whether something happens that happens `per_mille` times in a thousand.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        self.below(1000) < per_mille
    }

    /// A whole number below `bound`, small ones far more often: what users, paths and hosts look
    /// like in real traffic.
    pub fn skewed(&mut self, bound: u32) -> u32 {
        let unit = self.unit();
        below_fraction(bound, unit * unit * unit)
    }

    /// A waiting time or size around `typical`, with the long tail of real latencies.
    pub fn long_tailed(&mut self, typical: u32) -> u32 {
        let body = self.between(typical / 2, typical + typical / 2);
        let tail = if self.chance(30) { self.between(2, 40) } else { 1 };
        body.saturating_mul(tail)
    }

    /// One of `items`, evenly.
    ///
    /// # Panics
    /// When there is no item.
    pub fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(count(items.len())) as usize]
    }

    /// One of `items`, the first ones far more often.
    ///
    /// # Panics
    /// When there is no item.
    pub fn pick_skewed<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.skewed(count(items.len())) as usize]
    }
}

/// Mixes the bits of a number well: equal numbers give equal results, near ones unlike results.
#[must_use]
pub fn mix(number: u64) -> u64 {
    let z = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn count(len: usize) -> u32 {
    u32::try_from(len).expect("lists here have a few items")
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a fraction in [0, 1) of a u32 fits; the cast saturates"
)]
fn below_fraction(bound: u32, fraction: f64) -> u32 {
    ((f64::from(bound) * fraction) as u32).min(bound.saturating_sub(1))
}

/// Chooses one of `n` with the probabilities of Zipf's law: the k-th gets about `1/k`.
#[derive(Clone, Debug)]
pub struct Zipf {
    /// Running sums of the weights, scaled so that the last is `u32::MAX`.
    sums: Vec<u32>,
}

impl Zipf {
    /// Prepares the choice among `n` items (at least one).
    #[must_use]
    pub fn new(n: usize) -> Self {
        let weights: Vec<f64> = (1..=n.max(1)).map(|k| 1.0 / k as f64).collect();
        let total: f64 = weights.iter().sum();
        let mut sum = 0.0;
        let mut sums: Vec<u32> = Vec::with_capacity(weights.len());
        for weight in &weights {
            sum += weight;
            sums.push(below_fraction(u32::MAX, sum / total));
        }
        Self { sums }
    }

    /// The index of the chosen item.
    pub fn pick(&self, random: &mut Random) -> usize {
        let at = random.below(u32::MAX);
        self.sums.partition_point(|sum| *sum <= at).min(self.sums.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_numbers_never_change() {
        // Whoever compares measurements of two years compares the same bytes.
        let mut random = Random::new(7);
        let first: Vec<u64> = (0..3).map(|_| random.bits()).collect();
        assert_eq!(
            first,
            [7_191_089_600_892_374_487, 309_689_372_594_955_804, 16_616_101_746_815_609_346]
        );
    }

    #[test]
    fn zipf_prefers_the_first() {
        let (zipf, mut random) = (Zipf::new(100), Random::new(1));
        let mut seen = vec![0_u32; 100];
        for _ in 0..100_000 {
            seen[zipf.pick(&mut random)] += 1;
        }
        // The harmonic number of 100 is 5.19: the first gets 19%, the tenth a tenth of that.
        assert!((18_000..21_000).contains(&seen[0]), "{}", seen[0]);
        assert!((1_600..2_250).contains(&seen[9]), "{}", seen[9]);
        assert!(seen.iter().all(|n| *n > 0));
    }

    proptest! {
        #[test]
        fn stays_in_bounds(seed in any::<u64>(), bound in 1_u32..) {
            let mut random = Random::new(seed);
            prop_assert!(random.below(bound) < bound);
            prop_assert!(random.skewed(bound) < bound);
            let unit = random.unit();
            prop_assert!((0.0..1.0).contains(&unit));
            prop_assert!(random.between(bound, u32::MAX) >= bound);
        }
    }
}
