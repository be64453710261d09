//! An API server for tests: pods of a node to be listed and watched, answers that fail as they are
//! told, and every request remembered.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::http1::{self, Port, Request};

/// How requests are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As an API server does.
    Up,
    /// With this status.
    Status(u16),
    /// Not at all: new requests hang, watches fall silent, nothing is closed.
    HalfOpen,
    /// Nobody listens, and connections are cut.
    Refuse,
}

#[derive(Debug, Default)]
struct World {
    pods: BTreeMap<String, Value>,
    version: u64,
    /// What watches are told, by version.
    events: Vec<(u64, Value)>,
    /// Watches from before this version are told that it is gone.
    oldest: u64,
    requests: Vec<Request>,
}

#[derive(Debug)]
struct Shared {
    port: Port,
    mode: watch::Sender<Mode>,
    /// Counts changes of the world.
    changed: watch::Sender<u64>,
    world: Mutex<World>,
}

/// The API server. It ends with the runtime that it was started on.
#[derive(Clone, Debug)]
pub struct KubeApi(Arc<Shared>);

impl KubeApi {
    /// Starts one on a free port.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(mode: Mode) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            port: Port::take([127, 0, 0, 1])?,
            mode: watch::Sender::new(mode),
            changed: watch::Sender::new(0),
            world: Mutex::new(World { version: 100, ..World::default() }),
        });
        tokio::spawn(accept(shared.clone()));
        Ok(Self(shared))
    }

    /// A kubeconfig that leads here.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "sim",
            "clusters": [{"name": "sim", "cluster": {
                "server": format!("http://{}", self.0.port.address()),
            }}],
            "users": [{"name": "sim", "user": {"token": "sim"}}],
            "contexts": [{"name": "sim", "context": {"cluster": "sim", "user": "sim"}}],
        })
        .to_string()
    }

    /// From now on requests are answered like this.
    pub fn set(&self, mode: Mode) {
        self.0.mode.send_replace(mode);
    }

    /// Adds a pod, or changes the one with its uid.
    pub fn apply(&self, pod: &Value) {
        self.0.change(|world| {
            let mut pod = pod.clone();
            pod["metadata"]["resourceVersion"] = world.version.to_string().into();
            let uid = pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            let known = world.pods.insert(uid, pod.clone()).is_some();
            json!({"type": if known { "MODIFIED" } else { "ADDED" }, "object": pod})
        });
    }

    /// Deletes the pod with this uid.
    pub fn delete(&self, uid: &str) {
        self.0.change(|world| {
            let pod = world.pods.remove(uid).unwrap_or_default();
            json!({"type": "DELETED", "object": pod})
        });
    }

    /// Tells watches the version, as servers do now and then.
    pub fn bookmark(&self) {
        self.0.change(|world| {
            let version = world.version.to_string();
            json!({"type": "BOOKMARK", "object": {
                "apiVersion": "v1", "kind": "Pod", "metadata": {"resourceVersion": version},
            }})
        });
    }

    /// The server has forgotten what was before now: watches end with 410 and must list again.
    pub fn forget(&self) {
        self.0.change(|world| {
            world.oldest = world.version;
            gone()
        });
    }

    /// The requests for pods so far: lists, and watches.
    #[must_use]
    pub fn asked(&self) -> (Vec<Request>, Vec<Request>) {
        let pods = |r: &&Request| r.path == "/api/v1/pods";
        let all: Vec<Request> = self.0.world().requests.iter().filter(pods).cloned().collect();
        all.into_iter().partition(|r| r.parameter("watch").is_none())
    }

    /// The requests for anything but pods.
    #[must_use]
    pub fn others(&self) -> Vec<Request> {
        let world = self.0.world();
        world.requests.iter().filter(|r| r.path != "/api/v1/pods").cloned().collect()
    }
}

fn gone() -> Value {
    json!({"type": "ERROR", "object": {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "too old resource version", "reason": "Expired", "code": 410,
    }})
}

