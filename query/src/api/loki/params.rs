//! The parameters of Loki's API: from the query string, and from the form of a POST.

use axum::extract::{FromRequest, Query, Request};
use axum::http::{Method, Uri};
use taffrail_model::time::{NANOS_PER_SEC, parse_rfc3339};
use taffrail_model::{Nanos, TimeRange};

use crate::logql::units;
use crate::source::Direction;

use super::error::ApiError;

/// How far back a query looks when nothing says so.
const SINCE: Nanos = 3600 * NANOS_PER_SEC;
/// How far back labels and series are looked for when nothing says so.
const METADATA_SINCE: Nanos = 6 * 3600 * NANOS_PER_SEC;
/// Lines of an answer when nothing says so.
const LIMIT: usize = 100;
/// Most points of a series, as in Loki.
pub(super) const POINTS_MAX: i64 = 11_000;

/// Names and values as they came, in order.
pub(super) struct Params(Vec<(String, String)>);

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let Self(mut pairs) = Self::of(request.uri())?;
        if matches!(*request.method(), Method::POST | Method::PUT)
            && request.headers().contains_key("content-type")
        {
            let form = axum::Form::<Vec<(String, String)>>::from_request(request, state).await;
            pairs.extend(form.map_err(|error| ApiError::bad_request(error.to_string()))?.0);
        }
        Ok(Self(pairs))
    }
}

impl Params {
    /// Those of a query string.
    pub(super) fn of(uri: &Uri) -> Result<Self, ApiError> {
        Query::try_from_uri(uri)
            .map(|Query(pairs)| Self(pairs))
            .map_err(|error| ApiError::bad_request(error.to_string()))
    }

    /// The first value of a name that is not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, v)| n == name && !v.is_empty()).map(|(_, value)| value.as_str())
    }

    /// Every value of either name.
    pub(super) fn all(&self, one: &str, other: &str) -> Vec<&str> {
        self.0.iter().filter(|(n, _)| n == one || n == other).map(|(_, v)| v.as_str()).collect()
    }

    pub(super) fn query(&self) -> &str {
        self.get("query").unwrap_or_default()
    }

    /// A point in time, if it is given.
    pub(super) fn time(&self, name: &str) -> Result<Option<Nanos>, ApiError> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        let read = parse_time(text).map_err(|why| {
            ApiError::bad_request(format!("could not parse '{name}' parameter: {why}"))
        })?;
        Ok(Some(read))
    }

    /// `time`, or now.
    pub(super) fn instant(&self, now: Nanos) -> Result<Nanos, ApiError> {
        Ok(self.time("time")?.unwrap_or(now))
    }

    /// `start`, or `since` before now; nothing when neither is given.
    pub(super) fn start(&self, now: Nanos) -> Result<Option<Nanos>, ApiError> {
        if let Some(start) = self.time("start")? {
            return Ok(Some(start));
        }
        Ok(self.since()?.map(|since| now.saturating_sub(since)))
    }

    fn since(&self) -> Result<Option<Nanos>, ApiError> {
        self.get("since")
            .map(|text| {
                units::query_duration(text).filter(|nanos| *nanos >= 0).ok_or_else(|| {
                    ApiError::bad_request(format!("could not parse 'since' parameter: {text:?}"))
                })
            })
            .transpose()
    }

    fn range_with(&self, now: Nanos, default: Nanos) -> Result<TimeRange, ApiError> {
        let end = self.time("end")?.unwrap_or(now);
        let since = self.since()?.unwrap_or(default);
        // An end in the future must not hide what is there now.
        let start = self.time("start")?.unwrap_or_else(|| end.min(now).saturating_sub(since));
        if end <= start {
            let message = "end timestamp must not be before or equal to start time";
            return Err(ApiError::bad_request(message));
        }
        Ok(TimeRange { start, end })
    }

    /// `start`, `end`, `since` of a query.
    pub(super) fn range(&self, now: Nanos) -> Result<TimeRange, ApiError> {
        self.range_with(now, SINCE)
    }

    /// `start`, `end`, `since` of a question about labels.
    pub(super) fn metadata_range(&self, now: Nanos) -> Result<TimeRange, ApiError> {
        self.range_with(now, METADATA_SINCE)
    }

    /// `limit`; at most `max`.
    pub(super) fn limit(&self, max: usize) -> Result<usize, ApiError> {
        let Some(text) = self.get("limit") else {
            return Ok(LIMIT.min(max));
        };
        let limit: i64 = text.parse().map_err(|_| {
            ApiError::bad_request(format!("strconv.Atoi: parsing {text:?}: invalid syntax"))
        })?;
        match usize::try_from(limit) {
            Ok(limit) if limit > max => Err(ApiError::bad_request(format!(
                "max entries limit per query exceeded, limit > max_entries_limit_per_query \
                 ({limit} > {max})"
            ))),
            Ok(limit) if limit > 0 => Ok(limit),
            _ => Err(ApiError::bad_request("limit must be a positive value")),
        }
    }

    /// `limit` of an answer that is streamed: 0 means all.
    pub(super) fn open_limit(&self) -> Result<Option<usize>, ApiError> {
        match self.get("limit") {
            Some("0") => Ok(None),
            _ => self.limit(usize::MAX).map(Some),
        }
    }

    pub(super) fn direction(&self) -> Result<Direction, ApiError> {
        match self.get("direction") {
            None => Ok(Direction::Backward),
            Some(text) if text.eq_ignore_ascii_case("forward") => Ok(Direction::Forward),
            Some(text) if text.eq_ignore_ascii_case("backward") => Ok(Direction::Backward),
            Some(text) => Err(ApiError::bad_request(format!("invalid direction '{text}'"))),
        }
    }

    /// `interval`, for thinning lines out.
    pub(super) fn interval(&self) -> Result<Nanos, ApiError> {
        let Some(text) = self.get("interval") else {
            return Ok(0);
        };
        parse_step(text)
            .filter(|nanos| *nanos >= 0)
            .ok_or_else(|| ApiError::bad_request("interval must be >= 0"))
    }

    /// `step`, or a 250th of the range.
    pub(super) fn step(&self, range: TimeRange) -> Result<Nanos, ApiError> {
        let length = range.end.saturating_sub(range.start);
        let step = match self.get("step") {
            None => (length / 250 / NANOS_PER_SEC).max(1) * NANOS_PER_SEC,
            Some(text) => parse_step(text).ok_or_else(|| {
                ApiError::bad_request(format!("cannot parse {text:?} to a valid duration"))
            })?,
        };
        if step <= 0 {
            return Err(ApiError::bad_request(
                "zero or negative query resolution step widths are not accepted. Try a positive \
                 integer",
            ));
        }
        if length / step > POINTS_MAX {
            return Err(ApiError::bad_request(
                "exceeded maximum resolution of 11,000 points per time series. Try increasing the \
                 value of the step parameter",
            ));
        }
        Ok(step)
    }
}

