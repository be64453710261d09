//! A pod of the Kubernetes API → [`Pod`]. Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::api::core::v1 as api;

use super::{Container, ContainerKind, Owner, Pod, Volume, VolumeSource};
use crate::process::annotations::DOMAIN;

/// Annotations below one of these are kept, those of `taffrail.dev` also for a container:
/// `<container>.taffrail.dev/`.
const ANNOTATION_DOMAINS: [&str; 2] = ["prometheus.io", DOMAIN];

/// On static pods: the uid of the pod's folders.
const CONFIG_HASH: &str = "kubernetes.io/config.hash";

/// What is needed of `pod`. `None` if it has no uid, as nothing that the API serves.
#[must_use]
pub fn convert(pod: api::Pod) -> Option<Pod> {
    let metadata = pod.metadata;
    let spec = pod.spec.unwrap_or_default();
    let status = pod.status.unwrap_or_default();
    let uid = metadata.uid.filter(|uid| !uid.is_empty())?;
    let annotations = metadata.annotations.unwrap_or_default();
    let config_hash = annotations.get(CONFIG_HASH).filter(|hash| **hash != uid).cloned();
    let ours = |name: &str| {
        let domain = name.split_once('/').map_or("", |(domain, _)| domain);
        let head = domain.strip_suffix(DOMAIN);
        ANNOTATION_DOMAINS.contains(&domain) || head.is_some_and(|head| head.ends_with('.'))
    };
    let pod_name = metadata.name.unwrap_or_default();
    let kinds = kinds(&spec);
    let volumes = spec.volumes.unwrap_or_default().into_iter().map(|v| volume(&pod_name, v));
    // Init containers that go on beside the others are containers like them.
    let sidecars = spec.init_containers.unwrap_or_default().into_iter();
    let sidecars = sidecars.filter(|init| init.restart_policy.as_deref() == Some("Always"));
    let ip = status.pod_ip.filter(|ip| !ip.is_empty());
    let more_ips = status.pod_ips.unwrap_or_default().into_iter().map(|more| more.ip);
    Some(Pod {
        config_hash,
        more_ips: more_ips.filter(|more| Some(more) != ip.as_ref()).collect(),
        host_network: spec.host_network == Some(true),
        ending: metadata.deletion_timestamp.is_some(),
        sub_paths: sub_paths(&spec.containers),
        namespace: metadata.namespace.unwrap_or_default(),
        node: spec.node_name,
        ip,
        phase: status.phase.unwrap_or_default(),
        labels: metadata.labels.unwrap_or_default(),
        annotations: annotations.into_iter().filter(|(name, _)| ours(name)).collect(),
        owner: metadata
            .owner_references
            .unwrap_or_default()
            .into_iter()
            .find(|owner| owner.controller == Some(true))
            .map(|owner| Owner { kind: owner.kind, name: owner.name }),
        containers: spec.containers.into_iter().chain(sidecars).map(container).collect(),
        kinds,
        namespace_labels: BTreeMap::new(),
        volumes: volumes.collect(),
        name: pod_name,
        uid,
    })
}

/// Which containers are not just containers.
fn kinds(spec: &api::PodSpec) -> BTreeMap<String, ContainerKind> {
    let init = spec.init_containers.iter().flatten().map(|container| {
        let goes_on = container.restart_policy.as_deref() == Some("Always");
        let kind = if goes_on { ContainerKind::Sidecar } else { ContainerKind::Init };
        (container.name.clone(), kind)
    });
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    let ephemeral = ephemeral.map(|c| (c.name.clone(), ContainerKind::Ephemeral));
    init.chain(ephemeral).collect()
}

