//! What is known of pods outlives the agent: a pod that went while the agent was away, and a restart
//! while the API does not answer, change neither labels nor what is taken out of lines.

use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use taffrail_kit::http::Client;
use taffrail_sim::kubeapi::{KubeApi, Mode};
use taffrail_sim::podlog::uid;
use taffrail_sim::process::{Process, wait_for};

use crate::stack::Stack;

/// A pod whose e-mail addresses are taken out.
fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "sim", "uid": uid(name),
            "labels": {"app": name, "team": "ward"},
            "annotations": {"taffrail.dev/redact": "email"}},
        "spec": {"nodeName": "node-1", "containers": [{"name": "main", "image": "sim"}]},
        "status": {"phase": "Running", "podIP": "127.0.0.1"},
    })
}

/// An agent that asks this API for its pods.
fn start(stack: &Stack, api: &KubeApi) -> anyhow::Result<Process> {
    let kubeconfig = stack.path("kubeconfig.json");
    std::fs::write(&kubeconfig, api.kubeconfig())?;
    let mut arguments = stack.agent_args();
    let at = arguments.iter().position(|a| a == "--pods-file").context("a flag")?;
    arguments[at] = "--kubeconfig".to_owned();
    arguments[at + 1] = kubeconfig.display().to_string();
    Process::start("taffrail-agent", &arguments, &stack.path("logs"))
}

async fn status(own: &Client) -> Option<Value> {
    let answer = own.get("/status.json?limit=0", &[]).await.ok()?;
    serde_json::from_slice(&answer.body).ok()
}

/// The texts of the pods' lines with the labels that only the API tells, once there are so many.
async fn texts(stack: &Stack, count: usize) -> anyhow::Result<Vec<String>> {
    let what = format!("{count} lines");
    let rows = wait_for(&what, async || {
        let rows = stack.lines(r#"{team="ward", namespace="sim"}"#).await.ok()?;
        (rows.len() >= count).then_some(rows)
    });
    let text = |row: &Value| row["line"].as_str().unwrap_or_default().to_owned();
    Ok(rows.await?.iter().map(text).collect())
}

async fn until_written(path: &Path, pod: &str) -> anyhow::Result<()> {
    let known = async || std::fs::read_to_string(path).ok()?.contains(pod).then_some(());
    wait_for("the file of pods", known).await
}

/// Runs an agent, kills it, lets `away` happen and a line be written, and starts another one.
async fn line_of_the_time_away(away: impl FnOnce(&KubeApi)) -> anyhow::Result<()> {
    let stack = Stack::new()?;
    let _collector = stack.start_collector().await?;
    let api = KubeApi::start(Mode::Up)?;
    api.apply(&pod("web"));
    stack.write_line("web", "first of a@example.org")?;
    let mut agent = start(&stack, &api)?;
    let found = texts(&stack, 1).await.with_context(|| agent.log())?;
    assert_eq!(found, ["first of [email]"]);
    until_written(&stack.path("agent/pods"), &uid("web")).await?;
    agent.kill()?;

    away(&api);
    stack.write_line("web", "second of b@example.org")?;
    let mut agent = start(&stack, &api)?;
    let found = texts(&stack, 2).await.with_context(|| agent.log())?;
    assert_eq!(found, ["first of [email]", "second of [email]"]);
    let all = stack.lines(r#"{namespace="sim"}"#).await?;
    assert_eq!(all.len(), 2, "no line went without its labels: {all:?}");
    ensure!(agent.stop().await?.success(), "{}", agent.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_went_while_the_agent_was_away_is_known() -> anyhow::Result<()> {
    line_of_the_time_away(|api| api.delete(&uid("web"))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_known_when_the_api_does_not_answer_after_a_restart() -> anyhow::Result<()> {
    line_of_the_time_away(|api| api.set(Mode::Refuse)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_is_back_is_no_problem_any_more() -> anyhow::Result<()> {
    let stack = Stack::new()?;
    let api = KubeApi::start(Mode::Up)?;
    api.apply(&pod("web"));
    let mut agent = start(&stack, &api)?;
    let own = Client::new(&format!("http://{}", stack.agent_http))?;
    // Empty when there is none.
    let problem = async || {
        let pods = status(&own).await?["pods"].clone();
        let text = pods["problem"].as_str().unwrap_or_default().to_owned();
        (pods["synced"] == true).then_some(text)
    };
    let told = async |part: &str| {
        let told = wait_for(part, async || problem().await.filter(|text| text.contains(part)));
        told.await.with_context(|| agent.log())
    };
    let none = async || {
        let none = wait_for("no problem", async || problem().await.filter(String::is_empty));
        none.await.with_context(|| agent.log())
    };
    none().await?;
    api.set(Mode::Refuse);
    told("refused").await?;
    api.set(Mode::Status(403));
    told("as told").await?;
    // No pod changes: that the watch goes on is all that there is to see.
    api.set(Mode::Up);
    none().await?;
    ensure!(agent.stop().await?.success(), "{}", agent.log());
    Ok(())
}
