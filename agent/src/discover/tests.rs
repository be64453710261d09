use super::*;
use crate::tail::RuleKind;
use proptest::prelude::*;
use std::fs;

#[test]
fn paths_of_containers() {
    let cases = [
        ("0.log", Some((0, None, false))),
        ("12.log", Some((12, None, false))),
        ("0.log.20261120-101112", Some((0, Some("20261120-101112"), false))),
        ("3.log.20261120-101112.gz", Some((3, Some("20261120-101112"), true))),
        ("0.log.20261120-101112.tmp", None),
        ("0.log.gz", None),
        ("0.log.bak", None),
        ("x.log", None),
        (".log", None),
        ("99999999999.log", None),
        ("0.log.", None),
        ("-1.log", None),
    ];
    for (name, expected) in cases {
        let path = format!("/var/log/pods/shop_web-0_ab-cd/app/{name}");
        let found = parse_pod_log_path(Path::new(&path));
        let expected = expected.map(|(restart, rotated, packed)| PodLogPath {
            namespace: "shop".into(),
            pod: "web-0".into(),
            uid: "ab-cd".into(),
            container: "app".into(),
            place: Place { restart, rotated: rotated.map(str::to_owned), packed },
        });
        assert_eq!(found, expected, "{name}");
    }
    for path in
        ["", "/", "0.log", "app/0.log", "a_b/app/0.log", "a_b_c_d/app/0.log", "_b_c/app/0.log"]
    {
        assert_eq!(parse_pod_log_path(Path::new(path)), None, "{path}");
    }
}

proptest! {
    #[test]
    fn any_path(path in "\\PC{0,30}") {
        let _ = parse_pod_log_path(Path::new(&path));
    }
}

fn names(scan: &Scan) -> Vec<String> {
    let files = scan.changed.iter().flat_map(|l| &l.files);
    let mut names: Vec<String> =
        files.map(|f| f.path.file_name().unwrap().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

const LATER: Nanos = i64::MAX;

#[test]
fn every_change_is_reported_once() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("ns_pod_uid/app");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("0.log"), "x").unwrap();
    fs::write(folder.join("0.log.20261120-101112.tmp"), "x").unwrap();
    fs::create_dir(folder.join("1.log")).unwrap();
    let mut scanner = Scanner::new(Some(root.path().to_owned()));
    assert_eq!(names(&scanner.scan(Vec::new(), LATER)), ["0.log"]);
    assert!(scanner.scan(Vec::new(), LATER).changed.is_empty());
    fs::rename(folder.join("0.log"), folder.join("0.log.20261120-101112")).unwrap();
    fs::write(folder.join("0.log"), "y").unwrap();
    assert_eq!(names(&scanner.scan(Vec::new(), LATER)), ["0.log", "0.log.20261120-101112"]);
    scanner.forget(&folder);
    assert_eq!(names(&scanner.scan(Vec::new(), LATER)).len(), 2);
    fs::remove_dir_all(root.path().join("ns_pod_uid")).unwrap();
    let scan = scanner.scan(Vec::new(), LATER);
    assert!(scan.gone.contains(&folder) && scan.changed.is_empty(), "{scan:?}");
}

#[test]
fn a_young_time_of_change_is_not_trusted() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("ns_pod_uid/app");
    fs::create_dir_all(&folder).unwrap();
    let stamp = fs::metadata(&folder).unwrap().modified().unwrap();
    let now = stamp.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as Nanos;
    let mut scanner = Scanner::new(Some(root.path().to_owned()));
    scanner.scan(Vec::new(), now);
    fs::write(folder.join("0.log"), "x").unwrap();
    // As if the file had come within the same tick of the file system's clock.
    fs::File::open(&folder).unwrap().set_modified(stamp).unwrap();
    assert_eq!(names(&scanner.scan(Vec::new(), now)), ["0.log"]);
}

