//! Makes kube-apiserver and the autoscaling API known to each other, in both directions.
//!
//! - The cluster says which certificate its API server shows to the servers behind it (the CA of front
//!   proxies and their names, in `kube-system/extension-apiserver-authentication`): nobody else may
//!   ask.
//! - The API server learns by which CA to know this server: `caBundle` of the APIServices. One that
//!   leads to another Service (another metrics server may have been there first) is left alone.
//!
//! Both are looked at again every [`INTERVAL`], so a CA that changes and an APIService that is made
//! anew are followed. While the API server cannot be asked, what was last known stays. The rights
//! that are needed: `get` of that one ConfigMap, `get` and `patch` of the two APIServices.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use taffrail_kit::shutdown::Shutdown;
use tracing::{info, warn};

use super::clients::Authority;
use super::path::{GROUP, Version};
use super::tls::{self, Tls};

/// Between two looks at the cluster.
const INTERVAL: Duration = Duration::from_secs(15);
/// Between two looks after one that found anything wrong.
const RETRY: Duration = Duration::from_secs(2);
/// How long one look may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where the cluster says how its front proxies are known.
const AUTHENTICATION: (&str, &str) = ("kube-system", "extension-apiserver-authentication");
/// The keys there.
const CLIENT_CA: &str = "requestheader-client-ca-file";
const CLIENT_NAMES: &str = "requestheader-allowed-names";

/// Why one direction is not known.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{what}: {}", causes(.source))]
    Api { what: String, source: kube::Error },
    #[error("ConfigMap {}/{}: {reason}", AUTHENTICATION.0, AUTHENTICATION.1)]
    Authentication { reason: String },
    #[error(transparent)]
    Tls(#[from] tls::Error),
    #[error("APIService {name} leads to the Service {found}, not to this server: left alone")]
    Foreign { name: String, found: String },
}

/// A client of the cluster that this process runs in.
///
/// # Errors
/// When it runs in none. No request is made.
pub fn client() -> anyhow::Result<Client> {
    Ok(Client::try_from(kube::Config::incluster()?)?)
}

/// Keeps both directions known until the end. `names` are what the certificate is for.
pub async fn keep(client: Client, tls: Arc<Tls>, names: Vec<String>, mut stop: Shutdown) {
    let mut troubles = Troubles::default();
    loop {
        let look = async {
            let admitted = admit(&client, &tls).await;
            troubles.tell("who may ask the autoscaling API is not known", admitted);
            for version in Version::ALL {
                let service = format!("{}.{GROUP}", version.name());
                let registered = register(&client, &tls, &service, &names).await;
                troubles.tell(&format!("{service} is not registered"), registered);
            }
        };
        tokio::select! {
            () = stop.wait() => return,
            looked = tokio::time::timeout(TIMEOUT, look) => {
                let late = looked.map_err(|_| format!("no answer within {TIMEOUT:?}"));
                troubles.tell("the API server does not answer", late);
            }
        }
        let pause = if troubles.0.is_empty() { INTERVAL } else { RETRY };
        tokio::select! {
            () = stop.wait() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// What is wrong now, so that it is told once and not at each look.
#[derive(Default)]
struct Troubles(BTreeMap<String, String>);

impl Troubles {
    fn tell(&mut self, what: &str, outcome: Result<(), impl ToString>) {
        match outcome {
            Ok(()) => {
                if self.0.remove(what).is_some() {
                    info!("over: {what}");
                }
            }
            Err(error) => {
                let reason = error.to_string();
                if self.0.get(what) != Some(&reason) {
                    warn!(reason, "{what}");
                    self.0.insert(what.to_owned(), reason);
                }
            }
        }
    }
}

/// Lets in whom the cluster names, and nobody else.
async fn admit(client: &Client, tls: &Tls) -> Result<(), Error> {
    let (namespace, name) = AUTHENTICATION;
    let found = Api::<ConfigMap>::namespaced(client.clone(), namespace).get(name).await;
    let what = || format!("get ConfigMap {namespace}/{name}");
    let found = found.map_err(|source| Error::Api { what: what(), source })?;
    let authority = authority(&found.data.unwrap_or_default())?;
    if tls.admit(&authority)? {
        info!(names = ?authority.names, "the autoscaling API lets in the cluster's front proxies");
    }
    Ok(())
}

fn authority(data: &BTreeMap<String, String>) -> Result<Authority, Error> {
    let bad = |reason: String| Error::Authentication { reason };
    let pem = data.get(CLIENT_CA).ok_or_else(|| {
        bad(format!("has no {CLIENT_CA}: is the API server's aggregation layer set up?"))
    })?;
    let names = data.get(CLIENT_NAMES).map_or("[]", String::as_str);
    let names = serde_json::from_str(names).map_err(|e| bad(format!("{CLIENT_NAMES}: {e}")))?;
    Ok(Authority { pem: pem.clone(), names })
}

/// Tells the API server by which CA to know this server.
async fn register(client: &Client, tls: &Tls, name: &str, names: &[String]) -> Result<(), Error> {
    let services = Api::<APIService>::all(client.clone());
    let failed = |verb: &str| {
        let what = format!("{verb} APIService {name}");
        move |source| Error::Api { what, source }
    };
    let found = services.get(name).await.map_err(failed("get"))?;
    let ca = tls.ca_pem()?;
    let Some(patch) = patch(name, &found, &ca, names)? else { return Ok(()) };
    services
        .patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .map_err(failed("patch"))?;
    info!(name, "the API server knows the autoscaling API by its CA");
    Ok(())
}

/// What must change in an APIService; `None` when it is right.
fn patch(
    name: &str,
    found: &APIService,
    ca: &str,
    names: &[String],
) -> Result<Option<serde_json::Value>, Error> {
    let spec = found.spec.clone().unwrap_or_default();
    let service = spec.service.unwrap_or_default();
    let part = |text: Option<String>| text.unwrap_or_default();
    let leads_to = format!("{}.{}.svc", part(service.name), part(service.namespace));
    if !names.contains(&leads_to) {
        return Err(Error::Foreign { name: name.to_owned(), found: leads_to });
    }
    let known = spec.ca_bundle.is_some_and(|bundle| bundle.0 == ca.as_bytes());
    if known && spec.insecure_skip_tls_verify != Some(true) {
        return Ok(None);
    }
    let bundle = k8s_openapi::ByteString(ca.as_bytes().to_vec());
    Ok(Some(json!({"spec": {"caBundle": bundle, "insecureSkipTLSVerify": null}})))
}

/// The whole chain of causes on one line: the first alone says that it failed, the last why.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests;
