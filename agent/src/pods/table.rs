//! The one writer of the pods: takes what a source says and publishes snapshots.
//!
//! [`Table::apply`] is a plain state machine; time is given to it. Deleted pods are kept for
//! [`KEEP_DELETED`] and no longer, and no more than [`DELETED_MAX`] of them; the number of pods is
//! bounded by [`PODS_MAX`]. Pods of an earlier process count as deleted from the first list on that
//! is without them; before it, nothing is forgotten.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::namespaces::{self, Namespaces};
use super::{Entry, Origin, Pod, Pods, Snapshot};

/// How long a deleted pod is still known: its files are read to their end first.
pub const KEEP_DELETED: Duration = Duration::from_secs(600);

/// Most pods that are known at once, deleted ones included. The kubelet's default limit is 110 on a
/// node; a pod list file may hold a whole cluster.
pub const PODS_MAX: usize = 20_000;

/// Most deleted pods that are known: those that went first are forgotten first. A node that loses more
/// than this within [`KEEP_DELETED`] restarts several pods a second.
pub const DELETED_MAX: usize = 2000;

/// What a source says.
#[derive(Debug)]
pub enum Event {
    /// These are all the pods there are.
    Listed(Vec<Pod>),
    /// A pod is new or has changed.
    Applied(Arc<Pod>),
    /// The pod with this uid is gone.
    Deleted(String),
    /// These are the labels of all namespaces.
    Namespaces(Namespaces),
    /// The source does not answer.
    Failed(String),
    /// The source answers again, and says nothing new.
    Answered,
}

/// The pods and who reads them.
#[derive(Debug)]
pub struct Table {
    pods: HashMap<String, Known>,
    /// Labels of namespaces that pods are given.
    wanted: Vec<String>,
    namespaces: Option<Namespaces>,
    snapshot: watch::Sender<Arc<Snapshot>>,
}

#[derive(Debug)]
struct Known {
    pod: Arc<Pod>,
    deleted: Option<Instant>,
}

impl Table {
    /// An empty table that waits for its first list, and its readers' side.
    #[must_use]
    pub fn new(origin: Origin) -> (Self, Pods) {
        let (snapshot, reader) = watch::channel(Arc::new(Snapshot::empty(origin)));
        let (pods, wanted) = (HashMap::new(), Vec::new());
        (Self { pods, wanted, namespaces: None, snapshot }, Pods(reader))
    }

    /// Pods that an earlier process knew. None of them is taken to exist before a list says so.
    pub fn remember(&mut self, pods: Vec<Pod>, now: Instant) {
        for pod in pods {
            self.insert(pod.into());
        }
        self.pods.values_mut().for_each(|known| known.deleted = Some(now));
        self.publish_again();
    }

    /// Gives each pod these labels of its namespace, once they are known.
    pub fn want_namespace_labels(&mut self, names: Vec<String>) {
        self.wanted = names;
        if let Some(namespaces) = self.namespaces.take() {
            self.relabel(namespaces);
        }
        self.publish_again();
    }

