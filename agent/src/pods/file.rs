//! The pods from a file, for nodes without a cluster: what `kubectl get pods -o json` prints, read
//! again when it changes.
//!
//! A file that cannot be read changes nothing: the pods of the last good one stay, and the snapshot
//! says why. All pods of the file are taken to be of this node.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1 as api;
use taffrail_kit::shutdown::Shutdown;
use tokio::time::Instant;

use super::Pod;
use super::namespaces::Namespaces;
use super::object::convert;
use super::source::Wanted;
use super::table::{Event, Table};

/// How often the file is looked at.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Longest pod list that is read, in bytes: a pod is some 10 KB, the limit of pods 20,000.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Why a pod list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is longer than any pod list.
    #[error("{path}: longer than {FILE_BYTES_MAX} bytes", path = path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// It is not JSON, or one of its pods has not the shape of a pod.
    #[error("{path}: {source}", path = path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Why, with line and column where there is one.
        source: serde_json::Error,
    },
    /// It is JSON of something else.
    #[error("{path}: kind is {kind:?}; expected List or PodList", path = path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// The kind it names.
        kind: String,
    },
}

/// What a change of the file is told by.
type Stamp = (Option<SystemTime>, u64);

/// A pod list file and the state in which it was read last.
struct File {
    path: PathBuf,
    seen: Option<Stamp>,
}

/// Feeds `table` until the end.
pub async fn run(path: PathBuf, mut table: Table, mut wanted: Wanted, mut shutdown: Shutdown) {
    let mut file = File { path, seen: None };
    let mut ticks = tokio::time::interval(POLL_INTERVAL);
    let mut reason = String::new();
    loop {
        tokio::select! {
            () = shutdown.wait() => return,
            names = wanted.changed() => {
                table.want_namespace_labels(names);
                continue;
            }
            _ = ticks.tick() => {}
        }
        let looked = tokio::task::spawn_blocking(move || {
            let result = file.read_if_changed();
            (file, result)
        });
        // Only a panic in reading, or the end of the runtime, gets here.
        let Ok((back, result)) = looked.await else { return };
        file = back;
        match result {
            Ok(None) => {}
            Ok(Some(Content { pods, namespaces })) => {
                tracing::info!(path = %file.path.display(), pods = pods.len(), "pod list was read");
                reason.clear();
                table.apply(Event::Namespaces(namespaces), Instant::now());
                table.apply(Event::Listed(pods), Instant::now());
            }
            Err(error) => {
                // The same file may come back.
                file.seen = None;
                let text = error.to_string();
                if text != reason {
                    tracing::warn!(%error, "pod list cannot be read, the last good one stays");
                    reason.clone_from(&text);
                    table.apply(Event::Failed(text), Instant::now());
                }
            }
        }
    }
}

impl File {
    /// The pods, if the file has changed since it was read last.
    fn read_if_changed(&mut self) -> Result<Option<Content>, Error> {
        let io = |source| Error::Io { path: self.path.clone(), source };
        let metadata = std::fs::metadata(&self.path).map_err(io)?;
        let stamp = (metadata.modified().ok(), metadata.len());
        if self.seen == Some(stamp) {
            return Ok(None);
        }
        if metadata.len() > FILE_BYTES_MAX {
            return Err(Error::TooLong { path: self.path.clone() });
        }
        let text = std::fs::read(&self.path).map_err(io)?;
        let content = parse(&self.path, &text)?;
        // Only a good file is not looked at again: a bad one may be half written.
        self.seen = Some(stamp);
        Ok(Some(content))
    }
}

#[derive(serde::Deserialize)]
struct List {
    kind: String,
    #[serde(default)]
    items: Vec<serde_json::Value>,
}

/// What is read of a pod list.
#[derive(Debug)]
struct Content {
    pods: Vec<Pod>,
    namespaces: Namespaces,
}

