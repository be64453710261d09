//! Which pods the demo has, and the pod list that tells the agent of them, in the shape of
//! `kubectl get pods -o json`.
//!
//! Names and uids are always the same, so that a second start goes on where the first ended.

use serde_json::{Value, json};
use taffrail_model::Nanos;
use taffrail_model::time::format_rfc3339;

use super::corpus::{Kind, pod_name};
use super::random::mix;

/// The node that the pods are on.
pub const NODE: &str = "demo-node";

/// Who owns a pod, which decides how it is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Deployment,
    StatefulSet,
    DaemonSet,
    CronJob,
}

/// What a pod does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// Logs lines of one kind, its share of all lines.
    Steady(Kind),
    /// The same, and for half a minute every five minutes it fails a lot.
    Troubled(Kind),
    /// Starts, logs, panics, and is started again.
    Crashing,
    /// Now and then one line of tens of kilobytes.
    LongLines,
    /// Logs to a file in its volume.
    IntoVolume(Kind),
}

/// One pod of the demo.
#[derive(Clone, Debug)]
pub(super) struct Pod {
    pub(super) namespace: &'static str,
    pub(super) app: &'static str,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) container: &'static str,
    pub(super) owner: Owner,
    pub(super) behaviour: Behaviour,
    /// Its share of all lines, in hundredths.
    pub(super) share: u32,
    /// Whether it serves `/metrics`.
    pub(super) measured: bool,
}

/// Name of the volume of a pod that logs into one.
pub(super) const VOLUME: &str = "app-logs";

type Row = (&'static str, &'static str, usize, &'static str, Owner, Behaviour, u32, bool);

const ROWS: [Row; 12] = [
    ("shop", "web", 0, "nginx", Owner::Deployment, Behaviour::Steady(Kind::Access), 16, true),
    ("shop", "web", 1, "nginx", Owner::Deployment, Behaviour::Steady(Kind::Access), 14, true),
    ("shop", "checkout", 0, "app", Owner::Deployment, Behaviour::Troubled(Kind::Json), 12, true),
    ("shop", "checkout", 1, "app", Owner::Deployment, Behaviour::Troubled(Kind::Json), 12, true),
    ("shop", "cart", 0, "app", Owner::Deployment, Behaviour::Steady(Kind::Logfmt), 12, true),
    (
        "payments",
        "payments-api",
        0,
        "api",
        Owner::Deployment,
        Behaviour::Steady(Kind::Java),
        9,
        true,
    ),
    (
        "payments",
        "payments-api",
        1,
        "api",
        Owner::Deployment,
        Behaviour::Steady(Kind::Java),
        9,
        true,
    ),
    (
        "payments",
        "billing",
        0,
        "billing",
        Owner::Deployment,
        Behaviour::IntoVolume(Kind::Java),
        5,
        false,
    ),
    (
        "data",
        "postgres",
        0,
        "postgres",
        Owner::StatefulSet,
        Behaviour::Steady(Kind::Postgres),
        7,
        false,
    ),
    (
        "kube-system",
        "kube-proxy",
        0,
        "kube-proxy",
        Owner::DaemonSet,
        Behaviour::Steady(Kind::Klog),
        4,
        false,
    ),
    ("jobs", "importer", 0, "importer", Owner::Deployment, Behaviour::Crashing, 0, false),
    ("jobs", "report", 0, "report", Owner::CronJob, Behaviour::LongLines, 0, false),
];

/// All pods of the demo.
pub(super) fn all() -> Vec<Pod> {
    ROWS.iter().map(pod).collect()
}

fn pod(&(namespace, app, replica, container, owner, behaviour, share, measured): &Row) -> Pod {
    let generated = pod_name(app, replica);
    let suffix = generated.rsplit('-').next().unwrap_or_default();
    let name = match owner {
        Owner::Deployment => generated,
        Owner::StatefulSet => format!("{app}-{replica}"),
        Owner::DaemonSet => format!("{app}-{suffix}"),
        Owner::CronJob => format!("{app}-29415360-{suffix}"),
    };
    let uid = uid(&format!("{namespace}/{name}"));
    Pod { namespace, app, name, uid, container, owner, behaviour, share, measured }
}

/// A UUID that belongs to a name.
fn uid(name: &str) -> String {
    let high = name.bytes().fold(1_u64, |seed, byte| mix(seed ^ u64::from(byte)));
    let low = mix(high);
    format!(
        "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xFFFF,
        high & 0xFFF,
        (low >> 48) & 0xFFF,
        low & 0xFFFF_FFFF_FFFF
    )
}

impl Pod {
    /// The folder of its logs below `/var/log/pods`.
    pub(super) fn folder(&self) -> String {
        format!("{}_{}_{}", self.namespace, self.name, self.uid)
    }

    /// The object that owns it: kind and name.
    fn owner_reference(&self) -> (&'static str, String) {
        let parent = self.name.rsplit_once('-').map_or("", |(parent, _)| parent).to_owned();
        match self.owner {
            Owner::Deployment => ("ReplicaSet", parent),
            Owner::CronJob => ("Job", parent),
            Owner::StatefulSet => ("StatefulSet", self.app.into()),
            Owner::DaemonSet => ("DaemonSet", self.app.into()),
        }
    }

    fn labels(&self) -> Value {
        let mut labels = json!({
            "app": self.app,
            "app.kubernetes.io/name": self.app,
            "app.kubernetes.io/part-of": self.namespace,
            "tier": tier(self.behaviour, self.measured),
        });
        if self.owner == Owner::Deployment {
            labels["pod-template-hash"] = self.name.rsplit('-').nth(1).into();
        }
        labels
    }

    fn annotations(&self, port: Option<u16>) -> Value {
        let mut annotations = json!({});
        if let Some(port) = port {
            annotations["prometheus.io/scrape"] = "true".into();
            annotations["prometheus.io/port"] = port.to_string().into();
            annotations["prometheus.io/path"] = "/metrics".into();
        }
        if matches!(self.behaviour, Behaviour::IntoVolume(_)) {
            annotations["taffrail.dev/log-volumes"] = format!("{VOLUME}:/**/*.log").into();
        }
        annotations
    }

    fn object(&self, state: &PodState, started: &str) -> Value {
        let (kind, owner) = self.owner_reference();
        let owner_uid = uid(&format!("{kind}/{}/{owner}", self.namespace));
        let image = format!("registry.example.com/{}:2.7.1", self.app);
        let mut container = json!({
            "name": self.container,
            "image": image,
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
        });
        if let Some(port) = state.port {
            container["ports"] =
                json!([{"name": "http", "containerPort": port, "protocol": "TCP"}]);
        }
        let mut volumes = json!([]);
        if matches!(self.behaviour, Behaviour::IntoVolume(_)) {
            container["volumeMounts"] = json!([{"name": VOLUME, "mountPath": "/var/log/app"}]);
            volumes = json!([{"name": VOLUME, "emptyDir": {}}]);
        }
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "uid": self.uid,
                "creationTimestamp": started,
                "labels": self.labels(),
                "annotations": self.annotations(state.port),
                "ownerReferences": [{
                    "apiVersion": if kind == "Job" { "batch/v1" } else { "apps/v1" },
                    "kind": kind, "name": owner, "uid": owner_uid,
                    "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "spec": {"nodeName": NODE, "containers": [container], "volumes": volumes},
            "status": {
                "phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}],
                "hostIP": "127.0.0.1", "startTime": started,
                "containerStatuses": [{
                    "name": self.container, "ready": true, "started": true,
                    "image": image, "imageID": image,
                    "restartCount": state.restarts,
                    "state": {"running": {"startedAt": started}},
                }],
            },
        })
    }
}

fn tier(behaviour: Behaviour, measured: bool) -> &'static str {
    match behaviour {
        Behaviour::Steady(Kind::Access) => "frontend",
        Behaviour::Steady(Kind::Postgres) => "database",
        Behaviour::Steady(Kind::Klog) => "node",
        _ if measured => "backend",
        _ => "batch",
    }
}

