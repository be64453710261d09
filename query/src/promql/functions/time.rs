//! Functions of time: the parts of a date, and when a sample was taken. All in UTC.

use crate::promql::ast::{Expr, Kind};
use crate::promql::error::Error;
use crate::promql::eval::Evaluator;
use crate::promql::frame::{Frame, Grid};

use super::Id;

const SECONDS_PER_DAY: i64 = 86_400;

/// Whether the function takes a part of a date.
pub(super) fn is_date(id: Id) -> bool {
    matches!(
        id,
        Id::Year
            | Id::Month
            | Id::DayOfMonth
            | Id::DayOfWeek
            | Id::DayOfYear
            | Id::DaysInMonth
            | Id::Hour
            | Id::Minute
    )
}

#[expect(clippy::cast_precision_loss, reason = "times are far below 2^53 ms")]
fn step_seconds(grid: &Grid) -> Vec<f64> {
    grid.times().map(|time| time as f64 / 1000.0).collect()
}

pub(super) fn date(
    evaluator: &mut Evaluator<'_>,
    id: Id,
    arg: Option<&Expr>,
    grid: Grid,
) -> Result<Frame, Error> {
    let frame = match arg {
        Some(arg) => evaluator.vector(arg, grid)?,
        None => evaluator.frame_of(&step_seconds(&grid), grid)?,
    };
    Ok(frame.map(|value, _| part(id, value)))
}

/// The time of each sample; for anything but a plain selector that is the time of the step.
pub(super) fn timestamp(
    evaluator: &mut Evaluator<'_>,
    arg: &Expr,
    grid: Grid,
) -> Result<Frame, Error> {
    if let Kind::Selector(selector) = &arg.bare().kind {
        return evaluator.select_instant(selector, grid, true);
    }
    let times = step_seconds(&grid);
    Ok(evaluator.vector(arg, grid)?.map(|_, step| times[step]))
}

/// A part of the date that is `seconds` after the epoch.
#[expect(clippy::cast_precision_loss, reason = "the parts of a date are small")]
fn part(id: Id, seconds: f64) -> f64 {
    // Beyond a hundred million years there is no calendar.
    if seconds.is_nan() || seconds.abs() > 3.2e15 {
        return f64::NAN;
    }
    #[expect(clippy::cast_possible_truncation, reason = "bounded just above")]
    let seconds = seconds as i64;
    let day = seconds.div_euclid(SECONDS_PER_DAY);
    let second = seconds.rem_euclid(SECONDS_PER_DAY);
    let (year, month, day_of_month) = civil(day);
    let part = match id {
        Id::Year => year,
        Id::Month => month,
        Id::DayOfMonth => day_of_month,
        Id::DayOfWeek => (day + 4).rem_euclid(7),
        Id::DayOfYear => day - days(year, 1, 1) + 1,
        Id::DaysInMonth => match month {
            12 => 31,
            _ => days(year, month + 1, 1) - days(year, month, 1),
        },
        Id::Hour => second / 3600,
        _ => second / 60 % 60,
    };
    part as f64
}

/// Year, month and day of a day since the epoch. Counting in eras of 400 years from a 1st of March
/// puts the leap day last, so that no case is special.
fn civil(day: i64) -> (i64, i64, i64) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day_of_month)
}

/// The day since the epoch of a date: the inverse of [`civil`].
fn days(year: i64, month: i64, day_of_month: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let from_march = (month + 9) % 12;
    let of_year = (153 * from_march + 2) / 5 + day_of_month - 1;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    era * 146_097 + of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parts_of_known_dates() {
        // 2024-02-29T23:59:58Z, a Thursday.
        let leap = 1_709_251_198.0;
        let cases = [
            (Id::Year, 2024.0),
            (Id::Month, 2.0),
            (Id::DayOfMonth, 29.0),
            (Id::DayOfWeek, 4.0),
            (Id::DayOfYear, 60.0),
            (Id::DaysInMonth, 29.0),
            (Id::Hour, 23.0),
            (Id::Minute, 59.0),
        ];
        for (id, expected) in cases {
            assert_eq!(part(id, leap), expected, "{id:?}");
        }
        assert_eq!(part(Id::Year, -1.0), 1969.0);
        assert!(part(Id::Hour, f64::INFINITY).is_nan());
    }

    proptest! {
        #[test]
        fn dates_round_trip(day in -1_000_000_i64..1_000_000) {
            let (year, month, day_of_month) = civil(day);
            prop_assert_eq!(days(year, month, day_of_month), day);
            prop_assert!((1..=12).contains(&month) && (1..=31).contains(&day_of_month));
        }
    }
}
