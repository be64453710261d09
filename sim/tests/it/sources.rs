//! The agent's other sources, with the real binaries: files of the node, the journal, OTLP of pods,
//! an app beside which it runs, and volumes that are mounted and taken away.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use taffrail_kit::http::Client;
use taffrail_sim::process::{Process, binary, free_address, wait_for};

use crate::stack::Stack;

/// Waits until just these lines are found, in any order.
async fn expect(
    stack: &Stack,
    query: &str,
    lines: &[&str],
) -> anyhow::Result<Vec<serde_json::Value>> {
    let mut expected: Vec<&str> = lines.to_vec();
    expected.sort_unstable();
    let mut last = Vec::new();
    let found = wait_for(&format!("the lines of {query}"), async || {
        last = stack.lines(query).await.ok()?;
        (last.len() >= expected.len()).then(|| last.clone())
    })
    .await;
    let rows = found.with_context(|| format!("{last:?}"))?;
    let mut texts: Vec<&str> = rows.iter().filter_map(|row| row["line"].as_str()).collect();
    texts.sort_unstable();
    ensure!(texts == expected, "{texts:?} are not {expected:?}");
    Ok(rows)
}

fn append(path: &Path, text: &str) -> std::io::Result<()> {
    fs::File::options().create(true).append(true).open(path)?.write_all(text.as_bytes())
}

fn no_pods(stack: &Stack) -> std::io::Result<()> {
    fs::create_dir_all(stack.path("pods"))?;
    fs::write(stack.path("pods.json"), r#"{"kind":"List","items":[]}"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_the_node_through_rotation_and_kills() -> anyhow::Result<()> {
    let stack = Stack::new()?;
    no_pods(&stack)?;
    let logs = stack.path("var-log");
    fs::create_dir(&logs)?;
    let settings = format!(
        "files:\n- {{path: \"{0}/*.log\", exclude: debug*, labels: {{team: platform}}}}\n",
        logs.display()
    );
    let file = stack.path("agent.yaml");
    fs::write(&file, settings)?;
    let config = file.display().to_string();
    let mut collector = stack.start_collector().await?;
    let mut agent = stack.start_agent_with(&["--config", &config])?;
    let query = r#"{job="files", team="platform", app="audit"}"#;
    append(&logs.join("debug.log"), "not this\n")?;
    append(&logs.join("audit.log"), "1\n2\n")?;
    expect(&stack, query, &["1", "2"]).await?;
    agent.kill()?;
    // logrotate with dateext and create, while the agent is down.
    append(&logs.join("audit.log"), "3\n")?;
    fs::rename(logs.join("audit.log"), logs.join("audit.log-20261120"))?;
    append(&logs.join("audit.log"), "4\n")?;
    agent = stack.start_agent_with(&["--config", &config])?;
    expect(&stack, query, &["1", "2", "3", "4"]).await?;
    // copytruncate, while it runs.
    fs::copy(logs.join("audit.log"), logs.join("audit.log.1"))?;
    fs::File::options().write(true).open(logs.join("audit.log"))?.set_len(0)?;
    append(&logs.join("audit.log"), "5 five\n")?;
    let rows = expect(&stack, query, &["1", "2", "3", "4", "5 five"]).await?;
    let labels = &rows[0]["labels"];
    let path = logs.join("audit.log").display().to_string();
    assert_eq!(labels["filename"].as_str(), Some(&*path), "{labels}");
    assert_eq!(labels["node"].as_str(), Some("node-1"), "{labels}");
    let all = stack.lines(r#"{job="files"}"#).await?;
    assert_eq!(all.len(), 5, "{all:?}");
    assert!(agent.stop().await?.success());
    collector.stop().await?;
    Ok(())
}

/// Stands in for journalctl: prints the entries of its folder from the cursor on, and follows.
const JOURNALCTL: &str = r#"#!/bin/sh
for argument; do case "$argument" in
  --directory=*) folder="${argument#--directory=}";;
  --cursor=*) from="${argument#*;i=}"; from=$((0x${from%%;*}));;
