//! Runs the rows side by side: they mostly wait. Each row is a test of its own for whoever asks, and
//! a line of the table at the end.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io::Write as _;
use std::pin::Pin;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::ROWS;
use super::world::{Skip, World};

/// How many rows run at a time.
const AT_A_TIME: usize = 24;
/// Rows that take longest: they begin first.
const FIRST: [&str; 6] = [
    "c3_two_hundred_kills",
    "d12_many_files_in_one_folder",
    "d9_few_descriptors",
    "s2_accepts_and_hangs",
    "d3_two_thousand_files",
    "m1_api_never_answers",
];
/// How long one row may take.
const ROW_TIME: Duration = Duration::from_secs(240);
/// How many lines of the agent's log a failure shows.
const LOG_LINES: usize = 12;
/// Flags of the test program that take a value.
const VALUED: [&str; 7] =
    ["--test-threads", "--skip", "--format", "--color", "--logfile", "--shuffle-seed", "-Z"];

type Running = Pin<Box<dyn Future<Output = anyhow::Result<()>>>>;

/// One scenario.
pub(crate) struct Row {
    /// Name of its test.
    pub(crate) name: &'static str,
    /// Its id in the list of scenarios.
    pub(crate) id: &'static str,
    /// What happens in it.
    pub(crate) what: &'static str,
    /// The file of this folder that it stands in.
    pub(crate) room: &'static str,
    /// Runs it.
    pub(crate) run: fn(World) -> Running,
}

/// What came of a row.
#[derive(Clone, Debug)]
enum Outcome {
    Passed(Duration),
    Skipped(String),
    Failed(String),
}

#[derive(Default)]
struct Suite {
    outcomes: Mutex<BTreeMap<&'static str, Option<Outcome>>>,
    news: Condvar,
}

static SUITE: LazyLock<Arc<Suite>> = LazyLock::new(|| {
    let suite = Arc::new(Suite::default());
    let filters = filters(std::env::args_os().skip(1));
    let wanted = |row: &&Row| {
        let full = format!("scenarios::{}", row.name);
        filters.is_empty() || filters.iter().any(|filter| full.contains(filter))
    };
    suite.start(ROWS.iter().filter(wanted).collect());
    suite
});

/// Which tests are asked for: the words of the command line that are no flags.
fn filters(arguments: impl IntoIterator<Item = OsString>) -> Vec<String> {
    let mut filters = Vec::new();
    let mut arguments = arguments.into_iter().filter_map(|a| a.into_string().ok());
    while let Some(argument) = arguments.next() {
        if VALUED.contains(&&*argument) {
            arguments.next();
        } else if !argument.starts_with('-') {
            filters.push(argument);
        }
    }
    filters
}

/// The test of one row: waits for what came of it.
pub(crate) fn verdict(name: &'static str) {
    match SUITE.wait(name) {
        Outcome::Passed(_) | Outcome::Skipped(_) => {}
        Outcome::Failed(why) => panic!("{why}"),
    }
}

impl Suite {
    fn outcomes(&self) -> MutexGuard<'_, BTreeMap<&'static str, Option<Outcome>>> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(self: &Arc<Self>, mut rows: Vec<&'static Row>) {
        rows.sort_by_key(|row| !FIRST.contains(&row.name));
        self.outcomes().extend(rows.iter().map(|row| (row.name, None)));
        let waiting = Arc::new(Mutex::new(VecDeque::from(rows)));
        for _ in 0..AT_A_TIME {
            let (suite, waiting) = (self.clone(), waiting.clone());
            std::thread::spawn(move || {
                let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                while let Some(row) = next() {
                    // A row that panics is told like one that fails.
                    let outcome = std::thread::spawn(|| outcome(row)).join();
                    let outcome = outcome.unwrap_or_else(|_| Outcome::Failed("panicked".into()));
                    suite.tell(row, &outcome);
                    suite.outcomes().insert(row.name, Some(outcome));
                    suite.news.notify_all();
                }
            });
        }
    }

    fn wait(self: &Arc<Self>, name: &'static str) -> Outcome {
        if !self.outcomes().contains_key(name) {
            self.start(ROWS.iter().filter(|row| row.name == name).collect());
        }
        let done = |outcomes: &mut BTreeMap<_, Option<Outcome>>| outcomes[name].is_none();
        let outcomes = self.news.wait_while(self.outcomes(), done);
        let outcomes = outcomes.unwrap_or_else(PoisonError::into_inner);
        outcomes[name].clone().expect("it was waited for")
    }

    /// A line of the table, for runs with `--nocapture`.
    fn tell(&self, row: &Row, outcome: &Outcome) {
        let said = match outcome {
            Outcome::Passed(time) => format!("ok {:.1} s", time.as_secs_f64()),
            Outcome::Skipped(why) => format!("SKIPPED: {why}"),
            Outcome::Failed(_) => "FAILED".to_owned(),
        };
        println!("{:<4} {:<60} {said}", row.id, row.what);
    }
}

/// Runs one row on a runtime of its own: the row on this thread, its servers on another.
fn outcome(row: &Row) -> Outcome {
    let start = Instant::now();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let mut folder = None;
    let done = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        runtime.block_on(async {
            let world = World::new()?;
            folder = Some(world.dir.clone());
            tokio::time::timeout(ROW_TIME, (row.run)(world)).await?
        })
    });
    let Err(error) = done else { return Outcome::Passed(start.elapsed()) };
    match error.downcast_ref::<Skip>() {
        Some(Skip(why)) => {
            let _told = writeln!(std::io::stderr(), "SKIPPED: {}: {why}", row.id).is_ok();
            Outcome::Skipped(why.clone())
        }
        None => {
            let log = folder.as_ref().map(|folder| folder.path().join("logs/taffrail-agent.log"));
            let log = log.and_then(|log| std::fs::read_to_string(log).ok()).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(LOG_LINES).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            let (id, what, last) = (row.id, row.what, last.join("\n"));
            Outcome::Failed(format!("{id} {what}: {error:?}\nthe agent's last words:\n{last}"))
        }
    }
}

#[test]
fn words_that_are_no_flags_are_filters() {
    let arguments = ["scenarios::r1", "--test-threads", "4", "--nocapture", "t4"];
    assert_eq!(filters(arguments.map(OsString::from)), ["scenarios::r1", "t4"]);
}
