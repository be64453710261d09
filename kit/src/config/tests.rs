use std::ffi::OsString;
use std::path::Path;

use super::yaml::Node;
use super::*;

fn args(list: &[&str]) -> Vec<OsString> {
    list.iter().map(Into::into).collect()
}

const SCHEMA: Schema = Schema {
    program: "ship",
    about: "A ship.",
    env_prefix: "SHIP",
    settings: &[
        Setting::new("http", Kind::Addr, Some("127.0.0.1:1"), "Where."),
        Setting::new("hold.size", Kind::Bytes, Some("1KiB"), "How big.").live(),
        Setting::required("data_dir", Kind::Path, "Home."),
        Setting::new("hold.key", Kind::Secret, None, "What opens it."),
        Setting::new("fast", Kind::Bool, Some("false"), "How."),
        Setting::new("crew", Kind::List, None, "Who, separated by commas."),
    ],
    sections: &[Section { key: "hold.crates", live: false, help: "What is in it." }],
};

fn load(args: &[&str], env: &[(&str, &str)], file: &str) -> Result<Settings, Stop> {
    SCHEMA.load_from(
        args.iter().map(Into::into),
        &|name| env.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()),
        &|path| {
            if path == Path::new("ship.yaml") {
                Ok(file.to_owned())
            } else {
                Err("no such file".into())
            }
        },
    )
}

/// What the program says instead of running; its own check finds fault with slow ships.
fn started(list: &[&str], file: &str) -> Result<Settings, Stop> {
    let check = |settings: &Settings| {
        if settings.flag("fast") {
            Ok(())
        } else {
            Err(vec![settings.problem("fast", "is too slow")])
        }
    };
    let read = |_: &Path| Ok(file.to_owned());
    SCHEMA.start_from(args(list), &|_| None, &read, check).map(|(settings, ())| settings)
}

fn problems(result: Result<Settings, Stop>) -> Vec<String> {
    match result {
        Err(Stop::Problems(problems)) => problems.iter().map(ToString::to_string).collect(),
        other => panic!("expected problems, not {other:?}"),
    }
}

#[test]
fn flag_over_environment_over_file_over_default() {
    let file = "data_dir: /file\nhttp: 127.0.0.1:2\nhold:\n  size: 2KiB\n";
    let env =
        [("SHIP_HTTP", "127.0.0.1:3"), ("SHIP_HOLD_SIZE", "3KiB"), ("SHIP_CONFIG", "ship.yaml")];
    let settings = load(&["--http", "127.0.0.1:4"], &env, file).expect("valid");
    assert_eq!(settings.addr("http"), "127.0.0.1:4".parse().ok());
    assert_eq!(settings.bytes("hold.size"), 3072);
    assert_eq!(settings.path("data_dir"), Some("/file".into()));
    assert!(!settings.flag("fast"));
    let settings = load(&["--data-dir", "d", "--hold-size=5MB"], &[], "").expect("valid");
    assert_eq!(settings.bytes("hold.size"), 5_000_000);
    assert_eq!(settings.addr("http"), "127.0.0.1:1".parse().ok());
}

#[test]
fn all_problems_at_once_with_their_places() {
    let file = "htpp: 127.0.0.1:2\nfast: perhaps\nhold:\n  size: [1]\n  sails: 3\n";
    let env = [("SHIP_HTTP", "nowhere")];
    assert_eq!(
        problems(load(&["--config", "ship.yaml"], &env, file)),
        [
            "ship.yaml:1:1: unknown key \"htpp\"; did you mean \"http\"?",
            "ship.yaml:4:9: hold.size takes one value",
            "ship.yaml:5:3: unknown key \"hold.sails\"; did you mean \"hold.size\"?",
            "SHIP_HTTP: \"nowhere\" is not an address; expected IP:PORT, for example 127.0.0.1:4100",
            "--data-dir: is required (or SHIP_DATA_DIR in the environment, or data_dir: in the file)",
            "ship.yaml:2:7: \"perhaps\" is not true or false",
        ]
    );
}

#[test]
fn a_file_that_is_not_there_or_not_yaml() {
    let lines = problems(load(&["--config", "other.yaml", "--data-dir", "d"], &[], ""));
    assert_eq!(lines, ["--config: cannot read other.yaml: no such file"]);
    let lines = problems(load(&["--config", "ship.yaml", "--data-dir", "d"], &[], "a: [\n"));
    assert!(lines.len() == 1 && lines[0].starts_with("ship.yaml:"), "{lines:?}");
}

#[test]
fn sections_come_as_trees() {
    let file = "hold:\n  crates: [rum, {name: tar}]\n";
    let settings = load(&["--config", "ship.yaml", "--data-dir", "d"], &[], file).expect("valid");
    let crates = settings.section("hold.crates").and_then(Node::as_list).expect("a list");
    assert_eq!(crates[0].as_text(), Some("rum"));
    assert_eq!(settings.problem_at(crates[1].at, "no").place, "ship.yaml:2:17");
}

