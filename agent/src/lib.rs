//! The node's side: find, read, label, keep, send. This page is the wiring.
//!
//! ```text
//! pods (API or file) --snapshot--> enrich (labels), volumes (rules), scrape (targets)
//! files:    discover -> tail -> batch -> ship ------------> collector /v1/logs
//! journal:  journalctl -> journal -------------------------> collector /v1/logs
//! OTLP:     pods -> receive -------------------------------> collector /v1/logs, /v1/metrics
//! metrics:  scrape: workers -> queue -> sender -----------> collector /v1/metrics
//! people:   status  <- http; reload <- the file of settings
//! ```
//!
//! The stop goes to the sources (pods, files, workers, listener); the sender ends when its queue is
//! closed and empty. Whoever has not ended within the grace is left behind and named. What was not
//! acknowledged is read again at the next start; samples that wait in memory are lost, and counted.

pub mod allocator;
pub mod batch;
pub mod config;
mod descriptors;
pub mod discover;
pub mod enrich;
pub mod files;
pub mod journal;
pub mod pods;
pub mod process;
pub mod receive;
mod refusal;
pub mod reload;
pub mod scrape;
pub mod ship;
pub mod sidecar;
pub mod spool;
pub mod state;
pub mod status;
pub mod tail;

use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use prometheus::Registry;
use taffrail_kit::clock;
use taffrail_kit::config::Settings;
use taffrail_kit::http::Client;
use taffrail_kit::shutdown::Shutdown;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use config::Config;
use pods::memory::Memory;
use pods::source::Source;
use reload::{Follower, Knobs, Reloads, SetLogFilter};
use scrape::send::{Queue, Sender};
use state::StateDir;
use tail::LogPipeline;

/// How long the collector may take to answer a batch.
const COLLECTOR_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the agent before this one may take to end.
const PREDECESSOR: Duration = Duration::from_secs(60);

/// The parts keep the grace themselves; only who does not is left behind.
const SLACK: Duration = Duration::from_secs(1);

/// An agent that is put together and holds what it needs, but does nothing yet.
pub struct Agent {
    grace: Duration,
    source: Source,
    memory: Option<(Memory, pods::Pods)>,
    logs: LogPipeline,
    scraper: scrape::Scraper,
    sender: Sender,
    queue: Queue,
    journal: Option<journal::Journal>,
    sidecar: Option<sidecar::Sidecar>,
    receiver: receive::Receiver,
    listener: Option<(TcpListener, axum::Router)>,
    reloads: Reloads,
    knobs: Knobs,
    follower: Option<Follower>,
    _state: Option<StateDir>,
}

impl Agent {
    /// Puts the agent together: takes its folder, binds its address, opens the source of pods.
    ///
    /// # Errors
    /// When one of these cannot be had.
    pub async fn build(config: Config, registry: &Registry) -> anyhow::Result<Self> {
        Self::build_after(PREDECESSOR, config, registry).await
    }

