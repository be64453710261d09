//! The parameters of a request: from the URL, and from the form of a POST, which goes first.

use axum::extract::{Form, FromRequest, Query as UrlQuery, Request};
use axum::http::{Method, header};
use taffrail_model::Matcher;
use taffrail_model::limits::{REGEXES_MAX, SELECTORS_MAX};
use taffrail_model::time::{NANOS_PER_MILLI, parse_rfc3339};

use super::error::ApiError;
use crate::promql::{self, parse_duration, parse_selector};

/// Times of requests lie within these, so that arithmetic on them cannot overflow.
const TIME_MAX: f64 = 9.0e12;

/// Earliest and latest millisecond of a request that names none.
pub(super) const ALL_TIME: (i64, i64) = (-9_000_000_000_000_000, 9_000_000_000_000_000);

/// The content type of a POST whose body holds parameters.
const FORM: &str = "application/x-www-form-urlencoded";

/// Names and values in the order of the request.
#[derive(Debug)]
pub(super) struct Params(Vec<(String, String)>);

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let UrlQuery(in_url) = UrlQuery::<Vec<(String, String)>>::try_from_uri(request.uri())
            .map_err(|error| ApiError::BadData(error.body_text()))?;
        let kind = request.headers().get(header::CONTENT_TYPE);
        let is_form = kind.is_some_and(|kind| kind.as_bytes().starts_with(FORM.as_bytes()));
        if request.method() != Method::POST || !is_form {
            return Ok(Self(in_url));
        }
        let Form(mut pairs) = Form::<Vec<(String, String)>>::from_request(request, state)
            .await
            .map_err(|error| ApiError::BadData(error.body_text()))?;
        pairs.extend(in_url);
        Ok(Self(pairs))
    }
}

impl Params {
    /// The first value of a parameter, unless it is empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(n, _)| n == name)?;
        Some(found.1.as_str()).filter(|value| !value.is_empty())
    }

    /// The query, parsed.
    pub(super) fn query(&self) -> Result<promql::Query, ApiError> {
        let text = self.get("query").unwrap_or("");
        promql::Query::new(text).map_err(|error| ApiError::parameter("query", &error.to_string()))
    }

    /// A time in milliseconds.
    pub(super) fn time(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        time(text).map(Some).ok_or_else(|| {
            ApiError::parameter(name, &format!("cannot parse {text:?} to a valid timestamp"))
        })
    }

    pub(super) fn required_time(&self, name: &str) -> Result<i64, ApiError> {
        self.time(name)?
            .ok_or_else(|| ApiError::parameter(name, "cannot parse \"\" to a valid timestamp"))
    }

    /// A duration in milliseconds.
    pub(super) fn duration(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        duration(text).map(Some).ok_or_else(|| {
            ApiError::parameter(name, &format!("cannot parse {text:?} to a valid duration"))
        })
    }

    pub(super) fn required_duration(&self, name: &str) -> Result<i64, ApiError> {
        self.duration(name)?
            .ok_or_else(|| ApiError::parameter(name, "cannot parse \"\" to a valid duration"))
    }

    /// The most series or names wanted; none when 0 or absent.
    pub(super) fn limit(&self) -> Result<Option<usize>, ApiError> {
        let Some(text) = self.get("limit") else {
            return Ok(None);
        };
        match text.parse::<usize>() {
            Ok(0) => Ok(None),
            Ok(limit) => Ok(Some(limit)),
            Err(_) => Err(ApiError::parameter("limit", "limit must be a non-negative number")),
        }
    }

    /// The time that a question about labels is about.
    pub(super) fn period(&self) -> Result<(i64, i64), ApiError> {
        let start = self.time("start")?.unwrap_or(ALL_TIME.0);
        let end = self.time("end")?.unwrap_or(ALL_TIME.1);
        if end < start {
            return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
        }
        Ok((start, end))
    }

    /// All `match[]` selectors.
    pub(super) fn selectors(&self) -> Result<Vec<Vec<Matcher>>, ApiError> {
        let texts = || self.0.iter().filter(|(name, _)| name == "match[]");
        let bad = |problem: &str| ApiError::parameter("match[]", problem);
        let count = texts().count();
        if count > SELECTORS_MAX {
            return Err(bad(&format!("{count} selectors; at most {SELECTORS_MAX}")));
        }
        let mut selectors = Vec::with_capacity(count);
        let mut regexes = 0;
        for (_, text) in texts() {
            let matchers = parse_selector(text).map_err(|error| bad(&error.to_string()))?;
            regexes += matchers.iter().filter(|matcher| matcher.is_regex()).count();
            if regexes > REGEXES_MAX {
                return Err(bad(&format!("more than {REGEXES_MAX} regular expressions")));
            }
            selectors.push(matchers);
        }
        Ok(selectors)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "bounded by TIME_MAX")]
fn seconds(text: &str) -> Option<i64> {
    let seconds: f64 = text.parse().ok()?;
    (seconds.abs() <= TIME_MAX).then(|| (seconds * 1000.0).round() as i64)
}

/// Unix seconds with a fraction, or RFC 3339.
fn time(text: &str) -> Option<i64> {
    seconds(text).or_else(|| parse_rfc3339(text).map(|nanos| nanos.div_euclid(NANOS_PER_MILLI)))
}

/// Seconds with a fraction, or Prometheus' durations.
fn duration(text: &str) -> Option<i64> {
    seconds(text).or_else(|| parse_duration(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_durations() {
        let times = [
            ("1435781430.781", Some(1_435_781_430_781)),
            ("2015-07-01T20:10:51.781Z", Some(1_435_781_451_781)),
            ("2015-07-01T20:10:51+02:00", Some(1_435_774_251_000)),
            ("-1.5", Some(-1500)),
            ("NaN", None),
            ("1e30", None),
            ("now", None),
        ];
        for (text, expected) in times {
            assert_eq!(time(text), expected, "{text}");
        }
        let durations =
            [("15", Some(15_000)), ("0.5", Some(500)), ("1h", Some(3_600_000)), ("x", None)];
        for (text, expected) in durations {
            assert_eq!(duration(text), expected, "{text}");
        }
    }
}