#[test]
fn a_list_is_written_as_one_or_with_commas() {
    let crew = |file: &str| {
        load(&["--config", "ship.yaml", "--data-dir", "d"], &[], file).map(|s| s.list("crew"))
    };
    for file in ["crew: ann, bo", "crew: [ann, bo]", "crew:\n- ann\n- bo\n", "crew: ',ann,,bo'"] {
        assert_eq!(crew(file).expect("valid"), ["ann", "bo"], "{file}");
    }
    for file in ["", "crew:", "crew: []", "crew: ''"] {
        assert_eq!(crew(file).expect("valid"), [""; 0], "{file}");
    }
    let cases = [
        ("crew: ['a, b']", "ship.yaml:1:8: crew: an item with a comma is two items"),
        ("crew: [a, [b]]", "ship.yaml:1:11: crew: expected a list of texts"),
        ("crew: {a: b}", "ship.yaml:1:7: crew takes one value"),
    ];
    for (file, problem) in cases {
        let Err(Stop::Problems(found)) = crew(file) else { panic!("{file}") };
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), [problem]);
    }
}

#[test]
fn what_is_followed_is_in_the_table() {
    let live = |key| SCHEMA.is_live(key);
    assert!(live("hold.size") && !live("http") && !live("hold.crates") && !live("sails"));
}

#[test]
fn help_shows_flag_key_variable_and_default() {
    let Err(Stop::Asked(help)) = load(&["--help"], &[], "") else { panic!("help expected") };
    for part in [
        "--hold-size <SIZE>",
        "[key: hold.size]",
        "[env: SHIP_HOLD_SIZE]",
        "[default: 1KiB]",
        "hold.crates",
    ] {
        assert!(help.contains(part), "{part} in {help}");
    }
    assert!(matches!(load(&["--sails"], &[], ""), Err(Stop::Usage(_))));
    assert!(matches!(load(&["--version"], &[], ""), Err(Stop::Asked(_))));
}

const FILE: &str = "data_dir: 'a: b'
fast: true
hold: {key: mellon, size: 2KiB, crates: [rum, {name: tar, token: t, at: 'http://u:p@h'}, [], {}]}
";

#[test]
fn checking_says_every_problem_or_that_there_is_none() {
    let Err(Stop::Asked(good)) = started(&["--check", "s.yaml"], FILE) else { panic!("asked") };
    assert_eq!(good, "s.yaml: the settings are good\n");
    // What the table finds and what the program finds come together.
    let bad = started(&["--check", "--config", "s.yaml"], "data_dir: d\nsails: 3\nhttp: x\n");
    let expected = [
        "s.yaml:2:1: unknown key \"sails\"; --help lists the keys",
        "s.yaml:3:7: \"x\" is not an address; expected IP:PORT, for example 127.0.0.1:4100",
        "--fast: is too slow",
    ];
    assert_eq!(problems(bad), expected);
    // Without its data_dir the program cannot check anything.
    assert_eq!(problems(started(&["--check", "s.yaml"], "")).len(), 1);
    let two = started(&["--check", "a", "--config", "b"], FILE);
    assert!(matches!(two, Err(Stop::Usage(_))), "{two:?}");
    started(&["--config", "s.yaml"], FILE).expect("runs");
}

#[test]
fn what_is_printed_says_where_it_is_from_and_is_a_file_itself() {
    let arguments = ["--print-config", "--config", "s.yaml", "--http", ":9"];
    let Err(Stop::Asked(page)) = started(&arguments, FILE) else { panic!("asked") };
    let expected = "# Settings in effect of ship.
# File: s.yaml
http: \":9\" # --http
hold:
  size: 2KiB # s.yaml:3:27
  key: \"********\" # s.yaml:3:13
  crates: # s.yaml:3:41
    - rum
    - name: tar
      token: \"********\"
      at: \"http://u:********@h\"
    - []
    - {}
data_dir: \"a: b\" # s.yaml:1:11
fast: true # s.yaml:2:7
# crew: is not set
";
    assert_eq!(page, expected);
    let once = started(&["--config", "s.yaml", "--http", ":9"], FILE).expect("valid");
    let again = started(&["--config", "printed.yaml"], &page).expect("valid");
    assert_eq!(once.changed(&again), ["hold.crates", "hold.key"], "but for the secrets");
    let Err(Stop::Asked(second)) = started(&["--print-config", "--config", "p"], &page) else {
        panic!("asked")
    };
    let values = |page: &str| -> Vec<String> {
        let value = |line: &str| line.split(" # ").next().map(str::to_owned);
        page.lines().filter(|l| !l.starts_with('#')).filter_map(value).collect()
    };
    assert_eq!(values(&second), values(&page));
}

#[test]
fn changes_are_named_and_mixed() {
    let load = |file: &str| started(&["--config", "s.yaml"], file).expect("valid");
    let old = load("data_dir: d\nfast: true\nhold: {crates: [{a: 1, b: 2}]}\n");
    let moved = load("# moved\nfast: true\nhold:\n  crates:\n  - {b: 2, a: 1}\ndata_dir: d\n");
    assert!(old.changed(&moved).is_empty());
    let new = load("data_dir: e\nfast: true\nhold: {size: 5KiB, crates: [{a: 1}], key: k}\n");
    assert_eq!(old.changed(&new), ["data_dir", "hold.crates", "hold.key", "hold.size"]);
    let mixed = old.mixed(&new, &["hold.size", "hold.crates"]);
    assert_eq!(mixed.changed(&new), ["data_dir", "hold.key"]);
    assert_eq!(mixed.bytes("hold.size"), 5120);
    assert!(mixed.mixed(&old, &["hold.crates", "hold.size"]).changed(&old).is_empty());
}
