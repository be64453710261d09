//! Who has sent a request: the pod whose address it came from. Writes that into the request.
//!
//! A pod of the node's network shares its address with the node and with other pods: of these, the
//! one that the request names, if it is one of them, else the node. Of a pod that ended, the address
//! may be another's by now. An address that is nobody's may be that of a pod that is not known yet:
//! it is waited for a moment, then the request goes on without any place.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use taffrail_model::wire::AGENT_SCOPE;
use tokio::time::Instant;

use super::signal::Export;
use crate::enrich::{Place, target_labels};
use crate::pods::{self, Pod, Pods, Snapshot};

/// How long an unknown address may take to become a pod's.
const WAIT_FOR_POD: Duration = Duration::from_secs(2);
/// Most labels of a pod that are sent along.
const LABELS_MAX: usize = 32;

/// Attributes that say where something comes from: only the agent says so.
const PLACES: [&str; 18] = [
    "k8s.cluster.name",
    "k8s.cronjob.name",
    "k8s.cronjob.uid",
    "k8s.daemonset.name",
    "k8s.daemonset.uid",
    "k8s.deployment.name",
    "k8s.deployment.uid",
    "k8s.job.name",
    "k8s.job.uid",
    "k8s.namespace.name",
    "k8s.node.name",
    "k8s.pod.ip",
    "k8s.pod.name",
    "k8s.pod.uid",
    "k8s.replicaset.name",
    "k8s.replicaset.uid",
    "k8s.statefulset.name",
    "k8s.statefulset.uid",
];
/// Attributes that begin so are the agent's too.
const LABELS: &str = "k8s.pod.label.";
/// What the agent's own attributes begin with, and then a byte that no word has: the collector makes
/// all of these the same.
const OURS: &str = "taffrail";

/// Whom an address belongs to.
#[derive(Clone, Debug)]
pub(super) enum Address {
    /// Nobody knows any pods here: requests say themselves where they come from.
    Unwatched,
    /// Nobody's.
    Stranger,
    /// One pod's.
    Pod(Arc<Pod>),
    /// The node's, and these pods'.
    Node(Vec<Arc<Pod>>),
}

/// The pods of one snapshot by their addresses.
type ByAddress = HashMap<IpAddr, Vec<Arc<Pod>>>;

/// Knows the pods by their addresses.
pub(super) struct Origins {
    place: Place,
    pods: Pods,
    index: Mutex<Option<(Arc<Snapshot>, Arc<ByAddress>)>>,
}

impl Origins {
    pub(super) fn new(place: Place, pods: Pods) -> Self {
        Self { place, pods, index: Mutex::new(None) }
    }

    /// Whose an address is. Waits a moment for a pod that is not known yet.
    pub(super) async fn address(&self, peer: IpAddr) -> Address {
        let deadline = Instant::now() + WAIT_FOR_POD;
        let mut pods = self.pods.clone();
        loop {
            let address = self.look_up(peer.to_canonical());
            if !matches!(address, Address::Stranger)
                || tokio::time::timeout_at(deadline, pods.changed()).await.is_err()
            {
                return address;
            }
        }
    }

    fn look_up(&self, peer: IpAddr) -> Address {
        let now = self.pods.now();
        if now.origin == pods::Origin::None {
            return Address::Unwatched;
        }
        let found = self.index(&now).get(&peer).cloned().unwrap_or_default();
        match &*found {
            [pod] if !pod.host_network => Address::Pod(pod.clone()),
            [] if !peer.is_loopback() => Address::Stranger,
            // An address is given to one pod at a time; that of a pod before it is not up to date.
            pods if pods.iter().all(|pod| !pod.host_network) && !pods.is_empty() => {
                Address::Stranger
            }
            _ => Address::Node(found.into_iter().filter(|pod| pod.host_network).collect()),
        }
    }

