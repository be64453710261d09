//! The node's journal (kubelet, container runtime, kernel): read by `journalctl`, each entry shipped
//! once.
//!
//! `journalctl -o export --follow` runs as a child: the format of the journal's files stays its
//! business, and a damaged file cannot harm the agent. Its pipe is the only buffer: nothing is read
//! from it while a batch waits for the collector.
//!
//! Invariants:
//! - The position is kept by the collector, beside the lines (see [`batch`]). After an end of the
//!   child, of the agent or of the collector reading goes on there.
//! - An entry that was removed before it was read is a gap: counted, and a line in the store says so.
//! - The child ends with the agent, and is started again, ever more slowly, when it ends by itself.

mod batch;
mod export;
mod send;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use prometheus::{IntCounter, Registry};
use taffrail_kit::clock;
use taffrail_kit::http::Client;
use taffrail_kit::shutdown::Shutdown;
use taffrail_model::record::Position;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::enrich::Place;
use crate::process::Source;
use crate::process::redact;

use batch::{Batch, Cursor};
use export::{Entry, Parser};
use send::{Outcome, Sender};

/// Text in one batch, in bytes, before it is sent at once.
const BATCH_BYTES: usize = 1 << 20;
/// Entries in one batch.
const BATCH_ENTRIES: usize = 5000;
/// How long an entry waits for its batch to fill.
const BATCH_AGE: Duration = Duration::from_millis(500);
/// How often at the most a batch without lines is sent, which only moves the position.
const HOLLOW_AGE: Duration = Duration::from_secs(10);
/// How long the child is left alone after its end; it doubles up to the longest.
const RESTART_MIN: Duration = Duration::from_secs(1);
const RESTART_MAX: Duration = Duration::from_secs(60);
/// A child that has run so long had a good start.
const GOOD_RUN: Duration = Duration::from_secs(60);
/// Room for one read of its output.
const READ_BYTES: usize = 64 << 10;
/// How much of its complaints is told.
const COMPLAINT_BYTES_MAX: u64 = 1000;

/// Settings of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The program and the first of its arguments.
    pub command: Vec<String>,
    /// The folder of the journal.
    pub path: PathBuf,
    /// Units whose entries are sent, with or without `.service`; none: all. `kernel` is the kernel.
    pub units: Vec<String>,
    /// How far back the first reading of a journal goes.
    pub since: Duration,
}

/// Whether an entry is of one of these units.
fn wants(units: &[String], entry: &Entry) -> bool {
    if units.is_empty() {
        return true;
    }
    let (app, unit) = batch::stream(entry);
    let plain = unit.strip_suffix(".service").unwrap_or(&unit);
    units.iter().any(|wanted| match &**wanted {
        "kernel" => app == "kernel" && unit.is_empty(),
        wanted => !unit.is_empty() && (wanted == unit || wanted == plain),
    })
}

/// Counters: `taffrail_journal_…`.
#[derive(Clone, Debug)]
struct Metrics {
    entries: IntCounter,
    lost: IntCounter,
    restarts: IntCounter,
    dropped: IntCounter,
}

impl Metrics {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let one = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        Ok(Self {
            entries: one("taffrail_journal_entries_total", "Journal entries acknowledged.")?,
            lost: one(
                "taffrail_journal_lost_entries_total",
                "Journal entries that were removed before they were read.",
            )?,
            restarts: one("taffrail_journal_restarts_total", "Ends of journalctl by itself.")?,
            dropped: one(
                "taffrail_journal_dropped_entries_total",
                "Journal entries that the collector has refused, left out for good.",
            )?,
        })
    }
}

/// Reads the journal and ships it.
pub struct Journal {
    config: Config,
    /// Those of the settings as they are now.
    units: watch::Sender<Vec<String>>,
    metrics: Metrics,
    sender: Sender,
    meaning: Source,
    /// How far each journal is: everything before is in the store or in the open batch.
    positions: HashMap<String, Position>,
    batch: Option<Batch>,
    since: Option<Instant>,
}

/// Why the child is not read any more.
enum Over {
    /// It has ended by itself.
    Ended(String),
    /// The collector is elsewhere: read again from there.
    Elsewhere,
    /// The agent ends.
    Stop,
}

