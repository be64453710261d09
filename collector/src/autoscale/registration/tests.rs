use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Mutex;

use axum::extract::{Request, State};
use axum::response::IntoResponse;
use http::{Method, StatusCode};
use serde_json::Value;

use super::super::clients::Clients;
use super::super::tls::TlsConfig;
use super::*;

const NAME: &str = "taffrail-collector.taffrail.svc";

fn service(namespace: &str, spec: &Value) -> Value {
    let mut whole = json!({
        "group": GROUP, "version": "v1beta2", "groupPriorityMinimum": 100, "versionPriority": 1,
        "service": {"name": "taffrail-collector", "namespace": namespace, "port": 443},
    });
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    json!({"kind": "APIService", "apiVersion": "apiregistration.k8s.io/v1", "metadata": {}, "spec": whole})
}

#[test]
fn an_apiservice_is_patched_when_it_is_ours_and_does_not_know_us() {
    let base64 = serde_json::to_value(k8s_openapi::ByteString(b"CA".to_vec())).unwrap();
    let wanted = json!({"spec": {"caBundle": base64, "insecureSkipTLSVerify": null}});
    let cases = [
        (service("taffrail", &json!({})), Ok(Some(&wanted))),
        (service("taffrail", &json!({"caBundle": "b3RoZXI="})), Ok(Some(&wanted))),
        (service("taffrail", &json!({"insecureSkipTLSVerify": true})), Ok(Some(&wanted))),
        (service("taffrail", &json!({"caBundle": base64})), Ok(None)),
        (service("monitoring", &json!({})), Err("taffrail-collector.monitoring.svc")),
        (service("taffrail", &json!({"service": null})), Err("leads to the Service ..svc")),
    ];
    for (found, expected) in cases {
        let shown = found.to_string();
        let found: APIService = serde_json::from_value(found).unwrap();
        let made = patch("v1beta2", &found, "CA", &[NAME.to_owned()]);
        match expected {
            Ok(expected) => assert_eq!(made.unwrap().as_ref(), expected, "{shown}"),
            Err(text) => assert!(made.unwrap_err().to_string().contains(text), "{shown}"),
        }
    }
}

/// The texts of `data` in a ConfigMap as kubectl prints it: enough of YAML for that.
fn block_of_yaml(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::<String, String>::new();
    let mut name = String::new();
    for line in text.lines().skip_while(|line| *line != "data:").skip(1) {
        if let Some(more) = line.strip_prefix("    ") {
            found.get_mut(&name).unwrap().extend([more, "\n"]);
        } else if let Some(entry) = line.strip_prefix("  ") {
            let (key, value) = entry.split_once(": ").unwrap();
            name = key.to_owned();
            let value = if value == "|" { "" } else { value.trim_matches('\'') };
            found.insert(name.clone(), value.to_owned());
        } else {
            break;
        }
    }
    found
}

#[test]
fn the_recorded_configmap_of_a_cluster_is_understood() {
    let folder = std::env::var_os("FIXTURES_DIR").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures")),
        PathBuf::from,
    );
    let path = folder.join("kubernetes/k136/cm_extension-apiserver-authentication.yaml");
    let Ok(text) = std::fs::read_to_string(&path) else {
        let _ = writeln!(std::io::stderr(), "SKIPPED: {} not found", path.display());
        return;
    };
    let data: BTreeMap<String, String> = block_of_yaml(&text);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let found = authority(&data).unwrap();
    assert_eq!(found.names, ["front-proxy-client"]);
    found.verifier(&path, &provider).unwrap();
}

#[test]
fn a_configmap_without_front_proxies_is_refused_with_its_reason() {
    let data = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>()
    };
    let text = |pairs: &[(&str, &str)]| authority(&data(pairs)).unwrap_err().to_string();
    assert!(text(&[]).contains("aggregation layer"));
    assert!(text(&[(CLIENT_CA, "pem"), (CLIENT_NAMES, "x")]).contains(CLIENT_NAMES));
    let any = authority(&data(&[(CLIENT_CA, "pem")])).unwrap();
    assert_eq!(any, Authority { pem: "pem".into(), names: Vec::new() });
}

/// An API server with two APIServices and the CA of front proxies, which it may refuse to tell.
#[derive(Default)]
struct Cluster {
    services: Mutex<BTreeMap<String, Value>>,
    front_proxies: Mutex<Option<String>>,
}

async fn answer(State(cluster): State<Arc<Cluster>>, request: Request) -> impl IntoResponse {
    let path = request.uri().path().to_owned();
    if path == "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication" {
        return match cluster.front_proxies.lock().unwrap().clone() {
            Some(pem) => (StatusCode::OK, json!({"data": {CLIENT_CA: pem}}).to_string()),
            None => (StatusCode::FORBIDDEN, json!({"kind": "Status", "code": 403}).to_string()),
        };
    }
    let name =
        path.strip_prefix("/apis/apiregistration.k8s.io/v1/apiservices/").unwrap().to_owned();
    if request.method() == Method::PATCH {
        let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
        let patch: Value = serde_json::from_slice(&body).unwrap();
        let mut services = cluster.services.lock().unwrap();
        let spec = &mut services.get_mut(&name).unwrap()["spec"];
        for (key, value) in patch["spec"].as_object().unwrap() {
            spec[key] = value.clone();
        }
    }
    (StatusCode::OK, cluster.services.lock().unwrap()[&name].to_string())
}

#[tokio::test]
async fn both_directions_are_made_known_and_followed() {
    let cluster = Arc::new(Cluster::default());
    for version in Version::ALL {
        let name = format!("{}.{GROUP}", version.name());
        let insecure = json!({"insecureSkipTLSVerify": true});
        cluster.services.lock().unwrap().insert(name, service("taffrail", &insecure));
    }
    let app = axum::Router::new().fallback(answer).with_state(cluster.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let folder = tempfile::tempdir().unwrap();
    let config = TlsConfig {
        dir: folder.path().to_owned(),
        names: vec![NAME.to_owned()],
        clients: Clients::OfCluster,
    };
    let tls = Arc::new(Tls::open(config).unwrap());
    let client = Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();
    let (trigger, stop) = taffrail_kit::shutdown::channel();
    let keeping = tokio::spawn(keep(client, tls.clone(), vec![NAME.to_owned()], stop));

    let ca = serde_json::to_value(k8s_openapi::ByteString(tls.ca_pem().unwrap().into())).unwrap();
    let known = || {
        let services = cluster.services.lock().unwrap();
        services.values().all(|it| it["spec"]["caBundle"] == ca)
    };
    while !known() {
        tokio::task::yield_now().await;
    }
    assert!(tls.server_config().is_none(), "nobody is let in before it is known whom");
    let secure = |it: &Value| it["spec"]["insecureSkipTLSVerify"].is_null();
    assert!(cluster.services.lock().unwrap().values().all(secure));

    // The right is given later; the CA of any certificate will do.
    *cluster.front_proxies.lock().unwrap() = Some(tls.ca_pem().unwrap());
    while tls.server_config().is_none() {
        tokio::task::yield_now().await;
    }
    trigger.stop();
    keeping.await.unwrap();
}
