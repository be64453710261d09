use super::*;
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

#[test]
fn patterns() {
    let cases = [
        ("**/*.log", "a.log", true),
        ("**/*.log", "x/y/a.log", true),
        ("**/*.log", "a.log.1", false),
        ("*.log", "x/a.log", false),
        ("logs/**", "logs/x/y", true),
        ("a?c.log", "abc.log", true),
        ("a+b(.log", "a+b(.log", true),
        ("*.log", "new\nline.log", true),
    ];
    for (glob, path, expected) in cases {
        assert_eq!(glob_regex(glob).unwrap().is_match(path), expected, "{glob} {path}");
    }
}

proptest! {
    #[test]
    fn any_pattern_and_path(glob in "\\PC{0,20}", path in "\\PC{0,30}") {
        if let Some(regex) = glob_regex(&glob) {
            let _ = regex.is_match(&path);
        }
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
    let rule =
        |glob: &str| VolumeRule { root: root.path().into(), glob: glob.into(), kind: kind.clone() };
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
fn a_missing_root_is_said() {
    let scan = Scanner::new(Some("/nowhere/at/all".into())).scan(Vec::new(), LATER);
    assert_eq!(scan.problems.len(), 1);
}
