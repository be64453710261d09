use super::super::encode::decode;
use super::*;
use proptest::prelude::*;

fn target() -> TargetState {
    let labels = [("job", "shop/web"), ("instance", "10.0.0.1:80"), ("pod", "web-1")];
    TargetState::new(labels.into_iter().collect(), 1000)
}

fn take(state: &mut TargetState, body: &str, ts: Millis) -> Outcome {
    state.take(Some((body.as_bytes(), Format::Text)), ts, Duration::from_millis(250))
}

/// `name{own labels} value` of each point that is not part of the report, sorted.
fn points(outcome: &[Bytes]) -> Vec<String> {
    let own = |name: &str| !["__name__", "kind", "job", "instance", "pod"].contains(&name);
    let mut found: Vec<String> = decode(outcome)
        .into_iter()
        .filter(|(labels, ..)| !REPORT.contains(&labels.get("__name__").expect("a name")))
        .map(|(labels, ts, value)| {
            let value = value.map_or_else(|| "stale".to_owned(), |v| v.to_string());
            let name = labels.get("__name__").unwrap_or_default().to_owned();
            format!("{name}{} {value} @{ts}", labels.filtered(own))
        })
        .collect();
    found.sort();
    found
}

fn report(outcome: &[Bytes]) -> Vec<Option<f64>> {
    let all = decode(outcome);
    let value = |name: &str| all.iter().find(|p| p.0.get("__name__") == Some(name)).expect(name).2;
    REPORT.into_iter().map(value).collect()
}

#[test]
fn a_round_gives_samples_and_a_report() {
    let mut state = target();
    let outcome = take(&mut state, "# TYPE a counter\na{x=\"1\"} 5\nb 6 77\n", 1000);
    assert_eq!(points(&outcome.frames), ["a{x=\"1\"} 5 @1000", "b{} 6 @77"]);
    assert_eq!(report(&outcome.frames), [1.0, 0.25, 2.0, 2.0, 2.0].map(Some));
    let all = decode(&outcome.frames);
    assert_eq!(all[0].0.get("kind"), Some("counter"));
    assert!(all.iter().all(|(labels, ..)| labels.get("pod") == Some("web-1")));
    assert_eq!(take(&mut state, "a{x=\"1\"} 5\nb 6 77\n", 2000).added, 0);
}

#[test]
fn what_vanishes_is_marked_stale_once() {
    let mut state = target();
    take(&mut state, "a 1\nb 1\nc{x=\"1\",y=\"2\"} 1\ntimed 1 5\n", 1000);
    // Another order of labels is the same series; one with a time of its own ends silently.
    let outcome = take(&mut state, "b 2\nc{y=\"2\",x=\"1\"} 2\n", 2000);
    let expected = ["a{} stale @2000", "b{} 2 @2000", "c{x=\"1\", y=\"2\"} 2 @2000"];
    assert_eq!(points(&outcome.frames), expected);
    assert_eq!(outcome.added, 0);
    assert_eq!(points(&take(&mut state, "b 3\n", 3000).frames).len(), 2);
    assert_eq!(
        points(&take(&mut state, "b 4\na 1\n", 4000).frames),
        ["a{} 1 @4000", "b{} 4 @4000"]
    );
}

#[test]
fn a_failed_round_ends_all_series() {
    for bad in ["a 2\nc 2\nb x\n", "no answer"] {
        let mut state = target();
        take(&mut state, "a 1\nb 1\n", 1000);
        let outcome = if bad == "no answer" {
            state.take(None, 2000, Duration::ZERO)
        } else {
            take(&mut state, bad, 2000)
        };
        assert_eq!(points(&outcome.frames), ["a{} stale @2000", "b{} stale @2000"], "{bad}");
        assert_eq!(report(&outcome.frames)[0], Some(0.0));
        assert_eq!(outcome.error.is_some(), bad != "no answer");
        let outcome = take(&mut state, "a 3\n", 3000);
        assert_eq!((points(&outcome.frames), outcome.added), (vec!["a{} 3 @3000".to_owned()], 1));
    }
}

