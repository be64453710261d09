//! Watches this node's pods through the Kubernetes API: one list and one watch, filtered by node on
//! the server.
//!
//! A watch that has broken is taken up where it was, and says nothing until a pod changes: that the API
//! answers again is seen by its answer.
//!
//! The list is asked with `resourceVersion=0`, so that the API server answers from its cache: a
//! thousand agents that start at once do not reach etcd.

use std::sync::Arc;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1 as api;
use kube::client::Body;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use taffrail_kit::shutdown::Shutdown;
use tokio::sync::watch;
use tokio::time::Instant;

use super::claims::Claims;
use super::namespaces::Watch;
use super::object::convert;
use super::source::Wanted;
use super::table::{Event, Table};

/// Why there is no connection to a cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The files and variables that Kubernetes gives to a pod cannot be used.
    #[error("in-cluster settings: {0}")]
    InCluster(#[from] kube::config::InClusterError),
    /// The kubeconfig file cannot be used.
    #[error("kubeconfig: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// The client cannot be built from them.
    #[error("Kubernetes client: {0}")]
    Client(#[from] kube::Error),
}

/// A client of the cluster that a kubeconfig names, or of the one that this process runs in.
///
/// # Errors
/// When the settings are not there or not usable. No request is made.
pub async fn client(kubeconfig: Option<&std::path::Path>) -> Result<Client, Error> {
    let config = match kubeconfig {
        Some(path) => {
            let file = kube::config::Kubeconfig::read_from(path)?;
            let options = kube::config::KubeConfigOptions::default();
            kube::Config::from_custom_kubeconfig(file, &options).await?
        }
        None => kube::Config::incluster()?,
    };
    Ok(Client::try_from(config)?)
}

/// Feeds `table` until the end. Errors are kept in the snapshot and tried again.
pub async fn run(
    client: Client,
    node: String,
    mut table: Table,
    mut wanted: Wanted,
    mut shutdown: Shutdown,
) {
    let config = watcher::Config::default().fields(&format!("spec.nodeName={node}")).any_semantic();
    // With pages the server would have to ask etcd; a node's pods fit into one answer.
    let config = watcher::Config { page_size: None, ..config };
    let mut claims = Claims::new(client.clone());
    let mut namespaces = Watch::new(&client, table.wants_namespaces());
    let answered = watch::Sender::new(());
    let mut answers = answered.subscribe();
    let telling = telling(client.clone(), answered);
    let events = watcher(Api::<api::Pod>::all(telling), config).default_backoff();
    let mut events = std::pin::pin!(events);
    let mut listed = Vec::new();
    let mut failing = false;
    loop {
        let event = tokio::select! {
            () = shutdown.wait() => return,
            all = namespaces.changed() => {
                table.apply(Event::Namespaces(all), Instant::now());
                continue;
            }
            names = wanted.changed() => {
                table.want_namespace_labels(names);
                namespaces.follow(&client, table.wants_namespaces());
                continue;
            }
            Ok(()) = answers.changed(), if failing => {
                tracing::info!("the API answers again");
                failing = false;
                table.apply(Event::Answered, Instant::now());
                continue;
            }
            event = events.next() => event,
        };
        let Some(event) = event else { return };
        if let Err(error) = &event {
            // Answers from before the failure are none.
            answers.mark_unchanged();
            if !failing {
                let error = causes(error);
                tracing::warn!(error, "pods cannot be watched, trying again");
            }
            failing = true;
        }
        let Some(mut event) = translate(event, &mut listed) else { continue };
        tokio::select! {
            () = shutdown.wait() => return,
            () = resolve(&mut claims, &mut event) => {}
        }
        table.apply(event, Instant::now());
    }
}

/// The same client, which tells of each answer that is one.
fn telling(client: Client, answered: watch::Sender<()>) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let (client, answered) = (client.clone(), answered.clone());
        async move {
            let response = client.send(request).await?;
            if response.status().is_success() {
                answered.send_replace(());
            }
            Ok::<_, kube::Error>(response)
        }
    });
    Client::new(service, namespace)
}

/// Looks up the claims of the pods of an event.
async fn resolve(claims: &mut Claims, event: &mut Event) {
    match event {
        Event::Listed(pods) => {
            for pod in pods {
                claims.resolve(pod).await;
            }
        }
        Event::Applied(pod) => claims.resolve(Arc::make_mut(pod)).await,
        Event::Deleted(_) | Event::Namespaces(_) | Event::Failed(_) | Event::Answered => {}
    }
}

/// What an event of the watch means for the table; pods of a list are gathered until it is whole.
fn translate(
    event: Result<watcher::Event<api::Pod>, watcher::Error>,
    listed: &mut Vec<super::Pod>,
) -> Option<Event> {
    match event {
        Ok(watcher::Event::Init) => {
            listed.clear();
            None
        }
        Ok(watcher::Event::InitApply(pod)) => {
            listed.extend(convert(pod));
            None
        }
        Ok(watcher::Event::InitDone) => Some(Event::Listed(std::mem::take(listed))),
        Ok(watcher::Event::Apply(pod)) => convert(pod).map(|pod| Event::Applied(pod.into())),
        Ok(watcher::Event::Delete(pod)) => pod.uid().map(Event::Deleted),
        Err(error) => Some(Event::Failed(causes(&error))),
    }
}

