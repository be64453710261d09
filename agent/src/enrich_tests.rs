use super::*;
use crate::pods::table::{Event, Table};
use proptest::prelude::*;

fn place() -> Place {
    Place { cluster: "c1".into(), node: "n1".into() }
}

fn pod(labels: &[(&str, &str)], owner: Option<(&str, &str)>) -> Pod {
    Pod {
        uid: "u".into(),
        namespace: "shop".into(),
        name: "web-5d9-x".into(),
        labels: labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        owner: owner.map(|(kind, name)| Owner { kind: kind.into(), name: name.into() }),
        ..Pod::default()
    }
}

fn container(uid: &str) -> FileKind {
    FileKind::Container {
        namespace: "shop".into(),
        pod: "web-5d9-x".into(),
        uid: uid.into(),
        container: "main".into(),
        restart: 0,
    }
}

#[test]
fn a_container_has_the_labels_of_its_pod() {
    let pod = pod(
        &[
            ("app.kubernetes.io/name", "web"),
            ("pod-template-hash", "5d9"),
            ("node", "liar"),
            ("job", "shop/web"),
            ("le", "1"),
            ("9x", ""),
        ],
        Some(("ReplicaSet", "web-5d9")),
    );
    let labels = stream_labels(&place(), &pod, &container("u"), LogStream::Stderr);
    assert_eq!(
        labels.to_string(),
        r#"{app="web", app_kubernetes_io_name="web", cluster="c1", container="main", job="shop/web", label_le="1", label_node="liar", namespace="shop", node="n1", pod="web-5d9-x", pod_template_hash="5d9", service_name="web", stream="stderr", workload="web", workload_kind="Deployment"}"#
    );
}

#[test]
fn workloads_are_what_a_person_deployed() {
    let cases = [
        (Some(("ReplicaSet", "web-5d9")), "5d9", "web", "Deployment"),
        (Some(("ReplicaSet", "web-5d9")), "other", "web-5d9", "ReplicaSet"),
        (Some(("ReplicaSet", "web")), "", "web", "ReplicaSet"),
        (Some(("Job", "backup-29384710")), "", "backup", "CronJob"),
        (Some(("Job", "backup-1732118400")), "", "backup", "CronJob"),
        (Some(("Job", "backup-2024")), "", "backup-2024", "Job"),
        (Some(("StatefulSet", "db")), "", "db", "StatefulSet"),
        (Some(("Node", "x")), "", "web-5d9", "StaticPod"),
        (None, "", "web-5d9-x", "Pod"),
    ];
    for (owner, hash, name, kind) in cases {
        let found = workload(&pod(&[("pod-template-hash", hash)], owner));
        assert_eq!((&*found.name, &*found.kind), (name, kind), "{owner:?}");
    }
}

#[test]
fn app_is_the_first_of_the_usual_labels() {
    let cases: [(&[(&str, &str)], &str); 4] = [
        (&[("app", "a"), ("app.kubernetes.io/name", "b"), ("k8s-app", "c")], "a"),
        (&[("app", ""), ("app.kubernetes.io/name", "b"), ("k8s-app", "c")], "b"),
        (&[("k8s-app", "c")], "c"),
        (&[], "db"),
    ];
    for (labels, app) in cases {
        let labels = target_labels(&place(), &pod(labels, Some(("StatefulSet", "db"))), "");
        assert_eq!(labels.get("app"), Some(app));
        assert_eq!(labels.get("service_name"), Some(app));
        assert_eq!(labels.get("job"), Some(&*format!("shop/{app}")));
        assert_eq!(labels.get("container"), None);
    }
}

#[test]
fn files_of_volumes_and_of_nobody() {
    let volume = FileKind::Volume {
        namespace: "shop".into(),
        pod: "web-5d9-x".into(),
        uid: "u".into(),
        volume: "logs".into(),
        path: "/v/logs/app.log".into(),
    };
    let labels = stream_labels(&place(), &pod(&[("app", "web")], None), &volume, LogStream::File);
    for (name, value) in [("volume", "logs"), ("filename", "/v/logs/app.log"), ("stream", "file")] {
        assert_eq!(labels.get(name), Some(value));
    }
    assert_eq!(labels.get("container"), None);
    assert_eq!(path_labels(&place(), &volume, LogStream::File).get("app"), Some("logs"));
    let plain = FileKind::Plain { path: "/var/log/syslog.log".into() };
    assert_eq!(
        path_labels(&Place::default(), &plain, LogStream::File).to_string(),
        r#"{app="syslog", filename="/var/log/syslog.log", job="files", service_name="syslog", stream="file"}"#
    );
}

