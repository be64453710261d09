use super::*;
use crate::pods::Origin;
use crate::pods::table::{Event, Table};

fn volume(name: &str, source: VolumeSource) -> Volume {
    Volume { name: name.into(), source }
}

fn pod(annotation: &str, volumes: Vec<Volume>) -> Pod {
    Pod {
        uid: "u-1".into(),
        namespace: "shop".into(),
        name: "web".into(),
        annotations: [(ANNOTATION.to_owned(), annotation.to_owned())].into(),
        volumes,
        ..Pod::default()
    }
}

fn roots(kubelet: &Path) -> Roots {
    Roots { kubelet: kubelet.to_owned(), host: None }
}

fn resolve(pod: Pod, root: &Path) -> (Vec<(PathBuf, String)>, Vec<Problem>) {
    let (mut table, pods) = Table::new(Origin::File);
    table.apply(Event::Applied(pod.into()), tokio::time::Instant::now());
    let (found, problems) = rules(&pods.now(), &roots(root), &mut Lanes::default());
    let short = |rule: VolumeRule| {
        let RuleKind::Volume { namespace, pod, uid, .. } = rule.kind else { panic!("a pod's") };
        assert_eq!((&*namespace, &*pod, &*uid), ("shop", "web", "u-1"));
        (rule.root, rule.glob)
    };
    (found.into_iter().map(short).collect(), problems.into_iter().map(|p| p.1).collect())
}

#[test]
fn volumes_are_found_where_the_kubelet_keeps_them() {
    let base = "/k/pods/u-1/volumes";
    let cases = [
        ("a", VolumeSource::EmptyDir, "kubernetes.io~empty-dir/a", DEFAULT_GLOB),
        ("a:/**/*.txt", VolumeSource::EmptyDir, "kubernetes.io~empty-dir/a", "**/*.txt"),
        (" a : *.log ,", VolumeSource::InlineCsi, "kubernetes.io~csi/a/mount", "*.log"),
        ("a:", VolumeSource::HostPath("/srv/logs".into()), "/srv/logs", DEFAULT_GLOB),
    ];
    for (annotation, source, folder, glob) in cases {
        let found = resolve(pod(annotation, vec![volume("a", source)]), Path::new("/k"));
        let expected = (Path::new(base).join(folder), glob.to_owned());
        assert_eq!(found, (vec![expected], vec![]), "{annotation}");
    }
}

#[test]
fn what_cannot_be_read_is_told() {
    let cases = [
        ("b", Problem::NoVolume("b".into())),
        ("a:../../*", Problem::Glob("../../*".into())),
        ("secret", Problem::Kind("secret".into())),
        ("../a", Problem::NoVolume("../a".into())),
        ("..", Problem::Name("..".into())),
    ];
    for (annotation, problem) in cases {
        let volumes = vec![
            volume("a", VolumeSource::EmptyDir),
            volume("secret", VolumeSource::Other),
            volume("..", VolumeSource::EmptyDir),
        ];
        let found = resolve(pod(annotation, volumes), Path::new("/k"));
        assert_eq!(found, (vec![], vec![problem]), "{annotation}");
    }
    let many = vec!["a"; RULES_MAX + 9].join(",");
    let found = resolve(pod(&many, vec![volume("a", VolumeSource::EmptyDir)]), Path::new("/k"));
    assert_eq!((found.0.len(), found.1), (1, vec![Problem::TooMany]), "each folder once");
}

#[test]
fn a_claim_is_found_only_when_there_is_no_doubt() {
    let folder = tempfile::tempdir().expect("folder");
    let volumes = folder.path().join("pods/u-1/volumes");
    let claim = |bound: Option<(&str, Option<&str>)>| {
        let bound =
            bound.map(|(name, path)| Bound { volume: name.into(), path: path.map(PathBuf::from) });
        volume("a", VolumeSource::Claim { claim: "logs-db-0".into(), bound })
    };
    let problem = |found| Problem::Claim { volume: "a".into(), claim: "logs-db-0".into(), found };

    assert_eq!(resolve(pod("a", vec![claim(None)]), folder.path()).1, [problem(0)]);
    for made in
        ["kubernetes.io~csi/pv-7/mount", "kubernetes.io~empty-dir/x", "kubernetes.io~secret/s"]
    {
        std::fs::create_dir_all(volumes.join(made)).expect("create");
    }
    let found = resolve(pod("a", vec![claim(None)]), folder.path()).0;
    assert_eq!(found[0].0, volumes.join("kubernetes.io~csi/pv-7/mount"));

    let other = || volume("b", VolumeSource::Claim { claim: "other".into(), bound: None });
    let two = vec![claim(None), other()];
    assert_eq!(resolve(pod("a", two), folder.path()).1, [problem(1)]);
    std::fs::create_dir_all(volumes.join("kubernetes.io~local-volume/pv-8")).expect("create");
    assert_eq!(resolve(pod("a", vec![claim(None)]), folder.path()).1, [problem(2)]);

    // Whoever knows the volume's name has no doubt.
    let cases = [
        (("pv-8", None), volumes.join("kubernetes.io~local-volume/pv-8")),
        (("pv-7", None), volumes.join("kubernetes.io~csi/pv-7/mount")),
        (("pv-9", Some("/srv/logs")), PathBuf::from("/srv/logs")),
    ];
    for (bound, expected) in cases {
        let found = resolve(pod("a", vec![claim(Some(bound)), other()]), folder.path());
        assert_eq!(found, (vec![(expected, DEFAULT_GLOB.to_owned())], vec![]));
    }
    let unmounted = vec![claim(Some(("pv-9", None)))];
    assert_eq!(resolve(pod("a", unmounted), folder.path()).1, [problem(0)]);
}

