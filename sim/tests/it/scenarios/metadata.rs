//! M: the pods' labels, with an API server that fails as it is told.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use taffrail_sim::kubeapi::{KubeApi, Mode};
use taffrail_sim::logtree::{self, ContainerLog};
use taffrail_sim::podlog::uid;
use taffrail_sim::process::wait_for;

use super::world::{NODE, PROBE, World};

/// An API server that knows the pod of the probe, and an agent that will ask it.
fn cluster(w: &mut World, mode: Mode) -> anyhow::Result<KubeApi> {
    let api = KubeApi::start(mode)?;
    let config = w.path("kubeconfig.json");
    std::fs::write(&config, api.kubeconfig())?;
    w.flag("--kubeconfig", config.display());
    api.apply(&pod(PROBE, &[]));
    Ok(api)
}

fn pod(name: &str, labels: &[(&str, &str)]) -> Value {
    logtree::pod(name, &uid(name), labels, NODE)
}

/// The label of the line with this text.
fn label(w: &World, text: &str, name: &str) -> anyhow::Result<Option<String>> {
    w.sink.with(|kept| {
        let line = kept.lines.iter().find(|line| line.text == text);
        Ok(line.with_context(|| format!("{text} has come"))?.labels.get(name).cloned())
    })
}

/// Writes a line and waits for it; the value of one of its labels.
async fn labelled(w: &World, log: &ContainerLog, name: &str) -> anyhow::Result<Option<String>> {
    let text = log.text("stdout");
    log.piece("stdout F", &text)?;
    w.until_text(&text).await?;
    label(w, &text, name)
}

pub(super) async fn m1_api_down_at_start(mut w: World) -> anyhow::Result<()> {
    let api = cluster(&mut w, Mode::Refuse)?;
    api.apply(&pod("web", &[("team", "blue")]));
    let log = w.pod("web")?;
    let text = log.text("stdout");
    log.piece("stdout F", &text)?;
    w.start()?;
    w.pace(3000).await;
    ensure!(w.sink.texts().is_empty(), "lines without their labels");
    let status = w.status().await.context("status")?;
    ensure!(status["pods"]["problem"].is_string(), "{status}");
    api.set(Mode::Up);
    w.until_text(&text).await?;
    ensure!(label(&w, &text, "team")?.as_deref() == Some("blue"), "it came without its labels");
    w.finish().await
}

pub(super) async fn m1_api_never_answers(mut w: World) -> anyhow::Result<()> {
    let _api = cluster(&mut w, Mode::HalfOpen)?;
    let log = w.pod("web")?;
    let text = log.text("stdout");
    log.piece("stdout F", &text)?;
    w.start()?;
    let took = w.until_text(&text).await?;
    ensure!(took < Duration::from_secs(45), "after {took:?}");
    ensure!(label(&w, &text, "pod")?.as_deref() == Some("web"), "the path tells the pod");
    println!("     M1: by their paths after {took:?}");
    w.delivered().await?;
    w.stop().await?;
    w.clean("at the end")
}

pub(super) async fn m2_pod_deleted_after_its_last_line(mut w: World) -> anyhow::Result<()> {
    let api = cluster(&mut w, Mode::Up)?;
    w.start_reading().await?;
    for number in 0..5 {
        let name = format!("job-{number}");
        api.apply(&pod(&name, &[("team", "blue")]));
        let log = w.pod(&name)?;
        let text = log.text("stdout");
        log.piece("stdout F", &text)?;
        w.pace(100).await;
        api.delete(&uid(&name));
        w.until_text(&text).await?;
        ensure!(label(&w, &text, "team")?.as_deref() == Some("blue"), "{text} without labels");
    }
    w.finish().await
}

pub(super) async fn m3_same_name_new_labels(mut w: World) -> anyhow::Result<()> {
    let api = cluster(&mut w, Mode::Up)?;
    let (old, new) = (uid("db-0 old"), uid("db-0 new"));
    api.apply(&logtree::pod("db-0", &old, &[("version", "1")], NODE));
    let root = w.pods_root();
    let first = ContainerLog::with_uid(&root, "db-0", &old, "main", &w.ledger)?;
    first.lines(5)?;
    w.start_reading().await?;
    w.delivered().await?;
    api.delete(&old);
    api.apply(&logtree::pod("db-0", &new, &[("version", "2")], NODE));
    let second = ContainerLog::with_uid(&root, "db-0", &new, "main", &w.ledger)?;
    // The last words of the old one come after the first of the new one.
    ensure!(labelled(&w, &second, "version").await?.as_deref() == Some("2"));
    ensure!(labelled(&w, &first, "version").await?.as_deref() == Some("1"));
    w.finish().await
}