esac; done
number=${from:-1}
while [ -d "$folder" ]; do
  if [ -e "$folder/$number" ]; then cat "$folder/$number" || exit; number=$((number + 1))
  else sleep 0.05; fi
done
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_once_through_kills_of_both() -> anyhow::Result<()> {
    let stack = Stack::new()?;
    no_pods(&stack)?;
    let folder = stack.path("journal");
    fs::create_dir(&folder)?;
    let program = stack.path("journalctl");
    fs::write(&program, JOURNALCTL)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let write = |number: u64| -> anyhow::Result<()> {
        let time = 1_795_186_292_000_000 + number;
        let message = format!("m{number}\nsecond");
        let mut entry = format!(
            "__CURSOR=s=abc;i={number:x};b=1\n__REALTIME_TIMESTAMP={time}\nPRIORITY=3\n\
             _SYSTEMD_UNIT=kubelet.service\nMESSAGE\n"
        )
        .into_bytes();
        entry.extend((message.len() as u64).to_le_bytes());
        entry.extend(message.as_bytes());
        entry.extend(b"\n\n");
        fs::write(folder.join("part"), entry)?;
        Ok(fs::rename(folder.join("part"), folder.join(number.to_string()))?)
    };
    let arguments = [
        "--journal-path",
        &folder.display().to_string(),
        "--journal-command",
        &program.display().to_string(),
    ];
    let mut collector = stack.start_collector().await?;
    let mut agent = stack.start_agent_with(&arguments)?;
    let query = r#"{job="journal", unit="kubelet.service"}"#;
    let mut expected = Vec::new();
    for round in 0..6 {
        for number in round * 50 + 1..=round * 50 + 50 {
            write(number)?;
            expected.push(format!("m{number}\nsecond"));
            if number % 50 == 25 && round % 2 == 0 {
                agent.kill()?;
                agent = stack.start_agent_with(&arguments)?;
            } else if number % 50 == 25 {
                collector.kill()?;
                collector = stack.start_collector().await?;
            }
        }
        let texts: Vec<&str> = expected.iter().map(String::as_str).collect();
        expect(&stack, query, &texts).await.with_context(|| agent.log())?;
    }
    let errors = stack.lines(r#"{job="journal"} | detected_level="error""#).await?;
    assert_eq!(errors.len(), expected.len(), "priorities are levels");
    assert!(agent.stop().await?.success(), "{}", agent.log());
    collector.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn otlp_of_a_pod_is_labelled_by_its_address() -> anyhow::Result<()> {
    let stack = Stack::new()?;
    fs::create_dir_all(stack.path("pods"))?;
    let pods = serde_json::json!({"kind": "List", "items": [{
        "metadata": {"uid": "u", "name": "web-0", "namespace": "shop", "labels": {"app": "web", "tier": "front"}},
        "spec": {"nodeName": "node-1", "containers": [{"name": "main"}]},
        "status": {"phase": "Running", "podIP": "127.0.0.1"},
    }]});
    fs::write(stack.path("pods.json"), pods.to_string())?;
    let address = free_address()?.to_string();
    let mut agent = stack.start_agent_with(&["--otlp-http", &address])?;
    agent.ready(&format!("http://{}/readyz", stack.agent_http)).await?;
    let client = Client::new(&format!("http://{address}"))?;
    let json = [("content-type", "application/json")];
    let line = serde_json::json!({"resourceLogs": [{
        "resource": {"attributes": [
            {"key": "k8s.namespace.name", "value": {"stringValue": "bank"}},
            {"key": "k8s.pod.name", "value": {"stringValue": "vault"}},
        ]},
        "scopeLogs": [{"logRecords": [{"body": {"stringValue": "through the agent"}}]}],
    }]})
    .to_string();
    // Nobody behind it: no 2xx, and worth another attempt.
    let answer = client.post("/v1/logs", &json, line.clone().into()).await?;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, Some("5")));
    let mut collector = stack.start_collector().await?;
    let answer = client.post("/v1/logs", &json, line.into()).await?;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "{}".to_owned()));
    let rows = stack.lines(r#"{namespace="shop", pod="web-0", container="main"}"#).await?;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["line"], "through the agent");
    assert!(rows[0].to_string().contains("k8s_pod_label_tier"), "{}", rows[0]);
    assert!(stack.lines(r#"{namespace="bank"}"#).await?.is_empty(), "nobody speaks for others");
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_nanos().to_string();
    let metric = serde_json::json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [
        {"name": "knots", "gauge": {"dataPoints": [{"timeUnixNano": now, "asDouble": 5.0}]}},
    ]}]}]});
    let answer = client.post("/v1/metrics", &json, metric.to_string().into()).await?;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
    let found = stack.prom(r#"knots{namespace="shop",pod="web-0"}"#).await?;
    assert_eq!(found.len(), 1, "{found:?}");
    let traces = client.post("/v1/traces", &json, "{}".into()).await?;
    assert_eq!(traces.status.as_u16(), 501);
    agent.stop().await?;
    collector.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_an_app_until_that_has_ended() -> anyhow::Result<()> {
    let stack = Stack::new()?;
    let (logs, info) = (stack.path("logs-of-app"), stack.path("podinfo"));
    fs::create_dir(&logs)?;
    fs::create_dir(&info)?;
    fs::write(info.join("labels"), "app=\"web\"\n")?;
    fs::write(info.join("name"), "web-0")?;
    fs::write(info.join("namespace"), "shop")?;
    let mut collector = stack.start_collector().await?;
    let start = |more: &[&str]| {
        let mut arguments: Vec<String> = [
            ("--collector", stack.client.base().to_owned()),
            ("--state-dir", stack.path("sidecar").display().to_string()),
            ("--node", "node-1".to_owned()),
            ("--sidecar-files", format!("{}/**/*.log", logs.display())),
            ("--sidecar-podinfo", info.display().to_string()),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect();
        arguments.extend(more.iter().map(|&a| a.to_owned()));
        Process::start("taffrail-agent", &arguments, &stack.path("logs"))
    };
    let query = r#"{namespace="shop", pod="web-0", app="web"}"#;
    // A job that leaves a file behind: the sidecar ends by itself, the last words delivered.
    let done = stack.path("done").display().to_string();
    let mut sidecar = start(&["--sidecar-done-file", &done])?;
    append(&logs.join("a.log"), "1\n")?;
    expect(&stack, query, &["1"]).await?;
    append(&logs.join("a.log"), "2\nlast words")?;
    append(&logs.join("b.log"), "3\n")?;
    fs::write(&done, "")?;
    assert!(sidecar.ended().await?.success(), "{}", sidecar.log());
    expect(&stack, query, &["1", "2", "3", "last words"]).await?;
    // A server that is told to end.
    let mut sidecar = start(&[])?;
    append(&logs.join("c.log"), "4\n")?;
    expect(&stack, query, &["1", "2", "3", "4", "last words"]).await?;
    append(&logs.join("c.log"), "5\nbye")?;
    assert!(sidecar.stop().await?.success(), "{}", sidecar.log());
    expect(&stack, query, &["1", "2", "3", "4", "5", "bye", "last words"]).await?;
    collector.stop().await?;
    Ok(())
}

/// Runs commands in a mount namespace of their own; `None` where that is not allowed.
fn in_own_mounts(script: &str) -> anyhow::Result<Option<std::process::Child>> {
    let allowed = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "mount", "-t", "tmpfs", "tmpfs", "/mnt"])
        .stderr(Stdio::null())
        .status();
    if !allowed.is_ok_and(|status| status.success()) {
        let _ = writeln!(std::io::stderr(), "SKIPPED: mounts of its own are not to be had here");
        return Ok(None);
    }
    let child = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-ec", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    Ok(Some(child))
}