    /// Likewise; an agent that holds the folder may take so long to end.
    async fn build_after(
        patience: Duration,
        config: Config,
        registry: &Registry,
    ) -> anyhow::Result<Self> {
        let state = take_folder(&config.state_dir, patience).await?;
        let client = Client::new(&config.collector)?.with_timeout(COLLECTOR_TIMEOUT);
        let namespace_labels = watch::Sender::new(config.namespace_labels);
        let mut memory = state.as_ref().map(|_| Memory::new(&config.state_dir));
        let remembered = memory.as_mut().map(Memory::load).unwrap_or_default();
        let (node, wanted) = (&config.place.node, namespace_labels.subscribe().into());
        let (source, pods) = Source::open(&config.pods, node, wanted, remembered).await?;
        let memory = memory.map(|memory| (memory, pods.clone()));
        pods::metrics::register(pods.clone(), registry).context("register the metrics of pods")?;
        let labeler = enrich::labeler(config.place.clone(), pods.clone());
        let (labeler, sidecar) = match config.sidecar {
            Some(sidecar) => sidecar::Sidecar::beside(sidecar, config.place.clone()),
            None => (labeler, None),
        };
        let named = watch::Sender::new(Arc::new(files::Named::new(&config.files)));
        let labeler = files::with_labels(named.subscribe(), labeler);
        let (rules, volumes) = pods::volumes::provider(pods.clone(), config.roots);
        let rules = match &sidecar {
            Some(sidecar) => sidecar.rules(),
            None => files::with_rules(named.subscribe(), rules),
        };
        let counted = process::metrics::Metrics::register(registry);
        let counted = counted.context("register the metrics of processing")?;
        let meaning = process::Source::new(config.rules, pods.clone(), counted);
        let tail = tail::Config {
            meaning: meaning.clone(),
            pods_root: sidecar.is_none().then_some(config.pod_logs),
            line_bytes_max: config.line_bytes_max,
            grace: config.grace,
            spool: config.spool,
            open_files_max: descriptors::for_files(),
            ..tail::Config::new(config.place.node.clone())
        };
        let logs = LogPipeline::new(tail, labeler, rules, client.clone(), registry)?;

        let metrics = scrape::Metrics::new();
        metrics.register(registry).context("register the metrics of scraping")?;
        let journal = config.journal.map(|journal| {
            let (place, client) = (config.place.clone(), client.clone());
            journal::Journal::new(journal, place, meaning.clone(), client, registry)
        });
        let journal = journal.transpose().context("register the metrics of the journal")?;
        let (place, door) = (config.place.clone(), client.clone());
        let (known, rules) = (pods.clone(), meaning.clone());
        let receiver =
            receive::Receiver::bind(config.otlp, place, known, rules, door, registry).await?;
        let queue = Queue::new(config.scrape.queue_bytes_max, metrics.clone());
        let sender = Sender::new(queue.clone(), client, metrics.clone());
        let place = config.place.clone();
        let scraper =
            scrape::Scraper::new(config.scrape, place, pods.clone(), queue.clone(), metrics);

        let knobs = Knobs {
            scrape: scraper.settings(),
            rules: meaning.clone(),
            files: named,
            namespace_labels,
            units: journal.as_ref().map(journal::Journal::units),
            spool: logs.spool_limits(),
        };
        let reloads = Reloads::register(registry).context("register the metrics of settings")?;
        let sources = status::Sources {
            started: clock::unix_millis(),
            config: reloads.clone(),
            place: config.place,
            collector: config.collector,
            registry: registry.clone(),
            pods,
            volumes,
            files: logs.status_handle(),
            spool: logs.spool_view(),
            meaning,
            scraped: scraper.overview(),
        };
        let listener = match config.http {
            Some(address) => Some((listen(address).await?, status::router(sources))),
            None => None,
        };
        let grace = config.grace;
        let follower = None;
        Ok(Self {
            grace,
            source,
            memory,
            logs,
            scraper,
            sender,
            queue,
            journal,
            sidecar,
            receiver,
            listener,
            reloads,
            knobs,
            follower,
            _state: state,
        })
    }

    /// Takes up changes of the file that `settings` come from, if there is one. Must be called inside
    /// the runtime.
    ///
    /// # Errors
    /// When the signal to reload cannot be heard.
    pub fn follow_config(
        &mut self,
        settings: &Settings,
        log_filter: SetLogFilter,
    ) -> std::io::Result<()> {
        let (knobs, reloads) = (self.knobs.clone(), self.reloads.clone());
        self.follower = Follower::new(settings, knobs, log_filter, reloads)?;
        Ok(())
    }