impl Journal {
    /// Puts it together; nothing is read yet.
    ///
    /// # Errors
    /// When the registry has metrics of these names already.
    pub fn new(
        config: Config,
        place: Place,
        meaning: Source,
        client: Client,
        registry: &Registry,
    ) -> prometheus::Result<Self> {
        let metrics = Metrics::register(registry)?;
        let sender = Sender::new(client, place);
        let positions = HashMap::new();
        let units = watch::Sender::new(config.units.clone());
        Ok(Self { config, units, metrics, sender, meaning, positions, batch: None, since: None })
    }

    /// Takes other units while it runs, for the entries that come from then on.
    #[must_use]
    pub fn units(&self) -> watch::Sender<Vec<String>> {
        self.units.clone()
    }

    /// Reads and ships until the end.
    pub async fn run(mut self, mut shutdown: Shutdown) {
        let mut pause = RESTART_MIN;
        loop {
            let Some(positions) = self.sender.positions(&mut shutdown).await else { return };
            self.positions = positions;
            self.batch = None;
            self.since = None;
            let started = Instant::now();
            let complaint = match self.follow(&mut shutdown).await {
                Over::Stop => return,
                Over::Elsewhere => "the collector has less than was thought".to_owned(),
                Over::Ended(complaint) => complaint,
            };
            self.metrics.restarts.inc();
            if started.elapsed() >= GOOD_RUN {
                pause = RESTART_MIN;
            }
            tracing::warn!(complaint, ?pause, "starting journalctl again");
            tokio::select! {
                () = shutdown.wait() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(RESTART_MAX);
        }
    }

    fn spawn(&self) -> std::io::Result<Child> {
        let (program, first) =
            self.config.command.split_first().map_or(("", &[][..]), |(p, f)| (&**p, f));
        // The latest of all journals is the one that goes on.
        let latest = self.positions.iter().max_by_key(|(id, p)| (p.check, id.as_str()));
        let from = match latest {
            Some((id, position)) => {
                // Inclusive, and what is known is passed over: of an entry that was removed the
                // next one must come, not the one after that.
                let number = position.committed.saturating_sub(1);
                format!("--cursor=s={id};i={number:x};t={:x}", position.check)
            }
            None => {
                let now = Duration::from_nanos(clock::unix_nanos().unsigned_abs());
                format!("--since=@{}", now.saturating_sub(self.config.since).as_secs())
            }
        };
        Command::new(program)
            .args(first)
            .args(["--output=export", "--follow", "--no-tail", "--no-pager", "--quiet"])
            .arg(format!("--directory={}", self.config.path.display()))
            .arg(from)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
    }

    async fn follow(&mut self, shutdown: &mut Shutdown) -> Over {
        let mut child = match self.spawn() {
            Ok(child) => child,
            Err(error) => return Over::Ended(format!("{:?}: {error}", self.config.command)),
        };
        let (Some(mut out), Some(complaints)) = (child.stdout.take(), child.stderr.take()) else {
            return Over::Ended("it has no output".into());
        };
        // Read all the while: a child whose complaints nobody takes would stop at a full pipe.
        let complaints = tokio::spawn(first_words(complaints));
        let over = self.read(&mut out, shutdown).await;
        // Also reaped: nothing is left of it.
        let _ended = child.kill().await.is_ok();
        match over {
            Over::Ended(text) => {
                Over::Ended(format!("{text} {}", complaints.await.unwrap_or_default()))
            }
            over => over,
        }
    }

    async fn read(
        &mut self,
        out: &mut (impl AsyncReadExt + Unpin),
        shutdown: &mut Shutdown,
    ) -> Over {
        let mut parser = Parser::default();
        let mut buffer = vec![0; READ_BYTES];
        let mut entries = Vec::new();
        loop {
            let due = self.due();
            let read = tokio::select! {
                () = shutdown.wait() => {
                    // What is read goes, if the collector takes it at once; the rest stays where it is.
                    let _over = self.send(shutdown).await;
                    return Over::Stop;
                }
                read = out.read(&mut buffer) => read,
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    match self.send(shutdown).await {
                        Some(over) => return over,
                        None => continue,
                    }
                }
            };
            let ended = match read {
                Ok(0) => Some(String::new()),
                Ok(count) => {
                    parser.push(&buffer[..count], &mut |entry| entries.push(entry));
                    None
                }
                Err(error) => Some(error.to_string()),
            };
            for entry in entries.drain(..) {
                if let Some(over) = self.take(entry, shutdown).await {
                    return over;
                }
            }
            if let Some(why) = ended {
                return self.send(shutdown).await.unwrap_or(Over::Ended(why));
            }
        }
    }