/// Seconds (up to ten digits, or with a fraction), nanoseconds, or RFC 3339.
fn parse_time(text: &str) -> Result<Nanos, String> {
    if text.contains('.')
        && let Ok(seconds) = text.parse::<f64>()
    {
        return seconds_to_nanos(seconds).ok_or_else(|| format!("{text} is out of range"));
    }
    if let Ok(number) = text.parse::<i64>() {
        if text.len() > 10 {
            return Ok(number);
        }
        return number.checked_mul(NANOS_PER_SEC).ok_or_else(|| format!("{text} is out of range"));
    }
    parse_rfc3339(text).ok_or_else(|| format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
}

/// A duration, or seconds.
fn parse_step(text: &str) -> Option<Nanos> {
    match text.parse::<f64>() {
        Ok(seconds) => seconds_to_nanos(seconds),
        Err(_) => units::query_duration(text),
    }
}

fn seconds_to_nanos(seconds: f64) -> Option<Nanos> {
    // Split, since a float of nanoseconds is only good to some hundred of them.
    let whole = seconds.floor();
    (whole.abs() < 9.2e9)
        .then(|| whole as i64 * NANOS_PER_SEC + ((seconds - whole) * 1e9).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let cases = [
            ("1795187400", Some(1_795_187_400_000_000_000)),
            ("1795187400000000000", Some(1_795_187_400_000_000_000)),
            ("1795187405.5", Some(1_795_187_405_500_000_000)),
            ("4000000000", Some(4_000_000_000_000_000_000)),
            ("2026-11-20T15:10:00Z", Some(1_795_187_400_000_000_000)),
            ("9999999999", None),
            ("1e300.", None),
            ("yesterday", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_time(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn defaults_and_limits() {
        let params = |text: &str| {
            let uri = format!("/?{text}").parse().expect("a path");
            Params(Query::try_from_uri(&uri).expect("pairs").0)
        };
        let now = 1_795_187_400 * NANOS_PER_SEC;
        let range = params("").range(now).expect("a range");
        assert_eq!((range.start, range.end), (now - SINCE, now));
        assert_eq!(params("").limit(5000).expect("a limit"), 100);
        assert_eq!(params("limit=0").open_limit().expect("a limit"), None);
        assert_eq!(params("").step(range).expect("a step"), 14 * NANOS_PER_SEC);
        assert_eq!(params("step=1.5").step(range).expect("a step"), 1_500_000_000);
        for bad in ["step=0", "step=-1", "step=x", "step=0.1"] {
            assert!(params(bad).step(range).is_err(), "{bad}");
        }
        for bad in ["limit=0", "limit=-1", "limit=x", "limit=5001"] {
            assert!(params(bad).limit(5000).is_err(), "{bad}");
        }
        assert!(params("start=2&end=1").range(now).is_err());
        assert!(params("direction=sideways").direction().is_err());
    }
}