#[test]
fn of_a_volume_that_is_seen_in_parts_only_the_parts_are_read() {
    let folder = tempfile::tempdir().expect("folder");
    let parts = vec![("app".to_owned(), 1), ("side".to_owned(), 0)];
    let sub_paths = [("a".to_owned(), parts)].into();
    let pod = Pod { sub_paths, ..pod("a", vec![volume("a", VolumeSource::EmptyDir)]) };
    let base = folder.path().join("pods/u-1/volume-subpaths/a");
    let found = |pod: &Pod| resolve(pod.clone(), folder.path()).0;
    let both = [base.join("app/1"), base.join("side/0")];
    assert_eq!(found(&pod).into_iter().map(|(root, _)| root).collect::<Vec<_>>(), both);
    // Two containers that see the same part: its files are read once.
    std::fs::create_dir_all(&both[0]).expect("create");
    std::fs::create_dir_all(base.join("side")).expect("create");
    std::os::unix::fs::symlink(&both[0], &both[1]).expect("link");
    assert_eq!(found(&pod).len(), 1);
    let secret = Pod { volumes: vec![volume("a", VolumeSource::Other)], ..pod };
    assert_eq!(resolve(secret, folder.path()).1, [Problem::Kind("a".into())]);
}

#[test]
fn folders_of_the_node_are_looked_for_below_its_root() {
    let host = tempfile::tempdir().expect("folder");
    std::fs::create_dir_all(host.path().join("run/app")).expect("create");
    std::fs::create_dir(host.path().join("var")).expect("create");
    std::os::unix::fs::symlink("/run", host.path().join("var/run")).expect("link");
    let roots = Roots { kubelet: "/k".into(), host: Some(host.path().to_owned()) };
    let real = host.path().canonicalize().expect("is there");
    for (path, expected) in [
        ("/run/app", real.join("run/app")),
        ("/var/run/app", real.join("run/app")),
        ("/../../run/app", real.join("run/app")),
        ("/not/there", host.path().join("not/there")),
    ] {
        assert_eq!(of_host(Path::new(path), &roots, &Lanes::default()), expected, "{path}");
    }
    let none = Roots { host: None, ..roots };
    assert_eq!(of_host(Path::new("/x"), &none, &Lanes::default()), Path::new("/x"));
}

#[tokio::test]
async fn volumes_of_pods_that_end_are_lent_and_go_over_to_the_next_pod() {
    let now = tokio::time::Instant::now();
    let (mut table, pods) = Table::new(Origin::Cluster);
    let host = |uid: &str| Pod {
        uid: uid.into(),
        ..pod("a", vec![volume("a", VolumeSource::HostPath("/srv/logs".into()))])
    };
    let of = |pods: &Pods| {
        let rules = rules(&pods.now(), &roots(Path::new("/k")), &mut Lanes::default()).0;
        let short = |rule: VolumeRule| match rule.kind {
            RuleKind::Volume { uid, .. } => (uid, rule.lent),
            RuleKind::Plain => panic!("a pod's"),
        };
        rules.into_iter().map(short).collect::<Vec<_>>()
    };
    let known = |uid: &str, lent| vec![(uid.to_owned(), lent)];
    table.apply(Event::Applied(host("1").into()), now);
    assert_eq!(of(&pods), known("1", false));
    table.apply(Event::Failed("away".into()), now);
    assert_eq!(of(&pods), known("1", true), "nobody would tell of the end");
    table.apply(Event::Applied(Pod { phase: "Succeeded".into(), ..host("1") }.into()), now);
    assert_eq!(of(&pods), known("1", true));
    table.apply(Event::Applied(Pod { ending: true, ..host("1") }.into()), now);
    assert_eq!(of(&pods), known("1", true));
    table.apply(Event::Deleted("1".into()), now);
    assert_eq!(of(&pods), known("1", true), "what it left behind is still read");
    table.apply(Event::Applied(host("2").into()), now);
    assert_eq!(of(&pods), known("2", false), "each folder once");
}