fn pod_with_claim(ending: bool) -> String {
    let mut pod = serde_json::json!({
        "metadata": {"uid": "u", "name": "db-0", "namespace": "shop", "labels": {"app": "db"},
            "annotations": {"taffrail.dev/log-volumes": "data:/**/*.log"}},
        "spec": {"nodeName": "node-1", "containers": [{"name": "db"}],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data-db-0"}}]},
        "status": {"phase": "Running"},
    });
    if ending {
        pod["metadata"]["deletionTimestamp"] = "2026-11-20T10:00:00Z".into();
    }
    serde_json::json!({"kind": "List", "items": [pod]}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mounted_volume_is_read_and_can_be_unmounted() -> anyhow::Result<()> {
    let stack = Stack::new()?;
    no_pods(&stack)?;
    fs::write(stack.path("pods.json"), pod_with_claim(false))?;
    let mount: PathBuf = stack.path("kubelet/pods/u/volumes/kubernetes.io~csi/pv-1/mount");
    fs::create_dir_all(&mount)?;
    let mut arguments = stack.agent_args();
    arguments.extend(["--kubelet-root".to_owned(), stack.path("kubelet").display().to_string()]);
    let words = |all: &[String]| all.iter().map(|a| format!("'{a}'")).collect::<Vec<_>>().join(" ");
    let mark = |name: &str| format!("'{}'", stack.path(name).display());
    // The agent has started before the volume is mounted; it is unmounted while lines still come.
    let script = format!(
        "'{agent}' {arguments} >{log} 2>&1 &\n\
         agent=$!\n\
         until_there() {{ while [ ! -e \"$1\" ]; do \
           [ -d {folder} ] || {{ kill $agent; exit 1; }}; sleep 0.05; done; }}\n\
         mount -t tmpfs tmpfs '{mount}'\n\
         printf '1\\n2\\n' >'{mount}/a.log'\n\
         until_there {seen}\n\
         printf '3\\nlast' >>'{mount}/a.log'\n\
         until_there {go}\n\
         tries=0\n\
         until umount '{mount}' 2>/dev/null; do tries=$((tries + 1)); \
           if [ $tries -gt 100 ]; then echo busy >{result}; break; fi; sleep 0.05; done\n\
         [ -e {result} ] || echo free >{result}\n\
         until_there {over}\n\
         kill $agent; wait $agent || true\n",
        agent = binary("taffrail-agent")?.display(),
        arguments = words(&arguments),
        folder = mark(""),
        log = mark("agent.log"),
        mount = mount.display(),
        seen = mark("seen"),
        go = mark("go"),
        result = mark("result"),
        over = mark("over"),
    );
    let mut collector = stack.start_collector().await?;
    let Some(mut child) = in_own_mounts(&script)? else { return Ok(()) };
    let query = r#"{namespace="shop", pod="db-0", volume="data"}"#;
    expect(&stack, query, &["1", "2"]).await?;
    fs::write(stack.path("seen"), "")?;
    expect(&stack, query, &["1", "2", "3"]).await?;
    fs::write(stack.path("pods.json"), pod_with_claim(true))?;
    // The list is looked at every two seconds; the kubelet, too, unmounts after the pod has ended.
    wait_for("the volume to be lent", async || {
        let status = stack_status(&stack).await?;
        let files = status["files"].as_array()?;
        files.iter().any(|f| f["open"] == true && f["position"].as_u64() > Some(5)).then_some(())
    })
    .await?;
    fs::write(stack.path("go"), "")?;
    let result = wait_for("the end of the mount", async || {
        fs::read_to_string(stack.path("result")).ok().filter(|r| !r.is_empty())
    })
    .await?;
    assert_eq!(result.trim(), "free", "{}", fs::read_to_string(stack.path("agent.log"))?);
    expect(&stack, query, &["1", "2", "3", "last"]).await?;
    fs::write(stack.path("over"), "")?;
    assert!(child.wait()?.success());
    collector.stop().await?;
    Ok(())
}

async fn stack_status(stack: &Stack) -> Option<serde_json::Value> {
    let client = Client::new(&format!("http://{}", stack.agent_http)).ok()?;
    serde_json::from_slice(&client.get("/status", &[]).await.ok()?.body).ok()
}