pub(super) async fn m4_label_changed_in_place(mut w: World) -> anyhow::Result<()> {
    let api = cluster(&mut w, Mode::Up)?;
    api.apply(&pod("web", &[("track", "canary")]));
    let log = w.pod("web")?;
    w.start_reading().await?;
    ensure!(labelled(&w, &log, "track").await?.as_deref() == Some("canary"));
    api.apply(&pod("web", &[("track", "stable")]));
    let start = Instant::now();
    while labelled(&w, &log, "track").await?.as_deref() != Some("stable") {
        ensure!(start.elapsed() < Duration::from_secs(10), "the old label after 10 s");
    }
    println!("     M4: the new label after {:?}", start.elapsed());
    w.finish().await
}

pub(super) async fn m5_trouble_with_the_watch(mut w: World) -> anyhow::Result<()> {
    let api = cluster(&mut w, Mode::Up)?;
    api.apply(&pod("web", &[("team", "blue")]));
    let log = w.pod("web")?;
    w.start_reading().await?;
    api.bookmark();
    let lists = api.asked().0.len();
    api.forget();
    wait_for("a list after 410", async || (api.asked().0.len() > lists).then_some(())).await?;
    ensure!(labelled(&w, &log, "team").await?.as_deref() == Some("blue"), "after 410");
    for mode in [Mode::Status(401), Mode::Status(403), Mode::Refuse, Mode::HalfOpen] {
        // The watch of before is cut first.
        api.set(Mode::Refuse);
        w.pace(50).await;
        api.set(mode);
        ensure!(labelled(&w, &log, "team").await?.as_deref() == Some("blue"), "{mode:?}");
        if mode != Mode::HalfOpen {
            wait_for(&format!("a problem with {mode:?}"), async || {
                w.status().await?["pods"]["problem"].as_str().map(str::to_owned)
            })
            .await?;
        }
    }
    ensure!(api.asked().0.len() < lists + 40, "{} lists", api.asked().0.len());
    api.set(Mode::Refuse);
    w.pace(50).await;
    api.set(Mode::Up);
    // That the watch is back shows with the next event.
    api.apply(&pod("web", &[("team", "green")]));
    wait_for("no problem any more", async || {
        w.status().await?["pods"]["problem"].is_null().then_some(())
    })
    .await?;
    w.finish().await
}

pub(super) async fn m6_static_pod(mut w: World) -> anyhow::Result<()> {
    let api = cluster(&mut w, Mode::Up)?;
    let hash = "0123456789abcdef0123456789abcdef";
    let mut mirror = pod("etcd-node-1", &[("component", "etcd")]);
    mirror["metadata"]["annotations"] = json!({
        "kubernetes.io/config.hash": hash, "kubernetes.io/config.mirror": hash,
    });
    api.apply(&mirror);
    let log = ContainerLog::with_uid(&w.pods_root(), "etcd-node-1", hash, "main", &w.ledger)?;
    w.start_reading().await?;
    ensure!(labelled(&w, &log, "component").await?.as_deref() == Some("etcd"));
    w.finish().await
}

pub(super) async fn m7_init_and_ephemeral_containers(mut w: World) -> anyhow::Result<()> {
    let api = cluster(&mut w, Mode::Up)?;
    let mut web = pod("web", &[("team", "blue")]);
    web["spec"]["initContainers"] =
        json!([{"name": "setup"}, {"name": "mesh", "restartPolicy": "Always"}]);
    web["spec"]["ephemeralContainers"] = json!([{"name": "debug"}]);
    api.apply(&web);
    w.start_reading().await?;
    for container in ["setup", "mesh", "debug", "main"] {
        let log = ContainerLog::create(&w.pods_root(), "web", container, &w.ledger)?;
        let text = log.text("stdout");
        log.piece("stdout F", &text)?;
        w.until_text(&text).await?;
        ensure!(label(&w, &text, "team")?.as_deref() == Some("blue"), "{container}");
        ensure!(label(&w, &text, "container")?.as_deref() == Some(container), "{container}");
    }
    w.finish().await
}

pub(super) async fn m8_cost_at_the_api_server(mut w: World) -> anyhow::Result<()> {
    let api = cluster(&mut w, Mode::Up)?;
    w.start_reading().await?;
    for number in 0..300 {
        api.apply(&pod("web", &[("number", &number.to_string())]));
    }
    let log = w.pod("web")?;
    while labelled(&w, &log, "number").await?.as_deref() != Some("299") {}
    let (lists, watches) = api.asked();
    ensure!((lists.len(), watches.len()) == (1, 1), "{lists:?} {watches:?}");
    let field = format!("spec.nodeName={NODE}");
    for request in lists.iter().chain(&watches) {
        ensure!(request.parameter("fieldSelector").as_ref() == Some(&field), "{request:?}");
    }
    ensure!(lists[0].parameter("resourceVersion").as_deref() == Some("0"), "{:?}", lists[0]);
    ensure!(api.others().is_empty(), "{:?}", api.others());
    w.finish().await
}