/// The whole chain of causes on one line: the first alone says that it failed, the last why.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::Origin;

    fn pod(uid: &str) -> api::Pod {
        let mut pod = api::Pod::default();
        pod.metadata.uid = Some(uid.into());
        pod.metadata.name = Some(uid.into());
        pod
    }

    #[tokio::test]
    async fn a_list_counts_only_when_it_is_whole() {
        let (mut table, pods) = Table::new(Origin::Cluster);
        let mut listed = Vec::new();
        let events = [
            watcher::Event::Init,
            watcher::Event::InitApply(pod("left over")),
            watcher::Event::Init,
            watcher::Event::InitApply(pod("1")),
        ];
        for event in events {
            assert!(translate(Ok(event), &mut listed).is_none());
        }
        let rest = [
            watcher::Event::InitDone,
            watcher::Event::Apply(pod("2")),
            watcher::Event::Delete(pod("1")),
        ];
        for event in rest {
            let event = translate(Ok(event), &mut listed).expect("an event");
            table.apply(event, Instant::now());
        }
        let now = pods.now();
        assert_eq!(now.live().map(|pod| &*pod.uid).collect::<Vec<_>>(), ["2"]);
        assert!(now.synced && now.get("1").is_some() && now.get("left over").is_none());
    }

    #[tokio::test]
    async fn a_cluster_that_is_away_is_told_with_its_cause() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        drop(listener);
        let client =
            Client::try_from(kube::Config::new(url.parse().expect("URL"))).expect("client");
        let (table, mut pods) = Table::new(Origin::Cluster);
        let (trigger, shutdown) = taffrail_kit::shutdown::channel();
        let watching =
            tokio::spawn(run(client, "node-1".into(), table, Wanted::default(), shutdown));
        pods.changed().await;
        let problem = pods.now().problem.clone().expect("a problem");
        assert!(problem.contains("refused"), "{problem}");
        assert!(!pods.now().synced);
        trigger.stop();
        watching.await.expect("ends");
    }

    #[tokio::test]
    async fn pods_are_listed_and_watched_over_http() {
        let list = serde_json::json!({
            "kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "5"},
            "items": [{"metadata": {"uid": "1", "name": "a", "namespace": "n"}}],
        });
        let added = serde_json::json!({"type": "ADDED", "object": {
            "kind": "Pod", "apiVersion": "v1",
            "metadata": {"uid": "2", "name": "b", "namespace": "n", "resourceVersion": "6"},
        }});
        let namespaces = serde_json::json!({
            "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
            "metadata": {"resourceVersion": "5"},
            "items": [{"metadata": {"name": "n", "labels": {"team": "a", "other": "b"}}}],
        });
        let namespaces = move |uri: http::Uri| async move {
            let query = uri.query().unwrap_or_default().to_owned();
            if query.contains("watch=true") { String::new() } else { namespaces.to_string() }
        };
        let answer = move |uri: http::Uri| async move {
            let query = uri.query().unwrap_or_default().to_owned();
            assert!(query.contains("fieldSelector=spec.nodeName%3Dnode-1"), "{query}");
            if query.contains("watch=true") {
                return format!("{added}\n");
            }
            assert!(query.contains("resourceVersion=0") && !query.contains("limit"), "{query}");
            list.to_string()
        };
        let app = axum::Router::new()
            .route("/api/v1/pods", axum::routing::get(answer))
            .route("/api/v1/namespaces", axum::routing::get(namespaces));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(async move { axum::serve(listener, app).await });

        let client =
            Client::try_from(kube::Config::new(url.parse().expect("URL"))).expect("client");
        let (table, mut pods) = Table::new(Origin::Cluster);
        let wishes = watch::Sender::new(Vec::new());
        let wanted = wishes.subscribe().into();
        let (_trigger, shutdown) = taffrail_kit::shutdown::channel();
        let watching = tokio::spawn(run(client, "node-1".into(), table, wanted, shutdown));
        wishes.send_replace(vec!["team".to_owned()]);
        let team = |pods: &super::super::Pods| {
            pods.now().get("2").is_some_and(|pod| pod.namespace_labels.contains_key("team"))
        };
        while !team(&pods) {
            pods.changed().await;
        }
        let pod = pods.now().get("2").cloned().expect("known");
        assert_eq!(pod.namespace_labels.get("team").map(String::as_str), Some("a"));
        assert_eq!(pod.namespace_labels.len(), 1, "the others were not asked for");
        assert!(pods.now().synced && pods.now().get("1").is_some());
        watching.abort();
    }
}
