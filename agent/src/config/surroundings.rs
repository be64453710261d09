//! Where the agent runs: the only file that looks at the environment and at the host's name.

/// What the kernel says the host's name is.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// What Kubernetes and the host say about where the agent runs.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// `NODE_NAME`, which the DaemonSet fills from `spec.nodeName`.
    pub node_name: Option<String>,
    /// `POD_NAMESPACE`, `POD_NAME` and `POD_UID`, which a sidecar may have from the downward API.
    pub pod: [Option<String>; 3],
    /// Whether this is a pod of a cluster.
    pub in_cluster: bool,
    /// The host's name.
    pub host_name: Option<String>,
}

impl Surroundings {
    /// Those of this process.
    #[must_use]
    pub fn look() -> Self {
        let text = |name| std::env::var_os(name)?.into_string().ok().filter(|v| !v.is_empty());
        let host_name = std::fs::read_to_string(HOST_NAME).ok();
        Self {
            node_name: text("NODE_NAME"),
            pod: ["POD_NAMESPACE", "POD_NAME", "POD_UID"].map(text),
            in_cluster: text("KUBERNETES_SERVICE_HOST").is_some(),
            host_name: host_name.map(|name| name.trim().to_owned()).filter(|n| !n.is_empty()),
        }
    }
}
