//! Filters that reach over the borders of templates and variables: needles cut from the lines
//! themselves, as texts and expressions, of any case, wanted or not.

use proptest::prelude::*;
use regex::Regex;
use taffrail_model::{Nanos, TimeRange};
use taffrail_query::source::{Cancel, Direction, LineFilter, LogCount, LogScan, LogSource};

use super::{LogStore, LogStoreConfig, Oracle, rows, scan_all, stream};

/// Lines of few templates, with variables of every kind.
fn lines() -> impl Strategy<Value = Vec<String>> {
    let line = (0_usize..8, any::<u32>(), any::<u64>(), 0_u32..4).prop_map(|(kind, n, id, few)| {
        let short = n % 1000;
        match kind {
            0 => format!("took {short}ms id={id:016x} by web-{few}"),
            1 => format!("10.0.{few}.{} - \"GET /p/{short}\" rt=0.{short:03}", n % 256),
            2 => format!(
                "{{\"ts\":\"2026-11-20T14:5{few}:{:02}Z\",\"id\":\"{id:08x}-dead-beef\"}}",
                n % 60
            ),
            3 => format!("Error{few} in fé{few}é: \u{11}{short}\u{12} ſtate k8s"),
            4 => format!("a line\nof two rows {few}"),
            5 => format!("pod x{:05x}z{few} UP{short}Down", n % 0xFFFFF),
            6 => "nothing varies here, error".to_owned(),
            _ => format!("{short}"),
        }
    });
    proptest::collection::vec(line, 1..60)
}

/// How a text cut from a line is asked for.
#[derive(Clone, Debug)]
struct Cut {
    line: prop::sample::Index,
    start: prop::sample::Index,
    chars: usize,
    form: usize,
    wanted: bool,
}

fn cuts() -> impl Strategy<Value = Vec<Cut>> {
    let index = any::<prop::sample::Index>;
    let cut = (index(), index(), 0_usize..14, 0_usize..9, any::<bool>())
        .prop_map(|(line, start, chars, form, wanted)| Cut { line, start, chars, form, wanted });
    proptest::collection::vec(cut, 1..4)
}

impl Cut {
    fn filter(&self, lines: &[String]) -> LineFilter {
        let chars: Vec<char> = lines[self.line.index(lines.len())].chars().collect();
        let start = self.start.index(chars.len() + 1);
        let text: String = chars[start..].iter().take(self.chars).collect();
        let escaped = regex::escape(&text);
        let pattern = match self.form {
            0..=3 => {
                let text = match self.form {
                    0 | 1 => text,
                    2 => text.to_uppercase(),
                    _ => format!("{text}0"),
                };
                let texts = vec![text];
                return if self.wanted {
                    LineFilter::Contains(texts)
                } else {
                    LineFilter::NotContains(texts)
                };
            }
            4 => format!("(?i){}", escaped.to_uppercase()),
            5 => Regex::new("[0-9]+").unwrap().replace_all(&escaped, r"\d+").into_owned(),
            6 => format!("^{escaped}|{escaped}$"),
            7 => format!(r"\b{escaped}"),
            _ => format!("({escaped}.*)+e"),
        };
        let expressions = vec![Regex::new(&pattern).unwrap()];
        if self.wanted {
            LineFilter::Matches(expressions)
        } else {
            LineFilter::NotMatches(expressions)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn needles_over_borders_are_found(
        lines in lines(), cuts in proptest::collection::vec(cuts(), 8), from in 0_i64..60, merged in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let store = LogStore::open(LogStoreConfig::new(dir.path())).unwrap().store;
        let timed: Vec<(Nanos, &str)> = (0..).zip(lines.iter().map(String::as_str)).collect();
        let streams = vec![stream("a", &timed)];
        let mut oracle = Oracle::default();
        oracle.add(&streams);
        store.apply(0, streams, &[]);
        store.flush().unwrap();
        if merged {
            store.compact_all().unwrap();
        }
        for cuts in cuts {
            let filters: Vec<LineFilter> = cuts.iter().map(|cut| cut.filter(&lines)).collect();
            let scan = LogScan {
                filters: filters.clone(),
                range: TimeRange::new(from, 60),
                order: Some(Direction::Backward),
                ..scan_all()
            };
            prop_assert_eq!(rows(&store, &scan, usize::MAX), oracle.scan(&scan), "{:?}", filters);
            for ranges in [vec![TimeRange::new(0, 60)], vec![TimeRange::new(0, from), TimeRange::new(from, 60)]] {
                let count = LogCount {
                    matchers: Vec::new(), filters: filters.clone(), ranges, by_level: false, bytes: true,
                    only_plain: true, cancel: Cancel::new(),
                };
                prop_assert_eq!(store.count(&count).unwrap(), Some(oracle.count(&count)), "{:?}", filters);
            }
        }
    }
}
