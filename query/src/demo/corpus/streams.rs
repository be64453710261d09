//! Which streams a corpus has: applications, their pods and the labels that an agent would give
//! them.

use taffrail_model::Labels;

use super::Kind;
use crate::demo::random::mix;

/// What one stream of the corpus is.
#[derive(Clone, Debug)]
pub struct StreamSpec {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Name of the container.
    pub container: String,
    /// Name of the application.
    pub app: String,
    /// Name of the node it runs on.
    pub node: String,
    /// All labels of the stream, those above among them.
    pub labels: Labels,
    /// Format of its lines.
    pub kind: Kind,
}

/// (application, namespace, tier, format). The order mixes the formats, because the first streams
/// are the loudest.
const APPS: [(&str, &str, &str, Kind); 32] = [
    ("checkout", "shop", "backend", Kind::Json),
    ("storefront", "shop", "frontend", Kind::Access),
    ("payments", "payments", "backend", Kind::Java),
    ("cart", "shop", "backend", Kind::Logfmt),
    ("postgres", "data", "database", Kind::Postgres),
    ("kube-proxy", "kube-system", "node", Kind::Klog),
    ("host", "kube-system", "node", Kind::Syslog),
    ("orders", "shop", "backend", Kind::Json),
    ("ledger", "payments", "backend", Kind::Java),
    ("ingress", "ingress", "edge", Kind::Access),
    ("search", "shop", "backend", Kind::Logfmt),
    ("scheduler", "kube-system", "control", Kind::Klog),
    ("pricing", "shop", "backend", Kind::Json),
    ("bastion", "ops", "edge", Kind::Syslog),
    ("risk", "payments", "backend", Kind::Java),
    ("warehouse", "data", "database", Kind::Postgres),
    ("accounts", "identity", "backend", Kind::Json),
    ("queue", "data", "backend", Kind::Logfmt),
    ("images", "shop", "edge", Kind::Access),
    ("coredns", "kube-system", "node", Kind::Klog),
    ("settlement", "payments", "batch", Kind::Java),
    ("recommender", "shop", "backend", Kind::Json),
    ("ntp", "ops", "node", Kind::Syslog),
    ("session", "identity", "backend", Kind::Logfmt),
    ("reports", "data", "database", Kind::Postgres),
    ("mobile-api", "shop", "edge", Kind::Access),
    ("invoices", "payments", "batch", Kind::Java),
    ("controller", "kube-system", "control", Kind::Klog),
    ("mailer", "shop", "backend", Kind::Json),
    ("router", "ingress", "edge", Kind::Access),
    ("relay", "ops", "node", Kind::Logfmt),
    ("notifier", "identity", "backend", Kind::Json),
];

/// Stream `n`: application `n` modulo the table, the replica by what is left.
pub(super) fn spec(n: usize) -> StreamSpec {
    let (app, namespace, tier, kind) = APPS[n % APPS.len()];
    let replica = n / APPS.len();
    let pod = pod_name(app, replica);
    let node = format!("node-{:02}", mix(n as u64) % 24);
    let hash = pod.split('-').rev().nth(1).unwrap_or_default().to_owned();
    let labels = [
        ("cluster", "bench"),
        ("namespace", namespace),
        ("pod", &pod),
        ("container", app),
        ("node", &node),
        ("app", app),
        ("stream", "stdout"),
        ("job", &format!("{namespace}/{app}")),
        ("service_name", app),
        ("workload", app),
        ("workload_kind", "Deployment"),
        ("pod_template_hash", &hash),
        ("tier", tier),
    ];
    StreamSpec {
        namespace: namespace.into(),
        container: app.into(),
        app: app.into(),
        labels: Labels::from_pairs(labels),
        kind,
        pod,
        node,
    }
}

/// A Deployment's pod: `<app>-<hash of the template>-<five characters>`.
pub(crate) fn pod_name(app: &str, replica: usize) -> String {
    let seed = app.bytes().fold(7_u64, |seed, byte| mix(seed ^ u64::from(byte)));
    format!("{app}-{}-{}", letters(seed, 10), letters(mix(seed ^ replica as u64), 5))
}

/// Letters and digits as Kubernetes chooses them: no vowels, nothing that looks like another.
fn letters(mut bits: u64, count: usize) -> String {
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut text = String::with_capacity(count);
    for _ in 0..count {
        text.push(char::from(LETTERS[(bits % 27) as usize]));
        bits /= 27;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn streams_differ_and_have_their_labels() {
        let pods: BTreeSet<String> = (0..2000).map(|n| spec(n).pod).collect();
        assert_eq!(pods.len(), 2000);
        let stream = spec(33);
        assert_eq!(stream.app, "storefront");
        assert_eq!(stream.labels.len(), 13);
        assert_eq!(stream.labels.get("pod"), Some(stream.pod.as_str()));
    }

    #[test]
    fn formats_have_the_shares_of_the_measured_corpus() {
        let share = |kind| APPS.iter().filter(|app| app.3 == kind).count();
        assert_eq!((share(Kind::Access), share(Kind::Json)), (5, 7));
    }
}
