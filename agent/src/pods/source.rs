//! The source of the pods that the settings name, ready to run.

use std::path::PathBuf;

use taffrail_kit::shutdown::Shutdown;
use tokio::sync::watch;
use tokio::time::Instant;

use super::table::Table;
use super::{Origin, Pod, Pods, cluster, file};
use crate::config::PodSource;

/// The labels of namespaces that are asked for, which may change.
#[derive(Clone, Debug)]
pub struct Wanted(watch::Receiver<Vec<String>>);

/// Nothing, for good.
impl Default for Wanted {
    fn default() -> Self {
        Self(watch::channel(Vec::new()).1)
    }
}

impl From<watch::Receiver<Vec<String>>> for Wanted {
    fn from(names: watch::Receiver<Vec<String>>) -> Self {
        Self(names)
    }
}

impl Wanted {
    /// Those of now.
    #[must_use]
    pub fn now(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    /// Those after the next change. When there will be none any more it never returns.
    pub async fn changed(&mut self) -> Vec<String> {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.0.borrow_and_update().clone()
    }
}

/// A source that was opened and feeds nobody yet.
pub enum Source {
    /// The Kubernetes API.
    Cluster {
        /// Its client.
        client: kube::Client,
        /// Whose pods are watched.
        node: String,
        /// Who is fed.
        table: Table,
        /// What is asked for beside the pods.
        wanted: Wanted,
    },
    /// A pod list file.
    File {
        /// The file.
        path: PathBuf,
        /// Who is fed.
        table: Table,
        /// What is asked for beside the pods.
        wanted: Wanted,
    },
    /// Nothing to feed from.
    None,
}

impl Source {
    /// Opens the source and gives the readers' side, which knows what is `remembered` already.
    ///
    /// # Errors
    /// When the cluster's settings cannot be used. Whether it answers is seen later.
    pub async fn open(
        from: &PodSource,
        node: &str,
        wanted: Wanted,
        remembered: Vec<Pod>,
    ) -> Result<(Self, Pods), cluster::Error> {
        let kubeconfig = match from {
            PodSource::None => {
                tracing::info!(
                    "no cluster and no --pods-file: labels come from the paths of files only"
                );
                return Ok((Self::None, Pods::none()));
            }
            PodSource::File(path) => {
                let (table, pods) = table(Origin::File, &wanted, remembered);
                return Ok((Self::File { path: path.clone(), table, wanted }, pods));
            }
            PodSource::Kubeconfig(path) => Some(&**path),
            PodSource::InCluster => None,
        };
        let client = cluster::client(kubeconfig).await?;
        let (table, pods) = table(Origin::Cluster, &wanted, remembered);
        Ok((Self::Cluster { client, node: node.to_owned(), table, wanted }, pods))
    }

    /// Feeds until the end.
    pub async fn run(self, mut shutdown: Shutdown) {
        match self {
            Self::Cluster { client, node, table, wanted } => {
                cluster::run(client, node, table, wanted, shutdown).await;
            }
            Self::File { path, table, wanted } => file::run(path, table, wanted, shutdown).await,
            Self::None => shutdown.wait().await,
        }
    }
}

fn table(origin: Origin, wanted: &Wanted, remembered: Vec<Pod>) -> (Table, Pods) {
    let (mut table, pods) = Table::new(origin);
    table.want_namespace_labels(wanted.now());
    table.remember(remembered, Instant::now());
    (table, pods)
}