fn parse(path: &Path, text: &[u8]) -> Result<Content, Error> {
    let json = |source| Error::Json { path: path.to_owned(), source };
    let list: List = serde_json::from_slice(text).map_err(json)?;
    if !matches!(&*list.kind, "List" | "PodList") {
        return Err(Error::Kind { path: path.to_owned(), kind: list.kind });
    }
    let mut pods = Vec::with_capacity(list.items.len());
    let mut namespaces = Namespaces::new();
    for mut item in list.items {
        if item.get("kind").is_some_and(|kind| kind == "Namespace") {
            let namespace = serde_json::from_value::<api::Namespace>(item).map_err(json)?.metadata;
            let labels = namespace.labels.unwrap_or_default();
            namespaces.insert(namespace.name.unwrap_or_default(), labels);
            continue;
        }
        // The items of a PodList do not name their kind; a List may hold others.
        if item.get("kind").is_some_and(|kind| kind != "Pod") {
            continue;
        }
        if let Some(item) = item.as_object_mut() {
            item.entry("kind").or_insert_with(|| "Pod".into());
            item.entry("apiVersion").or_insert_with(|| "v1".into());
        }
        pods.extend(convert(serde_json::from_value::<api::Pod>(item).map_err(json)?));
    }
    Ok(Content { pods, namespaces })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::Origin;
    use crate::pods::object::tests::recorded;

    #[test]
    fn recorded_lists_are_read() {
        for name in ["k120/obj_pods.json.gz", "k136/obj_pods.json.gz"] {
            let Some(text) = recorded(name) else { continue };
            assert_eq!(parse(Path::new(name), text.as_bytes()).expect(name).pods.len(), 8);
        }
    }

    #[test]
    fn bad_lists_are_refused_with_a_reason() {
        let cases = [
            ("{", "EOF while parsing"),
            ("{}", "missing field `kind`"),
            (r#"{"kind":"Pod"}"#, "kind is \"Pod\"; expected List or PodList"),
            (r#"{"kind":"List","items":[{"metadata":3}]}"#, "invalid type"),
        ];
        for (text, reason) in cases {
            let error = parse(Path::new("pods.json"), text.as_bytes()).expect_err(text).to_string();
            assert!(error.starts_with("pods.json: ") && error.contains(reason), "{error}");
        }
        let mixed = r#"{"kind":"List","items":[{"kind":"Node"},{"metadata":{"uid":"1"}},{},
            {"apiVersion":"v1","kind":"Namespace","metadata":{"name":"n","labels":{"team":"a"}}}]}"#;
        let Content { pods, namespaces } = parse(Path::new("x"), mixed.as_bytes()).expect("a list");
        assert_eq!(namespaces["n"]["team"], "a");
        assert_eq!(pods.len(), 1, "neither the node nor the pod without a uid");
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_file_is_read_and_a_bad_one_changes_nothing() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("pods.json");
        let (table, mut pods) = Table::new(Origin::File);
        let (trigger, shutdown) = taffrail_kit::shutdown::channel();
        let running = tokio::spawn(run(path.clone(), table, Wanted::default(), shutdown));
        pods.changed().await;
        assert!(pods.now().problem.is_some() && !pods.now().synced);

        let list =
            |uid: &str| format!(r#"{{"kind":"List","items":[{{"metadata":{{"uid":"{uid}"}}}}]}}"#);
        std::fs::write(&path, list("1")).expect("write");
        pods.changed().await;
        assert!(pods.now().get("1").is_some() && pods.now().problem.is_none());
        std::fs::write(&path, "half {").expect("write");
        pods.changed().await;
        assert!(pods.now().get("1").is_some() && pods.now().problem.is_some());
        std::fs::write(&path, list("two")).expect("write");
        pods.changed().await;
        assert!(pods.now().get("two").is_some() && pods.now().problem.is_none());
        // Away and back again, the very same file.
        let aside = folder.path().join("aside");
        std::fs::rename(&path, &aside).expect("rename");
        pods.changed().await;
        assert!(pods.now().problem.is_some());
        std::fs::rename(&aside, &path).expect("rename");
        while pods.now().problem.is_some() {
            pods.changed().await;
        }
        assert!(pods.now().get("two").is_some());
        trigger.stop();
        running.await.expect("ends");
    }
}