#[test]
fn volumes_come_and_go_with_their_rules() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("a/b")).unwrap();
    for name in ["x.log", "a/y.log", "a/b/z.log", "a/note.txt"] {
        fs::write(root.path().join(name), "x").unwrap();
    }
    std::os::unix::fs::symlink("/etc/passwd", root.path().join("evil.log")).unwrap();
    let kind = RuleKind::Volume {
        namespace: "n".into(),
        pod: "p".into(),
        uid: "u".into(),
        volume: "data".into(),
    };
    let rule = |glob: &str| VolumeRule::new(root.path(), glob, kind.clone());
    let mut scanner = Scanner::new(None);
    let scan = scanner.scan(vec![rule("**/*.log")], LATER);
    assert_eq!(names(&scan), ["x.log", "y.log", "z.log"]);
    let deep =
        scan.changed.iter().flat_map(|l| &l.files).find(|f| f.path.ends_with("z.log")).unwrap();
    assert!(matches!(&deep.kind, FileKind::Volume { path, .. } if path == "a/b/z.log"));
    // Two rules over the same folders: each file once.
    let scan = scanner.scan(vec![rule("**/*.log"), rule("*.log"), rule("**/*.txt")], LATER);
    assert_eq!(names(&scan), ["note.txt", "x.log", "y.log", "z.log"]);
    let scan = scanner.scan(Vec::new(), LATER);
    assert_eq!(scan.gone.len(), 3, "{scan:?}");
}

#[test]
fn files_of_the_node_by_pattern() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("deep/er")).unwrap();
    let all =
        ["a.log", "b.log", "a.log.1", "b.log-20261120", "c.log.2.gz", "debug.log", "deep/d.log"];
    for name in all.iter().chain(&["deep/er/e.log"]) {
        fs::write(root.path().join(name), "x").unwrap();
    }
    let plain = |glob: &str, exclude: &[&str]| VolumeRule {
        exclude: exclude.iter().map(|e| (*e).to_owned()).collect(),
        ..VolumeRule::new(root.path(), glob, RuleKind::Plain)
    };
    let mut scanner = Scanner::new(None);
    let scan = scanner.scan(vec![plain("*.log", &["debug*"])], LATER);
    assert_eq!(names(&scan), ["a.log", "a.log.1", "b.log", "b.log-20261120"]);
    assert_eq!(scanner.folders.len(), 1, "no folder is looked into that cannot hold a file");
    let rotated = scan.changed[0].files.iter().find(|f| f.path.ends_with("a.log.1")).unwrap();
    assert_eq!(rotated.place.rotated.as_deref(), Some(".1"));
    let path = root.path().join("a.log").to_string_lossy().into_owned();
    assert_eq!(rotated.kind, FileKind::Plain { path }, "it is still the file that it was");
    let scan = scanner.scan(vec![plain("*/*.log", &[])], LATER);
    assert_eq!(names(&scan), ["d.log"]);
    // Meant by one rule, rotated by another: it is meant.
    let scan = scanner.scan(vec![plain("a.log", &[]), plain("a*", &[])], LATER);
    let files = &scan.changed[0].files;
    assert!(files.len() == 2 && files.iter().all(|f| f.place.rotated.is_none()), "{files:?}");
}

#[test]
fn links_to_what_is_not_mounted_are_told() {
    let root = tempfile::tempdir().unwrap();
    let pods = root.path().join("pods");
    std::os::unix::fs::symlink("/nowhere/pods", &pods).unwrap();
    let scan = Scanner::new(Some(pods)).scan(Vec::new(), LATER);
    assert!(scan.problems[0].1.contains("/nowhere/pods, which is not visible"), "{scan:?}");
}

#[test]
fn a_folder_is_lent_when_all_its_rules_say_so() {
    let (one, two) = (PathBuf::from("/one"), PathBuf::from("/two"));
    let rule =
        |root: &Path, lent| VolumeRule { lent, ..VolumeRule::new(root, "*", RuleKind::Plain) };
    let mut scanner = Scanner::new(None);
    scanner.scan(vec![rule(&one, true), rule(&one, false), rule(&two, true)], LATER);
    assert_eq!([scanner.lends(&one), scanner.lends(&two)], [false, true]);
    assert!(scanner.lends(Path::new("/none")), "whoever is not named any more is let go");
}

#[test]
fn a_missing_root_is_said() {
    let scan = Scanner::new(Some("/nowhere/at/all".into())).scan(Vec::new(), LATER);
    assert_eq!(scan.problems.len(), 1);
}