#[test]
fn a_target_that_vanishes_ends_all_series_and_its_report() {
    let mut state = target();
    assert!(state.end(5).is_empty(), "it was never scraped");
    take(&mut state, "a 1\n", 1000);
    let end = state.end(2000);
    assert_eq!(points(&end), ["a{} stale @2000"]);
    assert_eq!(report(&end), [None; 5]);
    assert!(state.end(3000).is_empty(), "only once");
}

#[test]
fn labels_of_the_target_win() {
    let mut state = target();
    let body = "a{job=\"mine\",exported_job=\"x\",pod=\"\",z=\"\"} 1\n";
    let expected = "a{exported_exported_job=\"mine\", exported_job=\"x\"} 1 @1";
    assert_eq!(points(&take(&mut state, body, 1).frames), [expected]);
}

#[test]
fn samples_that_cannot_be_kept_are_counted() {
    let mut state = target();
    let long = "x".repeat(taffrail_model::limits::LABEL_VALUE_BYTES_MAX + 1);
    let body = format!("a 1\na 2\nt 1 5\nt 2 6\nt 3 6\nl{{v=\"{long}\"}} 1\nl{{v=\"\"}} 1\n");
    let outcome = take(&mut state, &body, 1);
    assert_eq!(points(&outcome.frames), ["a{} 1 @1", "l{} 1 @1", "t{} 1 @5", "t{} 2 @6"]);
    assert_eq!((outcome.duplicates, outcome.long_labels, outcome.added), (2, 1, 3));
    assert_eq!(report(&outcome.frames)[2..4], [Some(7.0), Some(4.0)]);

    let many: String = (0..1001).map(|n| format!("m{n} 1\n")).collect();
    assert_eq!(take(&mut state, &many, 2).error, Some(Error::TooMany(1000)));
}

#[test]
fn kinds_follow_the_family() {
    let mut state = target();
    let body = "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n# TYPE c counter\nc_total 1\nc_created 1\n# TYPE g gauge\ng 1\ng_sum 1\n# TYPE s summary\ns 1\n# EOF\n";
    let outcome = state.take(Some((body.as_bytes(), Format::Text)), 1, Duration::ZERO);
    let mut kinds: Vec<(String, String)> = decode(&outcome.frames)
        .into_iter()
        .filter_map(|(l, ..)| Some((l.get("__name__")?.to_owned(), l.get("kind")?.to_owned())))
        .filter(|(name, _)| !REPORT.contains(&&**name))
        .collect();
    kinds.sort();
    let expected = [
        ("c_created", "gauge"),
        ("c_total", "counter"),
        ("g", "gauge"),
        ("g_sum", "unknown"),
        ("h_bucket", "histogram"),
        ("h_count", "histogram"),
        ("h_sum", "histogram"),
        ("s", "summary"),
    ];
    assert_eq!(kinds, expected.map(|(n, k)| (n.to_owned(), k.to_owned())));
}

proptest! {
    /// The oracle keeps sets: a point for each series that is there, a marker for each that was
    /// there in the round before and is not now.
    #[test]
    fn every_series_lives_and_ends_as_the_oracle_says(
        rounds in proptest::collection::vec(
            proptest::option::weighted(0.8, proptest::collection::btree_set(0..12_u8, 0..10)), 1..12,
        ),
    ) {
        let mut state = target();
        let mut before = std::collections::BTreeSet::new();
        for (ts, round) in rounds.into_iter().enumerate() {
            let ts = ts as Millis;
            let body = round.as_ref().map(|series| {
                let line = |n: &u8| format!("m{}{{x=\"{n}\"}} {ts}\n", n % 3);
                series.iter().map(line).collect::<String>()
            });
            let body = body.as_ref().map(|b| (b.as_bytes(), Format::Text));
            let outcome = state.take(body, ts, Duration::ZERO);
            let now = round.unwrap_or_default();
            let text = |n: &u8, what: &str| format!("m{}{{x=\"{n}\"}} {what} @{ts}", n % 3);
            let mut expected: Vec<String> = now.iter().map(|n| text(n, &ts.to_string())).collect();
            expected.extend(before.difference(&now).map(|n| text(n, "stale")));
            expected.sort();
            prop_assert_eq!(points(&outcome.frames), expected);
            before = now;
        }
    }
}