    /// Where `/metrics` and its siblings are answered.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.as_ref().and_then(|(listener, _)| listener.local_addr().ok())
    }

    /// Works until the end; beside an app until that has ended too and everything is delivered.
    ///
    /// # Errors
    /// When a part ends that was not told to.
    pub async fn run(mut self, shutdown: Shutdown) -> anyhow::Result<()> {
        let Some(sidecar) = self.sidecar.take() else {
            return Box::pin(self.work(shutdown)).await;
        };
        let (files, grace) = (self.logs.status_handle(), self.grace);
        let (trigger, own) = taffrail_kit::shutdown::channel();
        let mut working = Box::pin(self.work(own));
        tokio::select! {
            result = &mut working => return result,
            () = sidecar.until_delivered(shutdown, &files, grace) => trigger.stop(),
        }
        working.await
    }

    async fn work(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let mut tasks = Tasks::default();
        tasks.spawn("pods", infallible(self.source.run(shutdown.clone())));
        if let Some((memory, pods)) = self.memory {
            tasks.spawn("remember", infallible(memory.follow(pods, shutdown.clone())));
        }
        let (logs, end) = (self.logs, shutdown.clone());
        tasks.spawn("tail", async move { Ok(logs.run(end).await?) });
        tasks.spawn("scrape", infallible(self.scraper.run(shutdown.clone())));
        if let Some(journal) = self.journal {
            tasks.spawn("journal", infallible(journal.run(shutdown.clone())));
        }
        tasks.spawn("receive", self.receiver.run(shutdown.clone()));
        tasks.spawn("send", infallible(self.sender.run()));
        if let Some(follower) = self.follower {
            tasks.spawn("config", infallible(follower.run(shutdown.clone())));
        }
        if let Some((listener, router)) = self.listener {
            let mut end = shutdown.clone();
            let server = axum::serve(listener, router);
            let server = server.with_graceful_shutdown(async move { end.wait().await });
            tasks.spawn("http", async move { Ok(server.await?) });
        }
        let result = tasks.watch(shutdown).await;
        if result.is_ok() {
            tasks.join(self.grace + SLACK).await;
            let frames = self.queue.undelivered();
            if frames > 0 {
                tracing::warn!(frames, "samples are lost: the collector is away");
            }
        }
        result
    }
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("listen on {address} (--http)"))
}

/// Takes the agent's folder. Where it cannot be written nothing is kept, which is told.
async fn take_folder(path: &Path, patience: Duration) -> Result<Option<StateDir>, state::Error> {
    match StateDir::wait(path, patience).await {
        Ok(state) => Ok(Some(state)),
        Err(error @ state::Error::Held { .. }) => Err(error),
        // The positions are kept by the collector: logs go on, only nothing can be spooled.
        Err(error) => {
            tracing::error!(%error, "nothing can be kept on this node, going on without");
            Ok(None)
        }
    }
}

async fn infallible(task: impl Future<Output = ()>) -> anyhow::Result<()> {
    task.await;
    Ok(())
}

/// The agent's tasks by name.
#[derive(Default)]
struct Tasks {
    set: JoinSet<(&'static str, anyhow::Result<()>)>,
    names: BTreeSet<&'static str>,
}

impl Tasks {
    fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        self.names.insert(name);
        self.set.spawn(async move { (name, task.await) });
    }

    /// Returns when it is time to stop, or with an error when a task has ended before.
    async fn watch(&mut self, mut shutdown: Shutdown) -> anyhow::Result<()> {
        let ended = tokio::select! {
            () = shutdown.wait() => return Ok(()),
            ended = self.set.join_next() => ended,
        };
        // Between the stop and the select a task may have heard of it first.
        if shutdown.is_set() {
            if let Some(Ok((name, _))) = ended {
                self.names.remove(name);
            }
            return Ok(());
        }
        match ended {
            Some(Ok((name, result))) => {
                result.with_context(|| format!("run {name}"))?;
                anyhow::bail!("{name} has ended without being told to")
            }
            Some(Err(error)) => Err(error).context("run a task"),
            None => anyhow::bail!("there is nothing to do"),
        }
    }

    /// Waits for all tasks; after `grace` gives up on those that are left.
    async fn join(&mut self, grace: Duration) {
        let all = async {
            while let Some(ended) = self.set.join_next().await {
                match ended {
                    Ok((name, result)) => {
                        self.names.remove(name);
                        if let Err(error) = result {
                            tracing::warn!(name, error = format!("{error:#}"), "ended badly");
                        }
                    }
                    Err(error) => tracing::error!(%error, "a task has panicked"),
                }
            }
        };
        if tokio::time::timeout(grace, all).await.is_err() {
            tracing::warn!(left = ?self.names, ?grace, "not all has ended in time");
        }
        self.set.abort_all();
    }
}

#[cfg(test)]
mod tests;