    fn index(&self, now: &Arc<Snapshot>) -> Arc<ByAddress> {
        let mut kept = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, index)) = &*kept
            && Arc::ptr_eq(of, now)
        {
            return index.clone();
        }
        let mut index = ByAddress::new();
        for pod in now.live().filter(|pod| !pod.finished()) {
            for ip in pod.ip.iter().chain(&pod.more_ips).filter_map(|ip| ip.parse::<IpAddr>().ok())
            {
                index.entry(ip.to_canonical()).or_default().push(pod.clone());
            }
        }
        let index = Arc::new(index);
        *kept = Some((now.clone(), index.clone()));
        index
    }

    /// Writes into a request where it comes from, in place of what it says itself.
    pub(super) fn write<E: Export>(&self, address: &Address, request: &mut E) {
        for scope in request.scopes().filter(|scope| scope.name == AGENT_SCOPE) {
            scope.name.clear();
        }
        request.scopes().for_each(|scope| scope.attributes.retain(|a| !is_ours(&a.key)));
        request.attributes().for_each(|attributes| attributes.retain(|a| !is_ours(&a.key)));
        for resource in request.resources() {
            self.write_resource(address, resource.get_or_insert_with(Resource::default));
        }
    }

    fn write_resource(&self, address: &Address, resource: &mut Resource) {
        let attributes = &mut resource.attributes;
        let pod = match address {
            Address::Unwatched => {
                attributes.retain(|a| !is_ours(&a.key));
                return;
            }
            Address::Stranger => None,
            Address::Pod(pod) => Some(pod),
            Address::Node(pods) => named(attributes, pods),
        };
        attributes.retain(|a| {
            !PLACES.contains(&&*a.key) && !is_ours(&a.key) && !a.key.starts_with(LABELS)
        });
        if let Some(pod) = pod {
            write_pod(&self.place, pod, attributes);
        } else if matches!(address, Address::Node(_)) {
            set(attributes, "k8s.node.name", &self.place.node);
            set(attributes, "k8s.cluster.name", &self.place.cluster);
        }
    }
}

/// Whether only the agent may say it: `taffrail_gap_bytes`, `taffrail.source`.
fn is_ours(key: &str) -> bool {
    let rest = key.strip_prefix(OURS);
    rest.is_some_and(|rest| rest.bytes().next().is_some_and(|b| !b.is_ascii_alphanumeric()))
}

/// Which of the node's own pods the attributes name.
fn named<'p>(attributes: &[KeyValue], pods: &'p [Arc<Pod>]) -> Option<&'p Arc<Pod>> {
    let say = |name| text(attributes, name);
    let (uid, namespace, name) =
        (say("k8s.pod.uid"), say("k8s.namespace.name"), say("k8s.pod.name"));
    let by_uid = pods.iter().find(|pod| uid == Some(&*pod.uid));
    let by_name =
        || pods.iter().find(|pod| namespace == Some(&*pod.namespace) && name == Some(&*pod.name));
    by_uid.or_else(by_name)
}

fn write_pod(place: &Place, pod: &Pod, attributes: &mut Vec<KeyValue>) {
    let labels = target_labels(place, pod, "");
    let label = |name| labels.get(name).unwrap_or_default();
    let workload = match label("workload_kind") {
        "Deployment" => "k8s.deployment.name",
        "ReplicaSet" => "k8s.replicaset.name",
        "StatefulSet" => "k8s.statefulset.name",
        "DaemonSet" => "k8s.daemonset.name",
        "CronJob" => "k8s.cronjob.name",
        "Job" => "k8s.job.name",
        _ => "",
    };
    let places = [
        ("k8s.namespace.name", &*pod.namespace),
        ("k8s.pod.name", &pod.name),
        ("k8s.pod.uid", &pod.uid),
        ("k8s.node.name", label("node")),
        ("k8s.cluster.name", label("cluster")),
        (workload, label("workload")),
    ];
    for (name, value) in places {
        set(attributes, name, value);
    }
    // The container is not to be seen from outside: what the pod says of itself, if it has such one.
    let container = text(attributes, "k8s.container.name");
    if !pod.containers.iter().any(|c| Some(&*c.name) == container) {
        attributes.retain(|a| a.key != "k8s.container.name");
        if let [only] = &*pod.containers {
            set(attributes, "k8s.container.name", &only.name);
        }
    }
    // What SDKs say when nobody has told them a name.
    let service = text(attributes, "service.name").unwrap_or_default();
    if service.is_empty() || service.starts_with("unknown_service") {
        attributes.retain(|a| a.key != "service.name");
        set(attributes, "service.name", label("app"));
    }
    for (name, value) in pod.labels.iter().take(LABELS_MAX) {
        set(attributes, &format!("k8s.pod.label.{name}"), value);
    }
}

