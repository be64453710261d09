//! Sums with Neumaier's compensation, as Prometheus adds.

/// A running sum.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kahan {
    sum: f64,
    lost: f64,
}

impl Kahan {
    #[inline]
    pub(super) fn add(&mut self, value: f64) {
        let total = self.sum + value;
        if total.is_infinite() {
            self.lost = 0.0;
        } else if self.sum.abs() >= value.abs() {
            self.lost += (self.sum - total) + value;
        } else {
            self.lost += (value - total) + self.sum;
        }
        self.sum = total;
    }

    #[inline]
    pub(super) fn total(self) -> f64 {
        self.sum + self.lost
    }
}

/// A running mean: a sum over a count until the sum would overflow, then incremental.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mean {
    sum: Kahan,
    count: f64,
    incremental: bool,
}

impl Mean {
    #[inline]
    pub(super) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.incremental {
            let mut sum = self.sum;
            sum.add(value);
            if self.count == 1.0 || !sum.sum.is_infinite() {
                self.sum = sum;
                return;
            }
            self.incremental = true;
            let before = self.count - 1.0;
            self.sum = Kahan { sum: self.sum.sum / before, lost: self.sum.lost / before };
        }
        let keep = (self.count - 1.0) / self.count;
        self.sum = Kahan { sum: self.sum.sum * keep, lost: self.sum.lost * keep };
        self.sum.add(value / self.count);
    }

    #[inline]
    pub(super) fn mean(self) -> f64 {
        if self.incremental {
            self.sum.total()
        } else {
            self.sum.sum / self.count + self.sum.lost / self.count
        }
    }
}

/// A running variance (Welford), with compensated mean and squares.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Variance {
    count: f64,
    mean: Kahan,
    squares: Kahan,
}

impl Variance {
    #[inline]
    pub(super) fn add(&mut self, value: f64) {
        self.count += 1.0;
        let delta = value - self.mean.total();
        self.mean.add(delta / self.count);
        self.squares.add(delta * (value - self.mean.total()));
    }

    #[inline]
    pub(super) fn variance(self) -> f64 {
        self.squares.total() / self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_numbers_survive_big_ones() {
        let mut sum = Kahan::default();
        for value in [1.0, 1e100, 1.0, -1e100] {
            sum.add(value);
        }
        assert_eq!(sum.total(), 2.0);
    }

    #[test]
    fn a_mean_does_not_overflow() {
        let mut mean = Mean::default();
        for value in [f64::MAX, f64::MAX, f64::MAX] {
            mean.add(value);
        }
        assert!((mean.mean() / f64::MAX - 1.0).abs() < 1e-12);
        let mut variance = Variance::default();
        for value in [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0] {
            variance.add(value);
        }
        assert!((variance.variance() - 4.0).abs() < 1e-12);
    }
}