/// What changes about a pod while the demo runs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PodState {
    /// Where it serves `/metrics`, if it does.
    pub(super) port: Option<u16>,
    /// How often its container was started again.
    pub(super) restarts: u32,
}

/// The list of all pods, with the state of each.
pub(super) fn list<'a>(
    pods: impl IntoIterator<Item = (&'a Pod, PodState)>,
    started: Nanos,
) -> String {
    let started = format_rfc3339(started - started.rem_euclid(1_000_000_000));
    let items: Vec<Value> =
        pods.into_iter().map(|(pod, state)| pod.object(&state, &started)).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items});
    format!("{list:#}\n")
}

/// When the pods of an earlier list were created.
pub(super) fn started(list: &str) -> Option<Nanos> {
    let list: Value = serde_json::from_str(list).ok()?;
    let time = list.pointer("/items/0/metadata/creationTimestamp")?.as_str()?;
    taffrail_model::time::parse_rfc3339(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn pods_are_what_they_were_and_all_different() {
        let (one, two) = (all(), all());
        assert_eq!(one.len(), 12);
        assert!(one.iter().zip(&two).all(|(a, b)| a.uid == b.uid && a.name == b.name));
        assert_eq!(one.iter().map(|p| &p.uid).collect::<BTreeSet<_>>().len(), 12);
        assert_eq!(one.iter().map(|p| p.share).sum::<u32>(), 100);
        assert!(one.iter().all(|p| p.uid.len() == 36 && !p.folder().contains('/')));
    }

    #[test]
    fn the_list_has_the_shape_of_kubectl() {
        let pods = all();
        let state = PodState { port: Some(4160), restarts: 3 };
        let text = list([(&pods[2], state), (&pods[7], PodState::default())], 1_500_000_000);
        let list: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("List"), &json!("v1")));
        let checkout = &list["items"][0];
        assert_eq!(checkout["metadata"]["annotations"]["prometheus.io/port"], "4160");
        assert_eq!(checkout["metadata"]["ownerReferences"][0]["kind"], "ReplicaSet");
        let set = checkout["metadata"]["ownerReferences"][0]["name"].as_str().unwrap();
        let hash = checkout["metadata"]["labels"]["pod-template-hash"].as_str().unwrap();
        assert_eq!(set, format!("checkout-{hash}"));
        assert_eq!(checkout["status"]["containerStatuses"][0]["restartCount"], 3);
        let billing = &list["items"][1];
        assert_eq!(
            billing["metadata"]["annotations"]["taffrail.dev/log-volumes"],
            "app-logs:/**/*.log"
        );
        assert_eq!(billing["spec"]["volumes"][0]["name"], "app-logs");
        assert_eq!(started(&text), Some(1_000_000_000));
        assert_eq!(started("{"), None);
    }
}