    /// Whether labels of namespaces are wanted.
    #[must_use]
    pub fn wants_namespaces(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// Takes one event and publishes what has become of the pods.
    pub fn apply(&mut self, event: Event, now: Instant) {
        let (mut synced, mut problem) = (self.snapshot.borrow().synced, None);
        match event {
            Event::Listed(pods) => {
                let listed: HashSet<&str> = pods.iter().map(|pod| &*pod.uid).collect();
                for (uid, known) in &mut self.pods {
                    if !listed.contains(&**uid) {
                        let since = known.deleted.filter(|_| synced).unwrap_or(now);
                        known.deleted = Some(since);
                    }
                }
                pods.into_iter().for_each(|pod| self.insert(pod.into()));
                synced = true;
            }
            Event::Applied(pod) => self.insert(pod),
            Event::Deleted(uid) => {
                if let Some(known) = self.pods.get_mut(&uid) {
                    known.deleted.get_or_insert(now);
                }
            }
            Event::Namespaces(namespaces) => self.relabel(namespaces),
            Event::Failed(reason) => problem = Some(reason),
            Event::Answered => {}
        }
        if synced {
            self.pods.retain(|_, known| {
                known.deleted.is_none_or(|at| now.saturating_duration_since(at) < KEEP_DELETED)
            });
            self.forget_oldest();
        }
        self.publish(synced, problem);
    }

    fn publish_again(&self) {
        let (synced, problem) = {
            let now = self.snapshot.borrow();
            (now.synced, now.problem.clone())
        };
        self.publish(synced, problem);
    }

    fn forget_oldest(&mut self) {
        let deleted = |known: &Known| known.deleted;
        let mut times: Vec<Instant> = self.pods.values().filter_map(deleted).collect();
        let Some(surplus) = times.len().checked_sub(DELETED_MAX).filter(|s| *s > 0) else { return };
        let last = *times.select_nth_unstable(surplus - 1).1;
        // Pods that went with one list have one time.
        let mut ties = surplus - times.iter().filter(|at| **at < last).count();
        self.pods.retain(|_, known| match known.deleted {
            Some(at) if at == last && ties > 0 => {
                ties -= 1;
                false
            }
            Some(at) => at >= last,
            None => true,
        });
    }

    /// The pods whose namespace has other labels now become new objects.
    fn relabel(&mut self, namespaces: Namespaces) {
        self.namespaces = Some(namespaces);
        let mut pods = std::mem::take(&mut self.pods);
        for known in pods.values_mut().filter(|known| known.deleted.is_none()) {
            let labels = self.labels_of(&known.pod.namespace);
            if known.pod.namespace_labels != labels {
                Arc::make_mut(&mut known.pod).namespace_labels = labels;
            }
        }
        self.pods = pods;
    }

    fn labels_of(&self, namespace: &str) -> BTreeMap<String, String> {
        let labels = self.namespaces.as_ref().and_then(|all| all.get(namespace));
        labels.map(|labels| namespaces::wanted(labels, &self.wanted)).unwrap_or_default()
    }

    fn insert(&mut self, mut pod: Arc<Pod>) {
        let labels = self.labels_of(&pod.namespace);
        if self.namespaces.is_some() && pod.namespace_labels != labels {
            Arc::make_mut(&mut pod).namespace_labels = labels;
        }
        if self.pods.len() >= PODS_MAX && !self.pods.contains_key(&pod.uid) {
            tracing::warn!(
                limit = PODS_MAX,
                "too many pods, this one is labelled by its path only"
            );
            return;
        }
        match self.pods.get_mut(&pod.uid) {
            // The same object stays, so that what was made from it stays too: most changes of a pod
            // (probes, conditions) change nothing that is kept here.
            Some(known) if known.pod == pod => known.deleted = None,
            _ => {
                self.pods.insert(pod.uid.clone(), Known { pod, deleted: None });
            }
        }
    }

    fn publish(&self, synced: bool, problem: Option<String>) {
        let mut by_uid = HashMap::with_capacity(self.pods.len());
        for (uid, known) in &self.pods {
            let entry = Entry { pod: known.pod.clone(), live: known.deleted.is_none() };
            if let Some(hash) = &known.pod.config_hash {
                by_uid.insert(hash.clone(), entry.clone());
            }
            by_uid.insert(uid.clone(), entry);
        }
        let origin = self.snapshot.borrow().origin;
        let awaits_namespaces = self.wants_namespaces() && self.namespaces.is_none();
        let snapshot = Snapshot { origin, synced, problem, awaits_namespaces, by_uid };
        self.snapshot.send_replace(Arc::new(snapshot));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str, name: &str) -> Pod {
        Pod { uid: uid.into(), name: name.into(), ..Pod::default() }
    }

    fn live(pods: &Pods) -> Vec<String> {
        let mut names: Vec<String> = pods.now().live().map(|pod| pod.name.clone()).collect();
        names.sort();
        names
    }

    #[tokio::test(start_paused = true)]
    async fn a_deleted_pod_is_found_for_some_minutes() {
        let (mut table, pods) = Table::new(Origin::Cluster);
        assert!(!pods.now().synced);
        table.apply(Event::Listed(vec![pod("1", "a"), pod("2", "b")]), Instant::now());
        assert!(pods.now().synced);
        table.apply(Event::Applied(pod("3", "c").into()), Instant::now());
        table.apply(Event::Deleted("1".into()), Instant::now());
        assert_eq!(live(&pods), ["b", "c"]);
        assert!(pods.now().get("1").is_some());

        tokio::time::advance(KEEP_DELETED).await;
        // A list without pod 2 deletes it, and a repeated deletion does not keep pod 1 longer.
        table.apply(Event::Listed(vec![pod("3", "c")]), Instant::now());
        assert!(pods.now().get("1").is_none());
        assert!(pods.now().get("2").is_some());
        assert_eq!(live(&pods), ["c"]);
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_deleted_pods_the_last_are_known() {
        let (mut table, pods) = Table::new(Origin::Cluster);
        let all = |range: std::ops::Range<usize>| -> Vec<Pod> {
            range.map(|n| pod(&n.to_string(), "p")).collect()
        };
        let stays = || pod("stays", "s");
        for (from, to) in [(0, 1500), (1500, 3000), (3000, 3001)] {
            let mut list = all(from..to);
            list.push(stays());
            table.apply(Event::Listed(list), Instant::now());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        table.apply(Event::Listed(vec![stays()]), Instant::now());
        let now = pods.now();
        let known = |range: std::ops::Range<usize>| {
            range.filter(|n| now.get(&n.to_string()).is_some()).count()
        };
        assert_eq!(now.count(), DELETED_MAX + 1);
        assert_eq!((known(0..1500), known(1500..3000), known(3000..3001)), (499, 1500, 1));
        assert!(now.get("stays").is_some());
    }

    #[tokio::test]
    async fn static_pods_are_found_by_their_hash_and_live_once() {
        let (mut table, pods) = Table::new(Origin::Cluster);
        let mirror = Pod { config_hash: Some("hash".into()), ..pod("1", "static") };
        table.apply(Event::Applied(mirror.into()), Instant::now());
        assert_eq!(pods.now().get("hash").map(|p| p.name.clone()), Some("static".into()));
        assert_eq!(pods.now().get("1").map(|p| p.folder_uid().to_owned()), Some("hash".into()));
        assert_eq!(live(&pods), ["static"]);
    }

    #[tokio::test]
    async fn a_pod_that_says_nothing_new_is_the_same_object() {
        let (mut table, pods) = Table::new(Origin::Cluster);
        table.apply(Event::Applied(pod("1", "a").into()), Instant::now());
        let first = pods.now().get("1").cloned().expect("known");
        table.apply(Event::Deleted("1".into()), Instant::now());
        table.apply(Event::Applied(pod("1", "a").into()), Instant::now());
        assert!(Arc::ptr_eq(&first, pods.now().get("1").expect("known")));
        assert_eq!(live(&pods), ["a"]);
        table.apply(Event::Applied(pod("1", "b").into()), Instant::now());
        assert_eq!(live(&pods), ["b"]);
    }

    #[tokio::test]
    async fn pods_carry_the_labels_of_their_namespace_that_are_wanted() {
        let (mut table, pods) = Table::new(Origin::Cluster);
        table.want_namespace_labels(vec!["team".into(), "none".into()]);
        assert!(pods.now().awaits_namespaces);
        let in_shop = |uid: &str| Pod { namespace: "shop".into(), ..pod(uid, uid) };
        table.apply(Event::Listed(vec![in_shop("1"), pod("2", "other")]), Instant::now());
        let other = pods.now().get("2").cloned().expect("known");
        let team = |name: &str| {
            let labels = [("team".to_owned(), name.to_owned()), ("x".to_owned(), "y".to_owned())];
            Namespaces::from([("shop".to_owned(), BTreeMap::from(labels))])
        };
        let labels = |pods: &Pods, uid: &str| {
            let pod = pods.now().get(uid).cloned().expect("known");
            pod.namespace_labels.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>()
        };
        table.apply(Event::Namespaces(team("a")), Instant::now());
        assert!(!pods.now().awaits_namespaces);
        assert_eq!(labels(&pods, "1"), ["team=a"]);
        table.apply(Event::Applied(in_shop("3").into()), Instant::now());
        assert_eq!(labels(&pods, "3"), ["team=a"]);
        table.apply(Event::Namespaces(team("b")), Instant::now());
        assert_eq!(
            (labels(&pods, "1"), labels(&pods, "3")),
            (vec!["team=b".into()], vec!["team=b".into()])
        );
        assert!(Arc::ptr_eq(&other, pods.now().get("2").expect("known")), "nothing new of it");
    }

    #[tokio::test(start_paused = true)]
    async fn remembered_pods_are_known_until_a_list_has_been_without_them_for_long_enough() {
        let (mut table, pods) = Table::new(Origin::Cluster);
        table.remember(vec![pod("1", "gone"), pod("2", "stays")], Instant::now());
        assert_eq!(live(&pods), [""; 0], "nobody has said that they exist");
        tokio::time::advance(10 * KEEP_DELETED).await;
        table.apply(Event::Failed("no API".into()), Instant::now());
        assert!(pods.now().get("1").is_some() && !pods.now().synced);
        assert_eq!(pods.now().problem.as_deref(), Some("no API"));
        table.apply(Event::Listed(vec![pod("2", "stays")]), Instant::now());
        assert_eq!(live(&pods), ["stays"]);
        assert!(pods.now().get("1").is_some(), "its last lines may still be there");
        tokio::time::advance(KEEP_DELETED).await;
        table.apply(Event::Listed(vec![pod("2", "stays")]), Instant::now());
        assert!(pods.now().get("1").is_none());
    }

    #[tokio::test]
    async fn a_wish_for_labels_is_followed() {
        let (mut table, pods) = Table::new(Origin::File);
        let labels = |names: [&str; 2]| names.map(|n| (n.to_owned(), format!("{n}-1")));
        let namespaces =
            Namespaces::from([("shop".to_owned(), BTreeMap::from(labels(["team", "tier"])))]);
        table.apply(Event::Namespaces(namespaces), Instant::now());
        let shop = Pod { namespace: "shop".into(), ..pod("1", "a") };
        table.apply(Event::Listed(vec![shop]), Instant::now());
        for names in [vec![], vec!["team"], vec!["tier", "team"], vec!["none"]] {
            table.want_namespace_labels(names.iter().map(|&name| name.to_owned()).collect());
            let pod = pods.now().get("1").cloned().expect("known");
            let found: Vec<&str> = pod.namespace_labels.keys().map(String::as_str).collect();
            let mut expected: Vec<&str> = names.into_iter().filter(|n| *n != "none").collect();
            expected.sort_unstable();
            assert_eq!(found, expected);
            assert!(pods.now().synced);
        }
    }

    #[tokio::test]
    async fn a_failing_source_keeps_what_was_known() {
        let (mut table, mut pods) = Table::new(Origin::File);
        table.apply(Event::Listed(vec![pod("1", "a")]), Instant::now());
        table.apply(Event::Failed("no such file".into()), Instant::now());
        assert_eq!(live(&pods), ["a"]);
        assert_eq!(pods.now().problem.as_deref(), Some("no such file"));
        pods.changed().await;
        table.apply(Event::Answered, Instant::now());
        assert_eq!(pods.now().problem, None);
        assert_eq!(live(&pods), ["a"]);
    }
}