#[tokio::test(start_paused = true)]
async fn a_file_waits_for_its_pod_but_not_for_ever() {
    let (mut table, pods) = Table::new(Origin::Cluster);
    let labeler = labeler(place(), pods);
    let ask = |uid: &str| labeler(&container(uid), LogStream::Stdout);
    assert!(matches!(ask("u"), Labeling::Wait), "the first list has not come");
    table.apply(Event::Listed(vec![]), Instant::now());
    assert!(matches!(ask("u"), Labeling::Wait), "the pod may still come");
    tokio::time::advance(WAIT_FOR_POD / 2).await;
    table.apply(Event::Applied(pod(&[("app", "known")], None).into()), Instant::now());
    for app in ["known", "changed"] {
        table.apply(Event::Applied(pod(&[("app", app)], None).into()), Instant::now());
        for _ in 0..2 {
            let Labeling::Ready(labels) = ask("u") else { panic!("the pod is known") };
            assert_eq!((labels.get("app"), labels.get("stream")), (Some(app), Some("stdout")));
        }
    }

    table.apply(Event::Listed(vec![]), Instant::now());
    tokio::time::advance(crate::pods::table::KEEP_DELETED * 2).await;
    table.apply(Event::Listed(vec![]), Instant::now());
    let Labeling::Ready(labels) = ask("u") else { panic!("its file remembers it") };
    assert_eq!(labels.get("app"), Some("changed"));

    assert!(matches!(ask("unknown"), Labeling::Wait));
    tokio::time::advance(WAIT_FOR_POD).await;
    let Labeling::Ready(labels) = ask("unknown") else { panic!("enough waited") };
    assert_eq!((labels.get("app"), labels.get("pod")), (Some("main"), Some("web-5d9-x")));
}

#[tokio::test(start_paused = true)]
async fn without_a_list_the_path_has_to_do() {
    let (_table, pods) = Table::new(Origin::Cluster);
    let unsynced = labeler(place(), pods);
    tokio::time::advance(WAIT_FOR_LIST).await;
    assert!(matches!(unsynced(&container("u"), LogStream::Stdout), Labeling::Ready(_)));
    let alone = labeler(place(), Pods::none());
    assert!(matches!(alone(&container("u"), LogStream::Stdout), Labeling::Ready(_)));
}

#[tokio::test(start_paused = true)]
async fn labels_of_the_namespace_are_waited_for_but_not_for_ever() {
    let (mut table, pods) = Table::new(Origin::Cluster);
    table.want_namespace_labels(vec!["acme.dev/team".into()]);
    let labeler = labeler(place(), pods);
    let ask = || labeler(&container("u"), LogStream::Stdout);
    table.apply(
        Event::Listed(vec![pod(&[("namespace_acme_dev_team", "mine")], None)]),
        Instant::now(),
    );
    assert!(matches!(ask(), Labeling::Wait));
    let team = |name: &str| {
        let labels = BTreeMap::from([("acme.dev/team".to_owned(), name.to_owned())]);
        Event::Namespaces(BTreeMap::from([("shop".to_owned(), labels)]))
    };
    for name in ["a", "b"] {
        table.apply(team(name), Instant::now());
        let Labeling::Ready(labels) = ask() else { panic!("all is known") };
        assert_eq!(labels.get("namespace_acme_dev_team"), Some(name));
        assert_eq!(labels.get("label_namespace_acme_dev_team"), Some("mine"));
    }

    let (mut table, pods) = Table::new(Origin::Cluster);
    table.want_namespace_labels(vec!["team".into()]);
    let forbidden = super::labeler(place(), pods);
    table.apply(Event::Listed(vec![pod(&[("app", "web")], None)]), Instant::now());
    assert!(matches!(forbidden(&container("u"), LogStream::Stdout), Labeling::Wait));
    tokio::time::advance(WAIT_FOR_LIST).await;
    let Labeling::Ready(labels) = forbidden(&container("u"), LogStream::Stdout) else {
        panic!("enough waited")
    };
    assert_eq!(labels.get("app"), Some("web"));
}