    /// When the open batch is to be sent.
    fn due(&self) -> Option<Instant> {
        let hollow = self.batch.as_ref().is_some_and(|b| b.entries.is_empty() && b.gaps.is_empty());
        self.since.map(|since| since + if hollow { HOLLOW_AGE } else { BATCH_AGE })
    }

    async fn take(&mut self, mut entry: Entry, shutdown: &mut Shutdown) -> Option<Over> {
        let Some(Cursor { id, number }) = Cursor::parse(&entry.cursor) else {
            tracing::debug!("an entry of the journal has no cursor");
            return None;
        };
        let known = self.positions.get(&id).map(|p| p.committed);
        if known.is_some_and(|known| number < known) {
            return None;
        }
        if self.batch.as_ref().is_some_and(|batch| batch.id != id)
            && let Some(over) = self.send(shutdown).await
        {
            return Some(over);
        }
        let batch = self.batch.get_or_insert_with(|| Batch::new(&id, known.unwrap_or(0)));
        if let Some(lost) = known.map(|known| number - known).filter(|lost| *lost > 0) {
            tracing::warn!(lost, "journal entries were removed before they were read");
            self.metrics.lost.inc_by(lost);
            batch.gaps.push((number, lost));
        }
        let time = entry.realtime;
        let sent = wants(&self.units.borrow(), &entry) && clean(&mut entry, &self.meaning);
        batch.push(number, entry, sent);
        let full = batch.bytes >= BATCH_BYTES || batch.entries.len() >= BATCH_ENTRIES;
        self.since.get_or_insert_with(Instant::now);
        let position = Position { source: String::new(), committed: number + 1, check: time };
        self.positions.insert(id, position);
        if full { self.send(shutdown).await } else { None }
    }

    /// Sends the open batch, if there is one. `None`: go on.
    async fn send(&mut self, shutdown: &mut Shutdown) -> Option<Over> {
        self.since = None;
        let batch = self.batch.take()?;
        match self.sender.deliver(batch, shutdown).await {
            Outcome::Delivered { entries, dropped } => {
                self.metrics.entries.inc_by(entries);
                self.metrics.dropped.inc_by(dropped);
                None
            }
            Outcome::Elsewhere => Some(Over::Elsewhere),
            Outcome::Stopped => Some(Over::Stop),
        }
    }
}

/// Takes out of an entry what must not leave the node; whether anything of it may.
fn clean(entry: &mut Entry, meaning: &Source) -> bool {
    let rules = meaning.usual();
    if rules.redactor.is_idle() {
        return true;
    }
    let mut out = Vec::new();
    match rules.redactor.apply(&entry.message, &mut out) {
        redact::Outcome::Clean => true,
        redact::Outcome::Changed(count) => {
            meaning.redacted(u64::from(count), 0);
            entry.message = out;
            true
        }
        redact::Outcome::Dropped => {
            meaning.redacted(0, 1);
            false
        }
    }
}

/// The first of what a child complains about; the rest is thrown away.
async fn first_words(mut complaints: impl AsyncReadExt + Unpin) -> String {
    let mut first = Vec::new();
    let _broken =
        (&mut complaints).take(COMPLAINT_BYTES_MAX).read_to_end(&mut first).await.is_err();
    let _rest = tokio::io::copy(&mut complaints, &mut tokio::io::sink()).await.is_ok();
    String::from_utf8_lossy(&first).trim().to_owned()
}

#[cfg(test)]
mod tests;
