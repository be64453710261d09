//! The journal against a collector that keeps the rules, with a script in journalctl's place.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use taffrail_kit::shutdown::{self, Trigger};
use tokio::task::JoinHandle;

use super::*;
use crate::ship::fake::{Fake, Fault};

/// Prints the entries from the cursor on, then what is appended, as journalctl does; ends when the
/// file `end` is there.
const SCRIPT: &str = r#"#!/bin/sh
for argument; do case "$argument" in
  --directory=*) folder="${argument#--directory=}";;
  --cursor=*) from="${argument#*;i=}"; from=$((0x${from%%;*}));;
esac; done
echo "$@" >>"$folder/started"
number=${from:-1}
while [ -d "$folder" ] && [ ! -e "$folder/end" ]; do
  if [ -e "$folder/$number" ]; then cat "$folder/$number" || exit; number=$((number + 1))
  elif [ -e "$folder/$((number + 1))" ] || [ -e "$folder/gap-$number" ]; then number=$((number + 1))
  else sleep 0.02; fi
done
echo "no more" >&2
"#;

struct World {
    folder: tempfile::TempDir,
    fake: Fake,
    registry: Registry,
    meaning: Source,
    running: Option<(Trigger, JoinHandle<()>)>,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let script = folder.path().join("journalctl");
        fs::write(&script, SCRIPT).expect("write");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("executable");
        let (fake, registry) = (Fake::start().await, Registry::new());
        Self { folder, fake, registry, meaning: Source::default(), running: None }
    }

    fn write(&self, number: u64, unit: &str, message: &str) {
        let entry = format!(
            "__CURSOR=s=ab;i={number:x};b=0\n__REALTIME_TIMESTAMP={}\nPRIORITY=4\n_SYSTEMD_UNIT={unit}\n\
             MESSAGE={message}\n\n",
            1_000_000 + number
        );
        // Whole at once, as the script takes it as soon as it is there.
        let path = self.folder.path().join(format!("{number}.part"));
        fs::write(&path, entry).expect("write");
        fs::rename(&path, self.folder.path().join(number.to_string())).expect("rename");
    }

    fn start(&mut self, units: &[&str]) {
        let config = Config {
            command: vec![self.folder.path().join("journalctl").display().to_string()],
            path: self.folder.path().to_owned(),
            units: units.iter().map(|u| (*u).to_owned()).collect(),
            since: Duration::from_secs(60),
        };
        self.registry = Registry::new();
        let place = Place { cluster: String::new(), node: "n".into() };
        let journal =
            Journal::new(config, place, self.meaning.clone(), self.fake.client(), &self.registry);
        let (trigger, shutdown) = shutdown::channel();
        let running = tokio::spawn(journal.expect("metrics").run(shutdown));
        self.running = Some((trigger, running));
    }

    async fn stop(&mut self) {
        let (trigger, running) = self.running.take().expect("running");
        trigger.stop();
        running.await.expect("ends");
    }

    fn counter(&self, name: &str) -> u64 {
        let families = self.registry.gather();
        let family = families.iter().find(|f| f.name() == name).expect("a counter");
        family.get_metric()[0].get_counter().get_value() as u64
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_come_once_through_restarts_and_lost_answers() {
    let mut w = World::new().await;
    w.fake.faults(|n| if n % 3 == 0 { Fault::AnswerLost } else { Fault::None });
    let mut expected = Vec::new();
    for round in 0..4 {
        for number in round * 10 + 1..=round * 10 + 10 {
            w.write(number, "kubelet.service", &format!("m{number}"));
            expected.push(format!("m{number}"));
        }
        w.start(&[]);
        w.fake.until("the round", |k| k.lines.len() >= expected.len()).await;
        w.stop().await;
    }
    assert_eq!(
        w.fake.with(|k| k.lines.iter().map(|l| l.text.clone()).collect::<Vec<_>>()),
        expected
    );
    let line = w.fake.with(|k| k.lines[0].clone());
    let labels: Vec<String> = line.labels.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let own =
        ["app=kubelet", "job=journal", "node=n", "service_name=kubelet", "unit=kubelet.service"];
    assert_eq!(labels, own);
    assert_eq!((line.ts, &*line.source), (1_000_001_000, "n/journal/ab"));
    let started = fs::read_to_string(w.folder.path().join("started")).expect("was started");
    let last = started.lines().last().expect("a start");
    assert!(
        last.contains("--follow --no-tail") && last.contains("--cursor=s=ab;i=1e;t="),
        "{last}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_removed_is_a_gap_and_other_units_move_the_position() {
    let mut w = World::new().await;
    w.write(1, "a.service", "one");
    w.start(&["a", "kernel"]);
    w.fake.until("the first", |k| k.lines.len() == 1).await;
    w.stop().await;
    w.write(2, "b.service", "not wanted");
    for number in 3..6 {
        fs::write(w.folder.path().join(format!("gap-{number}")), "").expect("write");
    }
    w.write(6, "a.service", "six");
    w.start(&["a", "kernel"]);
    w.fake.until("the rest", |k| k.lines.len() == 3).await;
    let texts = w.fake.with(|k| k.lines.iter().map(|l| l.text.clone()).collect::<Vec<_>>());
    assert!(
        texts.contains(&"six".to_owned()) && !texts.iter().any(|t| t == "not wanted"),
        "{texts:?}"
    );
    assert!(texts.iter().any(|t| t.starts_with("3 journal entries are lost")), "{texts:?}");
    assert_eq!(w.counter("taffrail_journal_lost_entries_total"), 3);
    assert_eq!(w.fake.with(|k| k.positions["n/journal/ab"].0), 7);
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_ends_is_started_again() {
    let mut w = World::new().await;
    w.write(1, "a.service", "one");
    w.start(&[]);
    w.fake.until("the first", |k| k.lines.len() == 1).await;
    fs::write(w.folder.path().join("end"), "").expect("write");
    while w.counter("taffrail_journal_restarts_total") == 0 {
        tokio::task::yield_now().await;
    }
    fs::remove_file(w.folder.path().join("end")).expect("remove");
    w.write(2, "a.service", "two");
    w.fake.until("the second", |k| k.lines.len() == 2).await;
    w.stop().await;
    assert_eq!(w.fake.with(|k| k.conflicts), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_entry_is_left_out_alone() {
    let mut w = World::new().await;
    w.fake.poison("bad");
    for number in 1..=5 {
        let text = if number == 3 { "bad".to_owned() } else { format!("m{number}") };
        w.write(number, "a.service", &text);
    }
    w.start(&[]);
    w.fake.until("the others", |k| k.positions.get("n/journal/ab").is_some_and(|p| p.0 == 6)).await;
    w.stop().await;
    assert_eq!(w.fake.with(|k| k.texts().join(" ")), "m1 m2 m4 m5");
    assert_eq!(w.counter("taffrail_journal_dropped_entries_total"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_leave_the_node_is_taken_out() {
    use crate::process::metrics::Metrics;
    use crate::process::redact::{Action, Detector, Redactor};
    let mut w = World::new().await;
    let wanted = [(Detector::Password, Action::Mask), (Detector::Email, Action::Drop)];
    let redactor = Redactor::new(wanted, Vec::new(), None).into();
    let rules = crate::process::rules::Rules { redactor, ..Default::default() };
    w.meaning = Source::new(rules, crate::pods::Pods::none(), Metrics::default());
    for (number, text) in [(1, "password=hunter2"), (2, "by a@example.org"), (3, "plain")] {
        w.write(number, "a.service", text);
    }
    w.start(&[]);
    w.fake.until("all", |k| k.positions.get("n/journal/ab").is_some_and(|p| p.0 == 4)).await;
    w.stop().await;
    assert_eq!(w.fake.with(|k| k.texts().join(" ")), "password=[password] plain");
}
