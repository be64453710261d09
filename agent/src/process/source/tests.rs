//! Rules follow the pods.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::*;
use crate::pods::table::{Event, Table};
use crate::pods::{Container, ContainerKind, Origin};

fn pod(annotations: &[(&str, &str)]) -> Pod {
    let container = |name: &str| Container { name: name.into(), ports: Vec::new() };
    Pod {
        uid: "u".into(),
        namespace: "shop".into(),
        name: "web".into(),
        annotations: annotations.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        containers: vec![container("main")],
        kinds: BTreeMap::from([("setup".to_owned(), ContainerKind::Init)]),
        ..Pod::default()
    }
}

fn container(name: &str) -> FileKind {
    FileKind::Container {
        namespace: "shop".into(),
        pod: "web".into(),
        uid: "u".into(),
        container: name.into(),
        restart: 0,
    }
}

#[tokio::test(start_paused = true)]
async fn rules_follow_the_pod() {
    let (mut table, pods) = Table::new(Origin::Cluster);
    let source = Source::new(Rules::default(), pods, Metrics::default());
    assert!(source.rules(&container("main")).sample.is_none(), "the pod is not known yet");

    table.apply(
        Event::Listed(vec![pod(&[("taffrail.dev/sample", "5%"), ("taffrail.dev/parser", "x")])]),
        Instant::now(),
    );
    let first = source.rules(&container("main"));
    assert!(first.sample.is_some());
    assert!(Arc::ptr_eq(&first, &source.rules(&container("main"))), "made once");
    let problems = source.problems();
    assert_eq!(problems.len(), 1);
    assert_eq!(
        (&*problems[0].pod, &*problems[0].problem.annotation),
        ("shop/web", "taffrail.dev/parser")
    );

    // What is not about annotations changes nothing.
    let ready = Pod {
        phase: "Running".into(),
        ..pod(&[("taffrail.dev/sample", "5%"), ("taffrail.dev/parser", "x")])
    };
    table.apply(Event::Applied(ready.into()), Instant::now());
    assert!(Arc::ptr_eq(&first, &source.rules(&container("main"))));

    // An init container says what it is on each record.
    let setup = source.rules(&container("setup"));
    assert_eq!(setup.fields, [("container_kind", "init".to_owned())]);

    table.apply(Event::Applied(pod(&[("taffrail.dev/exclude", "true")]).into()), Instant::now());
    assert!(source.rules(&container("main")).exclude);
    assert_eq!(source.problems(), [], "mended");

    // The last lines of a pod that is long gone.
    table.apply(Event::Listed(vec![]), Instant::now());
    tokio::time::advance(crate::pods::table::KEEP_DELETED * 2).await;
    table.apply(Event::Listed(vec![]), Instant::now());
    assert!(source.rules(&container("main")).exclude);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_not_known_is_not_trusted() {
    use crate::process::redact::{Action, Detector, Redactor};
    let unknown = || Redactor::new([(Detector::Email, Action::Mask)], Vec::new(), None).into();
    let rules = || Rules { unknown: unknown(), ..Rules::default() };
    let (mut table, pods) = Table::new(Origin::Cluster);
    let source = Source::new(rules(), pods, Metrics::default());
    let idle = |source: &Source| source.rules(&container("main")).redactor.is_idle();
    assert!(!idle(&source) && !source.of_sender(None).redactor.is_idle());
    assert!(source.usual().redactor.is_idle(), "what is no pod's");
    table.apply(Event::Listed(vec![pod(&[])]), Instant::now());
    assert!(idle(&source), "a pod that asks for nothing");
    let none = Source::new(rules(), Pods::none(), Metrics::default());
    assert!(idle(&none) && none.of_sender(None).redactor.is_idle(), "there are no pods here");
}

#[test]
fn files_have_their_own_time() {
    let source = Source::default();
    let plain = FileKind::Plain { path: "/var/log/x.log".into() };
    assert_eq!(source.rules(&plain).time, TimeOf::Line);
    assert_eq!(source.rules(&container("main")).time, TimeOf::Runtime);
}
