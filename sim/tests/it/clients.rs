//! Clients that others wrote work against the collector unchanged.
//!
//! The programs are fetched by `make test-tools`; where one is absent, its test says so loudly.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};
use taffrail_sim::process::{Process, free_address, wait_for};

use crate::stack::{Stack, workspace};

/// A program that `make test-tools` fetched, or one on the path.
pub(crate) fn tool(inside: &str, on_path: &str) -> Option<PathBuf> {
    let local = workspace().join("target/test-tools").join(inside);
    if local.is_file() {
        return Some(local);
    }
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|p| p.join(on_path)).find(|p| p.is_file());
    if found.is_none() || on_path.is_empty() {
        let mut stderr = std::io::stderr();
        let _ = writeln!(stderr, "SKIPPED: {inside} not found; `make test-tools` fetches it");
        return None;
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn opentelemetry_sdk_for_python() -> anyhow::Result<()> {
    let Some(python) = tool("python/bin/python", "") else { return Ok(()) };
    let stack = Stack::new()?;
    let mut collector = stack.start_collector().await?;
    let out = Command::new(python)
        .arg(workspace().join("sim/tests/it/otel_client.py"))
        .args([stack.client.base(), &format!("http://{}", stack.grpc)])
        .output()?;
    ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));

    for transport in ["http", "grpc"] {
        let query = format!(r#"{{service_name="checkout-{transport}"}}"#);
        let rows = stack.lines(&query).await?;
        let lines: Vec<&str> = rows.iter().filter_map(|r| r["line"].as_str()).collect();
        assert_eq!(lines, ["order placed", "payment failed"], "{transport}");
        assert_eq!(rows[1]["level"], "error", "{transport}");
        assert_eq!(rows[0]["metadata"]["order_id"], "o-1", "{transport}");
        assert_eq!(rows[0]["labels"]["k8s_pod_name"], "checkout-1", "{transport}");

        let query = format!(r#"orders_total{{job="shop/checkout-{transport}"}}"#);
        let series = stack.prom(&query).await?;
        assert_eq!(series.len(), 1, "{query}: {series:?}");
        assert_eq!(series[0].1, "3", "{transport}");
        assert_eq!(series[0].0["kind"], "card", "{transport}");
        let query = format!(
            r#"histogram_quantile(0.5, latency_seconds_bucket{{job="shop/checkout-{transport}"}})"#
        );
        let median: f64 = stack.prom(&query).await?.first().context("a median")?.1.parse()?;
        assert!((0.1..=0.25).contains(&median), "{transport}: {median}");
    }
    collector.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_scrapes_the_collector() -> anyhow::Result<()> {
    let Some(prometheus) = tool("prometheus/usr/bin/prometheus", "prometheus") else {
        return Ok(());
    };
    let stack = Stack::new()?;
    let mut collector = stack.start_collector().await?;
    let address = free_address()?;
    let config = stack.path("prometheus.yml");
    std::fs::write(
        &config,
        format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\nscrape_configs:\n- job_name: taffrail\n  static_configs: [{{targets: ['{}']}}]\n",
            stack.http
        ),
    )?;
    let mut prometheus = Process::start_program(
        &prometheus,
        "prometheus",
        &[
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", stack.path("prometheus").display()),
            format!("--web.listen-address={address}"),
        ],
        &stack.path("logs"),
    )?;
    prometheus.ready(&format!("http://{address}/-/ready")).await?;
    let client = taffrail_kit::http::Client::new(&format!("http://{address}"))?;
    let target = wait_for("a healthy target in Prometheus", async || {
        let answer = client.get("/api/v1/targets", &[]).await.ok()?;
        let answer: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
        let target = answer["data"]["activeTargets"][0].clone();
        let failed = target["lastError"].as_str().is_some_and(|error| !error.is_empty());
        (target["health"] == "up" || failed).then_some(target)
    })
    .await?;
    assert_eq!(target["health"], "up", "{target}");
    wait_for("the collector's metrics in Prometheus", async || {
        let answer = client.get("/api/v1/query?query=taffrail_build_info", &[]).await.ok()?;
        answer.text().contains("taffrail-collector").then_some(())
    })
    .await?;
    prometheus.stop().await?;
    collector.stop().await?;
    Ok(())
}
