//! Claim → persistent volume: what the pod object does not say, asked of the Kubernetes API.
//!
//! Only claims of pods whose volumes hold logs are asked for, each once. The agent needs `get` on
//! `persistentvolumeclaims` and `persistentvolumes` for it; without, a claim is still found when it
//! is the only one of its pod.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::{Api, Client};

use super::volumes::ANNOTATION;
use super::{Bound, Pod, VolumeSource};

/// Most claims that are remembered; a node has some hundred.
const CLAIMS_MAX: usize = 10_000;
/// How long an answer may take: pods wait for it.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What is known of claims.
pub(super) struct Claims {
    client: Client,
    known: HashMap<(String, String), Bound>,
    failing: bool,
}

impl Claims {
    pub(super) fn new(client: Client) -> Self {
        Self { client, known: HashMap::new(), failing: false }
    }

    /// Fills in which volumes the claims of `pod` are bound to, as far as that is to be had.
    pub(super) async fn resolve(&mut self, pod: &mut Pod) {
        let Some(asked) = pod.annotations.get(ANNOTATION) else { return };
        for volume in &mut pod.volumes {
            let VolumeSource::Claim { claim, bound } = &mut volume.source else { continue };
            if asked.contains(&volume.name) {
                *bound = self.bound(&pod.namespace, claim).await;
            }
        }
    }

    async fn bound(&mut self, namespace: &str, claim: &str) -> Option<Bound> {
        let key = (namespace.to_owned(), claim.to_owned());
        if let Some(bound) = self.known.get(&key) {
            return Some(bound.clone());
        }
        let reason = match tokio::time::timeout(TIMEOUT, self.ask(namespace, claim)).await {
            Ok(Ok(bound)) => {
                self.failing = false;
                if self.known.len() >= CLAIMS_MAX {
                    self.known.clear();
                }
                self.known.extend(bound.clone().map(|bound| (key, bound)));
                return bound;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {TIMEOUT:?}"),
        };
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(namespace, claim, reason, "claims cannot be looked up");
        }
        None
    }

    /// `None` as long as the claim is not bound.
    async fn ask(&self, namespace: &str, claim: &str) -> kube::Result<Option<Bound>> {
        let claims = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), namespace);
        let spec = claims.get_opt(claim).await?.and_then(|claim| claim.spec);
        let name = spec.and_then(|spec| spec.volume_name).filter(|name| !name.is_empty());
        let Some(volume) = name else { return Ok(None) };
        let volumes = Api::<PersistentVolume>::all(self.client.clone());
        let found = volumes.get_opt(&volume).await?;
        Ok(found.map(|found| Bound { path: host_path(found), volume }))
    }
}

/// The path of a volume that is a folder of the node: the kubelet mounts it nowhere else.
fn host_path(volume: PersistentVolume) -> Option<PathBuf> {
    volume.spec?.host_path.map(|host| PathBuf::from(host.path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::Volume;
    use axum::http::{StatusCode, Uri};
    use serde_json::{Value, json};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    /// An API server with one claim bound to a folder of the node, one to a disk, one to nothing.
    fn answer(uri: &Uri) -> Option<Value> {
        let claim = |volume: Value| {
            json!({"kind": "PersistentVolumeClaim", "apiVersion": "v1",
            "metadata": {}, "spec": {"volumeName": volume}})
        };
        let volume = |spec: Value| {
            json!({"kind": "PersistentVolume", "apiVersion": "v1",
            "metadata": {}, "spec": spec})
        };
        Some(match uri.path() {
            "/api/v1/namespaces/shop/persistentvolumeclaims/folder" => claim("pv-1".into()),
            "/api/v1/namespaces/shop/persistentvolumeclaims/disk" => claim("pv-2".into()),
            "/api/v1/namespaces/shop/persistentvolumeclaims/open" => claim(Value::Null),
            "/api/v1/persistentvolumes/pv-1" => volume(json!({"hostPath": {"path": "/srv/1"}})),
            "/api/v1/persistentvolumes/pv-2" => volume(json!({"local": {"path": "/disk"}})),
            _ => return None,
        })
    }

    async fn claims(asked: Arc<AtomicUsize>, status: Arc<Mutex<StatusCode>>) -> Claims {
        let app = axum::Router::new().fallback(move |uri: Uri| async move {
            asked.fetch_add(1, Ordering::Relaxed);
            let status = *status.lock().expect("lock");
            let gone =
                json!({"kind": "Status", "apiVersion": "v1", "code": 404, "reason": "NotFound"});
            match answer(&uri).filter(|_| status == StatusCode::OK) {
                Some(found) => (status, found.to_string()),
                None if status == StatusCode::OK => (StatusCode::NOT_FOUND, gone.to_string()),
                None => (status, json!({"kind": "Status", "code": status.as_u16()}).to_string()),
            }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        let config = kube::Config::new(url.parse().expect("URL"));
        Claims::new(Client::try_from(config).expect("client"))
    }

    fn pod() -> Pod {
        let claim = |name: &str| Volume {
            name: name.into(),
            source: VolumeSource::Claim { claim: name.into(), bound: None },
        };
        Pod {
            namespace: "shop".into(),
            annotations: [(ANNOTATION.to_owned(), "folder,disk:*,open,gone".to_owned())].into(),
            volumes: ["folder", "disk", "open", "gone", "unasked"].map(claim).into(),
            ..Pod::default()
        }
    }

    /// `volume path` of what each claim is bound to.
    fn bound(pod: &Pod) -> Vec<String> {
        let of = |volume: &Volume| match &volume.source {
            VolumeSource::Claim { bound: Some(Bound { volume, path }), .. } => {
                format!("{volume} {}", path.clone().unwrap_or_default().display())
            }
            _ => "open".to_owned(),
        };
        pod.volumes.iter().map(of).collect()
    }

    #[tokio::test]
    async fn claims_are_looked_up_once_when_they_hold_logs() {
        let (asked, status) = (Arc::default(), Arc::new(Mutex::new(StatusCode::OK)));
        let mut claims = claims(Arc::clone(&asked), status).await;
        let expected = ["pv-1 /srv/1", "pv-2 ", "open", "open", "open"];
        let mut first = pod();
        claims.resolve(&mut first).await;
        assert_eq!(bound(&first), expected);
        assert_eq!(asked.load(Ordering::Relaxed), 6);
        let mut second = pod();
        claims.resolve(&mut second).await;
        assert_eq!(second, first);
        assert_eq!(asked.load(Ordering::Relaxed), 8, "only what is not bound is asked for again");

        let mut silent = Pod { annotations: [].into(), ..pod() };
        claims.resolve(&mut silent).await;
        assert_eq!(bound(&silent), ["open"; 5]);
        assert_eq!(asked.load(Ordering::Relaxed), 8);
    }

    #[tokio::test]
    async fn what_may_not_be_asked_stays_open() {
        let status = Arc::new(Mutex::new(StatusCode::FORBIDDEN));
        let mut claims = claims(Arc::default(), status.clone()).await;
        let mut pod = pod();
        claims.resolve(&mut pod).await;
        assert_eq!(bound(&pod), ["open"; 5]);
        assert!(claims.failing);
        *status.lock().expect("lock") = StatusCode::OK;
        claims.resolve(&mut pod).await;
        assert_eq!(bound(&pod)[0], "pv-1 /srv/1");
    }
}
