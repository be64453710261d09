//! The source of the pods that the settings name, ready to run.

use std::path::PathBuf;

use taffrail_kit::shutdown::Shutdown;

use super::table::Table;
use super::{Origin, Pods, cluster, file};
use crate::config::PodSource;

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
    },
    /// A pod list file.
    File {
        /// The file.
        path: PathBuf,
        /// Who is fed.
        table: Table,
    },
    /// Nothing to feed from.
    None,
}

impl Source {
    /// Opens the source and gives the readers' side.
    ///
    /// # Errors
    /// When the cluster's settings cannot be used. Whether it answers is seen later.
    pub async fn open(
        from: &PodSource,
        node: &str,
        namespace_labels: &[String],
    ) -> Result<(Self, Pods), cluster::Error> {
        let kubeconfig = match from {
            PodSource::None => {
                tracing::info!(
                    "no cluster and no --pods-file: labels come from the paths of files only"
                );
                return Ok((Self::None, Pods::none()));
            }
            PodSource::File(path) => {
                let (mut table, pods) = Table::new(Origin::File);
                table.want_namespace_labels(namespace_labels.to_vec());
                return Ok((Self::File { path: path.clone(), table }, pods));
            }
            PodSource::Kubeconfig(path) => Some(&**path),
            PodSource::InCluster => None,
        };
        let client = cluster::client(kubeconfig).await?;
        let (mut table, pods) = Table::new(Origin::Cluster);
        table.want_namespace_labels(namespace_labels.to_vec());
        Ok((Self::Cluster { client, node: node.to_owned(), table }, pods))
    }

    /// Feeds until the end.
    pub async fn run(self, mut shutdown: Shutdown) {
        match self {
            Self::Cluster { client, node, table } => {
                cluster::run(client, node, table, shutdown).await;
            }
            Self::File { path, table } => file::run(path, table, shutdown).await,
            Self::None => shutdown.wait().await,
        }
    }
}