pub(super) fn text<'a>(attributes: &'a [KeyValue], name: &str) -> Option<&'a str> {
    let found = attributes.iter().find(|a| a.key == name)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

fn set(attributes: &mut Vec<KeyValue>, name: &str, value: &str) {
    if !name.is_empty() && !value.is_empty() {
        let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
        attributes.push(KeyValue { key: name.to_owned(), value, ..KeyValue::default() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::table::{Event, Table};
    use crate::pods::{Container, Owner};
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
    use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
    use std::collections::BTreeMap;

    fn pod(uid: &str, ip: &str) -> Pod {
        Pod {
            uid: uid.into(),
            namespace: "shop".into(),
            name: format!("web-{uid}"),
            node: Some("node-1".into()),
            ip: Some(ip.into()),
            labels: [("app".to_owned(), "web".to_owned())].into(),
            owner: Some(Owner { kind: "StatefulSet".into(), name: "web".into() }),
            containers: vec![Container { name: "main".into(), ports: vec![] }],
            ..Pod::default()
        }
    }

    fn origins(pods: Vec<Pod>) -> (Origins, Table) {
        let (mut table, reader) = Table::new(pods::Origin::Cluster);
        table.apply(Event::Listed(pods), Instant::now());
        let place = Place { cluster: "c".into(), node: "node-1".into() };
        (Origins::new(place, reader), table)
    }

    fn request(attributes: &[(&str, &str)]) -> ExportLogsServiceRequest {
        let mut all = Vec::new();
        attributes.iter().for_each(|(name, value)| set(&mut all, name, value));
        let scope = InstrumentationScope { name: AGENT_SCOPE.into(), ..Default::default() };
        ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs {
                resource: Some(Resource { attributes: all, ..Resource::default() }),
                scope_logs: vec![ScopeLogs { scope: Some(scope), ..ScopeLogs::default() }],
                ..ResourceLogs::default()
            }],
        }
    }

    async fn written(
        origins: &Origins,
        peer: &str,
        attributes: &[(&str, &str)],
    ) -> BTreeMap<String, String> {
        let mut request = request(attributes);
        let address = origins.address(peer.parse().expect("an address")).await;
        origins.write(&address, &mut request);
        let logs = &request.resource_logs[0];
        assert_eq!(logs.scope_logs[0].scope.as_ref().expect("a scope").name, "", "not the agent");
        let attributes = &logs.resource.as_ref().expect("a resource").attributes;
        let pair = |a: &KeyValue| {
            (a.key.clone(), text(std::slice::from_ref(a), &a.key).expect("text").to_owned())
        };
        let map: BTreeMap<_, _> = attributes.iter().map(pair).collect();
        assert_eq!(map.len(), attributes.len(), "each once");
        map
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_is_who_its_address_says_whatever_it_says() {
        let six = Pod { more_ips: vec!["fd00::1".into()], ..pod("1", "10.0.0.1") };
        let (origins, _table) = origins(vec![six, pod("2", "10.0.0.2")]);
        let spoofed = [
            ("k8s.namespace.name", "bank"),
            ("k8s.pod.name", "vault"),
            ("k8s.pod.uid", "2"),
            ("k8s.pod.label.app", "vault"),
            ("k8s.deployment.name", "vault"),
            ("k8s.container.name", "vault"),
            ("taffrail.source", "node-1/1:2:3:4"),
            ("service.name", "checkout"),
            ("own", "kept"),
        ];
        let expected = [
            ("k8s.cluster.name", "c"),
            ("k8s.container.name", "main"),
            ("k8s.namespace.name", "shop"),
            ("k8s.node.name", "node-1"),
            ("k8s.pod.label.app", "web"),
            ("k8s.pod.name", "web-1"),
            ("k8s.pod.uid", "1"),
            ("k8s.statefulset.name", "web"),
            ("own", "kept"),
            ("service.name", "checkout"),
        ];
        let expected = expected.map(|(n, v)| (n.to_owned(), v.to_owned())).into();
        for peer in ["10.0.0.1", "::ffff:10.0.0.1", "fd00::1"] {
            assert_eq!(written(&origins, peer, &spoofed).await, expected, "{peer}");
        }
        let nameless = [("service.name", "unknown_service:java"), ("k8s.container.name", "main")];
        let found = written(&origins, "10.0.0.2", &nameless).await;
        assert_eq!((&*found["service.name"], &*found["k8s.container.name"]), ("web", "main"));
    }

    #[tokio::test(start_paused = true)]
    async fn pods_of_the_nodes_network_are_known_by_their_word_among_themselves() {
        let host = |uid| Pod { host_network: true, ..pod(uid, "192.168.0.1") };
        let (origins, _table) = origins(vec![host("1"), host("2"), pod("3", "10.0.0.3")]);
        let name = async |attributes: &[(&str, &str)]| {
            written(&origins, "192.168.0.1", attributes).await.get("k8s.pod.name").cloned()
        };
        assert_eq!(name(&[("k8s.pod.uid", "2")]).await.as_deref(), Some("web-2"));
        let by_name = [("k8s.namespace.name", "shop"), ("k8s.pod.name", "web-1")];
        assert_eq!(name(&by_name).await.as_deref(), Some("web-1"));
        assert_eq!(name(&[("k8s.pod.uid", "3")]).await, None, "another network's");
        let node = written(&origins, "127.0.0.1", &[("k8s.pod.name", "x")]).await;
        let expected = [("k8s.cluster.name", "c"), ("k8s.node.name", "node-1")];
        assert_eq!(node, expected.map(|(n, v)| (n.to_owned(), v.to_owned())).into());
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_change_hands() {
        let ended = Pod { phase: "Succeeded".into(), ..pod("1", "10.0.0.1") };
        let (origins, mut table) = origins(vec![ended]);
        let nobody = written(&origins, "10.0.0.1", &[("k8s.pod.name", "web-1")]).await;
        assert!(nobody.is_empty(), "{nobody:?}");
        // The pod becomes known while its first request waits.
        let apply = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            table.apply(Event::Applied(pod("2", "10.0.0.1").into()), Instant::now());
        };
        let (found, ()) = tokio::join!(written(&origins, "10.0.0.1", &[]), apply);
        assert_eq!(found["k8s.pod.name"], "web-2");
        table.apply(Event::Applied(pod("3", "10.0.0.1").into()), Instant::now());
        assert!(written(&origins, "10.0.0.1", &[]).await.is_empty(), "one of both is out of date");
    }

    #[tokio::test]
    async fn without_pods_requests_speak_for_themselves() {
        let origins = Origins::new(Place::default(), Pods::none());
        let said = [("k8s.pod.name", "x"), ("taffrail.source", "y")];
        let found = written(&origins, "10.0.0.1", &said).await;
        assert_eq!(found, [("k8s.pod.name".to_owned(), "x".to_owned())].into());
    }

    #[test]
    fn nobody_else_says_what_the_agent_says() {
        for pods in [vec![pod("1", "10.0.0.1")], vec![]] {
            let (origins, _table) = origins(pods);
            let mut request = request(&[("taffrail_x", "1"), ("mine", "1")]);
            let all = ["taffrail_gap_bytes", "taffrail.dropped-lines", "taffrails", "taffrail"];
            let mut attributes = Vec::new();
            all.iter().for_each(|name| set(&mut attributes, name, "1"));
            let record = LogRecord { attributes, ..LogRecord::default() };
            request.resource_logs[0].scope_logs =
                vec![ScopeLogs { log_records: vec![record], ..ScopeLogs::default() }];
            for address in [Address::Stranger, Address::Unwatched] {
                let mut request = request.clone();
                origins.write(&address, &mut request);
                let logs = &request.resource_logs[0];
                let of = |all: &[KeyValue]| all.iter().map(|a| a.key.clone()).collect::<Vec<_>>();
                assert_eq!(of(&logs.resource.as_ref().expect("one").attributes), ["mine"]);
                let record = &logs.scope_logs[0].log_records[0];
                assert_eq!(of(&record.attributes), ["taffrails", "taffrail"]);
            }
        }
    }
}