/// Volumes of which the containers see no more than parts.
fn sub_paths(containers: &[api::Container]) -> BTreeMap<String, Vec<(String, usize)>> {
    let mut parts: BTreeMap<String, Vec<(String, usize)>> = BTreeMap::new();
    let mut whole = Vec::new();
    for container in containers {
        for (at, mount) in container.volume_mounts.iter().flatten().enumerate() {
            let given = |path: &Option<String>| path.as_deref().is_some_and(|p| !p.is_empty());
            if given(&mount.sub_path) || given(&mount.sub_path_expr) {
                parts.entry(mount.name.clone()).or_default().push((container.name.clone(), at));
            } else {
                whole.push(&mount.name);
            }
        }
    }
    parts.retain(|volume, _| !whole.contains(&volume));
    parts
}

fn container(container: api::Container) -> Container {
    let ports = container.ports.unwrap_or_default().into_iter();
    let ports = ports
        .filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP")
        .filter_map(|port| Some((u16::try_from(port.container_port).ok()?, port.name)));
    Container { name: container.name, ports: ports.collect() }
}

fn volume(pod: &str, volume: api::Volume) -> Volume {
    let source = if volume.empty_dir.is_some() {
        VolumeSource::EmptyDir
    } else if let Some(host) = volume.host_path {
        VolumeSource::HostPath(PathBuf::from(host.path))
    } else if let Some(claim) = volume.persistent_volume_claim {
        VolumeSource::Claim { claim: claim.claim_name, bound: None }
    } else if volume.ephemeral.is_some() {
        VolumeSource::Claim { claim: format!("{pod}-{}", volume.name), bound: None }
    } else if volume.csi.is_some() {
        VolumeSource::InlineCsi
    } else {
        VolumeSource::Other
    };
    Volume { name: volume.name, source }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::io::{Read, Write as _};

    /// A recorded file of real nodes, unpacked; `None` where the recordings are not at hand.
    pub(in crate::pods) fn recorded(name: &str) -> Option<String> {
        let folder = std::env::var_os("FIXTURES_DIR").map_or_else(
            || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures")),
            PathBuf::from,
        );
        let path = folder.join("kubernetes").join(name);
        let Ok(packed) = std::fs::File::open(&path) else {
            let _ = writeln!(std::io::stderr(), "SKIPPED: {} not found", path.display());
            return None;
        };
        let mut text = String::new();
        flate2::read::GzDecoder::new(packed).read_to_string(&mut text).expect("gzip of text");
        Some(text)
    }

    pub(in crate::pods) fn pods_of(name: &str) -> Option<Vec<Pod>> {
        let list: serde_json::Value = serde_json::from_str(&recorded(name)?).expect("JSON");
        let items = list["items"].as_array().expect("items").clone();
        Some(
            items
                .into_iter()
                .map(|item| convert(serde_json::from_value(item).expect("a pod")).expect("a uid"))
                .collect(),
        )
    }

    #[test]
    fn recorded_pods_are_understood() {
        for file in ["k120/obj_pods.json.gz", "k136/obj_pods.json.gz"] {
            let Some(pods) = pods_of(file) else { continue };
            assert_eq!(pods.len(), 8, "{file}");
            let web = pods.iter().find(|pod| pod.labels["app"] == "web").expect("web");
            let owner = web.owner.as_ref().expect("a controller");
            assert_eq!((&*owner.kind, web.phase.as_str()), ("ReplicaSet", "Running"));
            assert_eq!(web.annotations["prometheus.io/port"], "8080");
            assert_eq!(web.volumes[0].source, VolumeSource::EmptyDir);
            assert_eq!(web.containers.len(), 2);
            assert!(web.ip.as_deref().is_some_and(|ip| ip.starts_with("10.244.")));
            let db = pods.iter().find(|pod| pod.name == "db-0").expect("db-0");
            let logs = VolumeSource::Claim { claim: "logs-db-0".into(), bound: None };
            assert_eq!(db.volumes[0].source, logs);
            let host = pods.iter().find(|pod| pod.name == "hostlogs").expect("hostlogs");
            assert_eq!(host.volumes[0].source, VolumeSource::HostPath("/var/log".into()));
            assert!(host.annotations.is_empty(), "only those for us: {:?}", host.annotations);
        }
    }

    #[test]
    fn static_pods_carry_the_hash_of_their_folders() {
        let Some(pods) = pods_of("k136static/obj_pods.json.gz") else { return };
        let pod = pods.iter().find(|pod| pod.name == "ticker-node3").expect("a mirror pod");
        assert_eq!(pod.folder_uid(), "e1da16dcdcfb60bb0432380f9b3bfbb1");
        assert_ne!(pod.uid, pod.folder_uid());
    }

    #[test]
    fn a_recorded_watch_is_understood() {
        let Some(text) = recorded("k136/watch_pods_node1.ndjson.gz") else { return };
        let mut phases = Vec::new();
        for line in text.lines() {
            let event: serde_json::Value = serde_json::from_str(line).expect("JSON");
            if event["type"] == "BOOKMARK" {
                continue;
            }
            let pod: api::Pod = serde_json::from_value(event["object"].clone()).expect("a pod");
            phases.push(convert(pod).expect("a uid").phase);
        }
        phases.dedup();
        assert!(phases.starts_with(&["Pending".to_owned()]), "{phases:?}");
        assert!(phases.contains(&"Running".to_owned()), "{phases:?}");
    }

    #[test]
    fn parts_of_volumes_addresses_and_the_end() {
        let mounts = |name: &str, of: serde_json::Value| serde_json::json!({"name": name, "volumeMounts": of});
        let pod = serde_json::json!({
            "metadata": {"uid": "1", "deletionTimestamp": "2026-11-20T10:00:00Z"},
            "spec": {"hostNetwork": true, "containers": [
                mounts("a", serde_json::json!([
                    {"name": "whole", "mountPath": "/w"},
                    {"name": "part", "mountPath": "/p", "subPath": "x"},
                ])),
                mounts("b", serde_json::json!([
                    {"name": "part", "mountPath": "/p", "subPathExpr": "$(NAME)"},
                    {"name": "whole", "mountPath": "/w", "subPath": "y"},
                ])),
            ]},
            "status": {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]},
        });
        let pod = convert(serde_json::from_value(pod).expect("a pod")).expect("a uid");
        let parts = vec![("a".to_owned(), 1), ("b".to_owned(), 0)];
        assert_eq!(pod.sub_paths, BTreeMap::from([("part".to_owned(), parts)]));
        assert!(pod.ending && pod.host_network);
        assert_eq!(
            (pod.ip.as_deref(), &*pod.more_ips),
            (Some("10.0.0.1"), &["fd00::1".to_owned()][..])
        );
    }

    #[test]
    fn only_ports_that_can_be_scraped_are_kept() {
        let pod = serde_json::json!({
            "metadata": {"uid": "1"},
            "spec": {"initContainers": [
                {"name": "setup", "ports": [{"containerPort": 1}]},
                {"name": "sidecar", "restartPolicy": "Always", "ports": [{"containerPort": 2}]},
            ], "ephemeralContainers": [{"name": "debug"}], "containers": [{"name": "c", "ports": [
                {"containerPort": 53, "protocol": "UDP"},
                {"containerPort": 70000},
                {"containerPort": 8080, "name": "http"},
            ]}]},
        });
        let pod = convert(serde_json::from_value(pod).expect("a pod")).expect("a uid");
        assert_eq!(pod.containers[0].ports, [(8080, Some("http".to_owned()))]);
        assert_eq!(pod.containers[1].ports, [(2, None)]);
        assert_eq!(pod.containers.len(), 2, "setup has ended when the pod runs");
        let kinds = pod.kinds.iter().map(|(name, kind)| (&**name, *kind)).collect::<Vec<_>>();
        assert_eq!(
            kinds,
            [
                ("debug", ContainerKind::Ephemeral),
                ("setup", ContainerKind::Init),
                ("sidecar", ContainerKind::Sidecar),
            ]
        );
        assert_eq!(convert(api::Pod::default()), None);
    }
}