impl Shared {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, make: impl FnOnce(&mut World) -> Value) {
        {
            let mut world = self.world();
            world.version += 1;
            let event = make(&mut world);
            let version = world.version;
            world.events.push((version, event));
        }
        self.changed.send_modify(|count| *count += 1);
    }
}

async fn accept(shared: Arc<Shared>) {
    let mut mode = shared.mode.subscribe();
    let mut listener: Option<TcpListener> = None;
    loop {
        if *mode.borrow_and_update() == Mode::Refuse {
            listener = None;
        } else if listener.is_none() {
            listener = shared.port.listen().ok();
        }
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = mode.changed() => if changed.is_err() { return },
            accepted = accepted => if let Ok((stream, _)) = accepted {
                tokio::spawn(connection(shared.clone(), stream));
            }
        }
    }
}

async fn connection(shared: Arc<Shared>, stream: TcpStream) {
    let mut mode = shared.mode.subscribe();
    tokio::select! {
        _served = serve(&shared, stream) => {}
        _refused = mode.wait_for(|mode| *mode == Mode::Refuse) => {}
    }
}

async fn serve(shared: &Shared, mut stream: TcpStream) -> io::Result<()> {
    while let Some(request) = http1::read(&mut stream).await? {
        shared.world().requests.push(request.clone());
        let mode = *shared.mode.borrow();
        match mode {
            Mode::HalfOpen | Mode::Refuse => std::future::pending::<()>().await,
            Mode::Status(status) => {
                let reason = json!({
                    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                    "message": "as told", "reason": "AsTold", "code": status,
                });
                let json = [("content-type", "application/json")];
                let answer = http1::answer(status, &json, reason.to_string().as_bytes());
                http1::write(&mut stream, &answer).await?;
            }
            Mode::Up if request.path != "/api/v1/pods" => {
                http1::write(&mut stream, &http1::answer(404, &[], b"{}")).await?;
            }
            Mode::Up if request.parameter("watch").is_some() => {
                return watch(shared, &mut stream, &request).await;
            }
            Mode::Up => {
                let answer = list(&shared.world());
                http1::write(&mut stream, &answer).await?;
            }
        }
    }
    Ok(())
}

fn list(world: &World) -> Vec<u8> {
    let items: Vec<&Value> = world.pods.values().collect();
    let body = json!({
        "kind": "PodList", "apiVersion": "v1",
        "metadata": {"resourceVersion": world.version.to_string()}, "items": items,
    });
    http1::answer(200, &[("content-type", "application/json")], body.to_string().as_bytes())
}

/// Tells one event after the other, until one of them is an error.
async fn watch(shared: &Shared, stream: &mut TcpStream, request: &Request) -> io::Result<()> {
    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
        transfer-encoding: chunked\r\n\r\n";
    let since = request.parameter("resourceVersion").and_then(|v| v.parse().ok());
    let mut told: u64 = since.unwrap_or(0);
    let mut changed = shared.changed.subscribe();
    http1::write(stream, HEAD).await?;
    loop {
        changed.borrow_and_update();
        let news: Vec<(u64, Value)> = {
            let world = shared.world();
            if told < world.oldest {
                vec![(world.version, gone())]
            } else {
                world.events.iter().filter(|(version, _)| *version > told).cloned().collect()
            }
        };
        for (version, event) in news {
            told = version;
            if *shared.mode.borrow() != Mode::Up {
                std::future::pending::<()>().await;
            }
            let line = format!("{event}\n");
            let chunk = format!("{:x}\r\n{line}\r\n", line.len());
            http1::write(stream, chunk.as_bytes()).await?;
            if event["type"] == "ERROR" {
                return http1::write(stream, b"0\r\n\r\n").await;
            }
        }
        if changed.changed().await.is_err() {
            return Ok(());
        }
    }
}
