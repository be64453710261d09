//! A metric that an app exposes comes out of PromQL, and an autoscaler can read it; once the app is
//! gone, nothing is made up.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, ensure};
use taffrail_sim::podlog::uid;
use taffrail_sim::process::wait_for;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::clients::tool;
use crate::stack::Stack;

/// Serves `/metrics` of an app; its counter goes up by ten with each scrape.
async fn app(listener: TcpListener) {
    let scrapes = Arc::new(AtomicU64::new(0));
    while let Ok((mut connection, _)) = listener.accept().await {
        let done = 10 * scrapes.fetch_add(1, Ordering::Relaxed);
        // A request of a scraper fits one read.
        let Ok(1..) = connection.read(&mut [0; 4096]).await else { continue };
        let body = format!(
            "# TYPE jobs_waiting gauge\njobs_waiting 7\n# TYPE jobs_done_total counter\njobs_done_total {done}\n"
        );
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        // A scraper that has gone shows in what the test waits for.
        let _sent = connection.write_all(answer.as_bytes()).await.is_ok();
    }
}

fn pod_list(port: u16) -> String {
    serde_json::json!({"apiVersion": "v1", "kind": "List", "items": [{
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "jobs-1", "namespace": "sim", "uid": uid("jobs-1"),
            "labels": {"app": "jobs"},
            "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": port.to_string()},
        },
        "spec": {"nodeName": "node-1", "containers": [{"name": "main", "image": "sim"}]},
        "status": {"phase": "Running", "podIP": "127.0.0.1"},
    }]})
    .to_string()
}

/// What the autoscaling API answers about a metric of the pods: status and document. The server's
/// certificate is checked against the CA that the collector made.
fn ask(stack: &Stack, metric: &str, selector: &str) -> anyhow::Result<(u16, serde_json::Value)> {
    let url = format!(
        "https://{}/apis/custom.metrics.k8s.io/v1beta2/namespaces/sim/pods/%2A/{metric}?labelSelector={selector}",
        stack.autoscale
    );
    let out = Command::new("curl")
        .args(["-sS", "--max-time", "10", "-w", "\n%{http_code}", "--cacert"])
        .arg(stack.path("collector/autoscale/ca.pem"))
        .arg(&url)
        .output()?;
    ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout)?;
    let (body, status) = text.rsplit_once('\n').context("a status")?;
    Ok((status.parse()?, serde_json::from_str(body).context(body.to_owned())?))
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_app_to_the_autoscaler() -> anyhow::Result<()> {
    if tool("curl", "curl").is_none() {
        return Ok(());
    }
    let stack = Stack::new()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    std::fs::create_dir_all(stack.path("pods"))?;
    std::fs::write(stack.path("pods.json"), pod_list(listener.local_addr()?.port()))?;
    let app = tokio::spawn(app(listener));
    let mut collector = stack.start_collector().await?;
    let mut agent = stack.start_agent_with(&["--scrape-interval", "200ms"])?;

    let waiting = wait_for("the gauge by PromQL", async || {
        stack.prom(r#"jobs_waiting{app="jobs"}"#).await.ok()?.pop()
    })
    .await
    .with_context(|| agent.log())?;
    assert_eq!(waiting.1, "7");
    assert_eq!((&waiting.0["namespace"], &waiting.0["pod"]), (&"sim".into(), &"jobs-1".into()));
    wait_for("the counter's rate", async || {
        let rate = stack.prom("sum by (pod) (rate(jobs_done_total[30s]))").await.ok()?.pop()?;
        (rate.1.parse::<f64>().ok()? > 0.0).then_some(())
    })
    .await?;

    let (status, answer) = ask(&stack, "jobs_waiting", "app%3Djobs")?;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["items"].as_array().map(Vec::len), Some(1), "{answer}");
    assert_eq!(answer["items"][0]["value"], "7", "{answer}");
    assert_eq!(answer["items"][0]["describedObject"]["name"], "jobs-1", "{answer}");
    let (status, answer) = ask(&stack, "jobs_done_per_second", "app%3Djobs")?;
    assert_eq!(status, 200, "{answer}");
    assert_ne!(answer["items"][0]["value"], "0", "{answer}");
    let (status, answer) = ask(&stack, "jobs_waiting", "app%3Dother")?;
    assert!(status == 404 || answer["items"] == serde_json::json!([]), "{status} {answer}");

    // The app is gone: the last value must not go on, and it must not become 0.
    app.abort();
    wait_for("the end of the gauge", async || {
        stack.prom("jobs_waiting").await.ok()?.is_empty().then_some(())
    })
    .await?;
    let (status, answer) = ask(&stack, "jobs_waiting", "app%3Djobs")?;
    assert!(status == 404 || answer["items"] == serde_json::json!([]), "{status} {answer}");
    assert!(agent.stop().await?.success(), "{}", agent.log());
    assert!(collector.stop().await?.success(), "{}", collector.log());
    Ok(())
}