#[test]
fn the_second_stream_of_a_file_has_the_labels_of_its_own_and_shares_their_texts() {
    let (mut table, pods) = Table::new(Origin::Cluster);
    let labels = [("stream", "mine"), ("app", "web"), ("team", "web")];
    table.apply(Event::Listed(vec![pod(&labels, None)]), Instant::now());
    let labeler = labeler(place(), pods.clone());
    let streams = [LogStream::Stdout, LogStream::Stderr];
    let found = streams.map(|stream| {
        let Labeling::Ready(labels) = labeler(&container("u"), stream) else { panic!("known") };
        let pod = pods.now().get("u").cloned().expect("known");
        assert_eq!(labels, stream_labels(&place(), &pod, &container("u"), stream));
        labels
    });
    let pointer = |labels: &Labels, name: &str| {
        let pair = labels.shared().iter().find(|(n, _)| **n == *name).expect("there");
        pair.1.as_ptr()
    };
    assert_eq!(pointer(&found[0], "team"), pointer(&found[1], "team"));
    assert_eq!(pointer(&found[0], "team"), pointer(&found[0], "app"));
}

#[test]
fn labels_are_by_uid() {
    // A pod of a StatefulSet that was made anew under the same name: each file has its own.
    let (mut table, pods) = Table::new(Origin::Cluster);
    let labeler = labeler(place(), pods);
    let old = Pod { uid: "old".into(), ..pod(&[("version", "1")], None) };
    let new = Pod { uid: "new".into(), ..pod(&[("version", "2")], None) };
    table.apply(Event::Listed(vec![old]), Instant::now());
    table.apply(Event::Deleted("old".into()), Instant::now());
    table.apply(Event::Applied(new.into()), Instant::now());
    for (uid, version) in [("old", "1"), ("new", "2")] {
        let Labeling::Ready(labels) = labeler(&container(uid), LogStream::Stdout) else {
            panic!("both are known")
        };
        assert_eq!(labels.get("version"), Some(version), "{uid}");
    }
}

proptest! {
    #[test]
    fn no_pod_label_overrides_and_none_is_lost(
        labels in proptest::collection::btree_map("(app|job|node|le|a[./]b|[a-z]{1,3})", "[a-z]{1,4}", 0..8),
    ) {
        let pairs: Vec<(&str, &str)> = labels.iter().map(|(n, v)| (&**n, &**v)).collect();
        let bare = target_labels(&place(), &pod(&[], None), "main");
        let full = target_labels(&place(), &pod(&pairs, None), "main");
        for name in ["node", "namespace", "pod", "container", "cluster"] {
            prop_assert_eq!(full.get(name), bare.get(name));
        }
        for (label, value) in &labels {
            let name = sanitize_name(label);
            let both = [full.get(&name), full.get(&format!("label_{name}"))];
            prop_assert!(both.contains(&Some(value)), "{} in {}", label, full);
        }
    }
}

#[test]
fn labels_that_nobody_uses_are_dropped_when_there_are_many() {
    let mut all = AllMade::new();
    let pod = Arc::new(Pod { uid: "u".into(), ..Pod::default() });
    let mut held = Vec::new();
    for n in 0..SWEEP_MIN {
        let labels: Labels = [("n", n.to_string())].into_iter().collect();
        let file = FileKind::Plain { path: n.to_string() };
        let labels = all.keep(&file, &pod, LogStream::Stdout, &labels);
        if n % 100 == 0 {
            held.push(labels);
        }
    }
    // The last one is held while it is kept: the sweep comes with it.
    assert_eq!(all.files.len(), held.len() + 1);
    assert_eq!(all.texts.len(), held.len() + 2, "and the name");
    for labels in &held {
        let path = labels.get("n").expect("it is there").to_owned();
        assert!(all.files.contains_key(&FileKind::Plain { path }), "{labels}");
    }
}
