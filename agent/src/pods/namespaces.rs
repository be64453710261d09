//! The labels of namespaces, for those who ask for some: one list and one watch of their metadata.
//!
//! Without a wish there is no request. What is not asked for is not kept.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use k8s_openapi::api::core::v1 as api;
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};

/// Most namespaces whose labels are kept.
const NAMESPACES_MAX: usize = 20_000;

/// Labels by the name of the namespace.
pub type Namespaces = BTreeMap<String, BTreeMap<String, String>>;

/// Those of `labels` that are wanted.
#[must_use]
pub fn wanted(labels: &BTreeMap<String, String>, wanted: &[String]) -> BTreeMap<String, String> {
    let found = wanted.iter().filter_map(|name| labels.get_key_value(name));
    found.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// A watch of all namespaces.
pub(super) struct Watch {
    events: Option<
        BoxStream<'static, watcher::Result<watcher::Event<PartialObjectMeta<api::Namespace>>>>,
    >,
    known: Namespaces,
    listing: bool,
    failing: bool,
}

impl Watch {
    /// A watch if anybody wants it; otherwise one that never says anything.
    pub(super) fn new(client: &Client, wanted: bool) -> Self {
        let mut watch =
            Self { events: None, known: Namespaces::new(), listing: true, failing: false };
        watch.follow(client, wanted);
        watch
    }

    /// Begins when somebody wants it now, ends when nobody does any more.
    pub(super) fn follow(&mut self, client: &Client, wanted: bool) {
        if !wanted {
            self.events = None;
        } else if self.events.is_none() {
            let config = watcher::Config::default().any_semantic();
            let config = watcher::Config { page_size: None, ..config };
            let namespaces = Api::<PartialObjectMeta<api::Namespace>>::all(client.clone());
            self.events = Some(watcher(namespaces, config).default_backoff().boxed());
        }
    }

    /// All namespaces after the next change. Nothing is lost when it is not waited for to the end.
    pub(super) async fn changed(&mut self) -> Namespaces {
        loop {
            let Some(events) = &mut self.events else { std::future::pending().await };
            match events.next().await {
                None => self.events = None,
                Some(Err(error)) => {
                    if !self.failing {
                        tracing::warn!(%error, "namespaces cannot be watched, trying again");
                    }
                    self.failing = true;
                }
                Some(Ok(event)) => {
                    self.failing = false;
                    self.take(event);
                    if !self.listing {
                        return self.known.clone();
                    }
                }
            }
        }
    }

    fn take(&mut self, event: watcher::Event<PartialObjectMeta<api::Namespace>>) {
        match event {
            watcher::Event::Init => {
                self.listing = true;
                self.known.clear();
            }
            watcher::Event::InitDone => self.listing = false,
            watcher::Event::InitApply(namespace) | watcher::Event::Apply(namespace) => {
                let name = namespace.name_any();
                if self.known.len() < NAMESPACES_MAX || self.known.contains_key(&name) {
                    self.known.insert(name, namespace.metadata.labels.unwrap_or_default());
                }
            }
            watcher::Event::Delete(namespace) => {
                self.known.remove(&namespace.name_any());
            }
        }
    }
}
