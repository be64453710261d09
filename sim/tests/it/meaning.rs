//! What lines mean, with the real binaries: from files of pods with annotations to the answers of
//! LogQL queries.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use taffrail_kit::clock;
use taffrail_sim::podlog::{cri_time, uid};
use taffrail_sim::process::{Process, wait_for};

use crate::stack::{Stack, workspace};

/// The languages whose traces lie with the agent's tests.
const LANGUAGES: [&str; 9] =
    ["java", "python", "go", "ruby", "node", "rust", "dotnet", "php", "dart"];

struct Pods<'a> {
    stack: &'a Stack,
    items: Vec<Value>,
}

impl<'a> Pods<'a> {
    fn new(stack: &'a Stack) -> Self {
        let team = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": "sim", "labels": {"team": "pier", "secret": "no"}}});
        Self { stack, items: vec![team] }
    }

    fn add(&mut self, name: &str, annotations: &Value) {
        self.items.push(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "sim", "uid": uid(name),
                "labels": {"app": name}, "annotations": annotations},
            "spec": {"nodeName": "node-1",
                "initContainers": [{"name": "setup", "image": "sim"}],
                "containers": [{"name": "main", "image": "sim"}]},
            "status": {"phase": "Running", "podIP": "127.0.0.1"},
        }));
        let list = json!({"apiVersion": "v1", "kind": "List", "items": self.items});
        // As a whole, or the agent might read the half of it.
        let path = self.stack.path("pods.json");
        fs::write(path.with_extension("new"), list.to_string()).expect("the folder is there");
        fs::rename(path.with_extension("new"), path).expect("on the same disk");
    }

    fn write(&self, pod: &str, container: &str, stream: &str, lines: &[&str]) {
        let folder =
            self.stack.path("pods").join(format!("sim_{pod}_{}", uid(pod))).join(container);
        fs::create_dir_all(&folder).expect("a folder");
        let file = fs::File::options().create(true).append(true).open(folder.join("0.log"));
        let time = clock::unix_nanos();
        let lines = lines.iter().zip(0..);
        let text: String =
            lines.map(|(l, n)| format!("{} {stream} F {l}\n", cri_time(time + n))).collect();
        file.expect("the log").write_all(text.as_bytes()).expect("room on the disk");
    }

    fn rotate(&self, pod: &str) {
        let folder = self.stack.path("pods").join(format!("sim_{pod}_{}", uid(pod))).join("main");
        fs::rename(folder.join("0.log"), folder.join("0.log.20261120-100000")).expect("a log");
    }
}

/// The rows of a query, once there are at least so many.
async fn rows(stack: &Stack, query: &str, count: usize) -> anyhow::Result<Vec<Value>> {
    let what = format!("{count} rows of {query}");
    let found =
        wait_for(&what, async || stack.lines(query).await.ok().filter(|rows| rows.len() >= count));
    match found.await {
        Ok(rows) => Ok(rows),
        Err(error) => {
            let there = stack.lines(query).await?;
            Err(error.context(format!("there are {there:?}")))
        }
    }
}

fn texts(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["line"].as_str().unwrap_or_default()).collect()
}

fn traces(language: &str) -> anyhow::Result<Vec<String>> {
    let path = workspace().join(format!("agent/testdata/traces/{language}.txt"));
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(text.trim_end().split("\n=====\n").map(str::to_owned).collect())
}

async fn agent(stack: &Stack, more: &[&str]) -> anyhow::Result<Process> {
    let mut agent = stack.start_agent_with(more)?;
    agent.ready(&format!("http://{}/readyz", stack.agent_http)).await?;
    Ok(agent)
}

async fn status(stack: &Stack) -> anyhow::Result<Value> {
    let client = taffrail_kit::http::Client::new(&format!("http://{}", stack.agent_http))?;
    Ok(serde_json::from_slice(&client.get("/status", &[]).await?.body)?)
}

/// One pod a language, each over a rotation and a SIGKILL: every trace is one record, once.
#[tokio::test(flavor = "multi_thread")]
async fn traces_are_one_record_through_rotation_and_death() -> anyhow::Result<()> {
    let stack = Stack::new()?;
    let _collector = stack.start_collector().await?;
    let mut pods = Pods::new(&stack);
    for language in LANGUAGES {
        pods.add(language, &json!({}));
    }
    let mut process = agent(&stack, &[]).await?;
    for language in LANGUAGES {
        for (number, trace) in traces(language)?.iter().enumerate() {
            let lines: Vec<&str> = trace.lines().collect();
            let (before, after) = lines.split_at(lines.len() / 2);
            pods.write(language, "main", "stdout", &["served"]);
            pods.write(language, "main", "stdout", before);
            if number == 1 {
                pods.rotate(language);
            }
            pods.write(language, "main", "stdout", after);
        }
        process.kill()?;
        process = agent(&stack, &[]).await?;
    }
    for language in LANGUAGES {
        let traces = traces(language)?;
        let expected: Vec<&str> = traces.iter().flat_map(|t| ["served", t.as_str()]).collect();
        let rows = rows(&stack, &format!(r#"{{app="{language}"}}"#), expected.len()).await?;
        ensure!(texts(&rows) == expected, "{language}: {:#?}", texts(&rows));
        let errors = rows.iter().filter(|r| r["line"] != "served" && r["level"] == "unknown");
        ensure!(errors.count() == 0, "{language}: {rows:#?}");
    }
    Ok(())
}

/// What annotations say holds, also when one of them is wrong.
#[tokio::test(flavor = "multi_thread")]
async fn annotations_hold() -> anyhow::Result<()> {
    let stack = Stack::new()?;
    let _collector = stack.start_collector().await?;
    let mut pods = Pods::new(&stack);
    pods.add("silent", &json!({"taffrail.dev/exclude": "true"}));
    pods.add("errors", &json!({"taffrail.dev/streams": "stderr", "taffrail.dev/parser": "xml"}));
    pods.add("own", &json!({"main.taffrail.dev/multiline": "start:^#"}));
    pods.add("loud", &json!({"taffrail.dev/rate-limit": "5/h"}));
    pods.add("many", &json!({"taffrail.dev/sample": "20%"}));
    pods.add("health", &json!({"taffrail.dev/redact": "healthcare"}));
    pods.add("last", &json!({}));
    let key = stack.path("key");
    fs::write(&key, "0123456789abcdef0123")?;
    let key = key.display().to_string();
    let settings = [
        "--redact-presets",
        "secrets,pci=hash",
        "--redact-key-file",
        &key,
        "--labels-namespace",
        "team",
    ];
    let _agent = agent(&stack, &settings).await?;
    pods.write("silent", "main", "stdout", &["nobody hears"]);
    pods.write("errors", "main", "stdout", &["out"]);
    pods.write("errors", "main", "stderr", &["err"]);
    pods.write("own", "main", "stdout", &["#1 first", "and more", "#2 second"]);
    pods.write("own", "setup", "stdout", &["level=warn trace_id=4bf92f3577b34da6a3ce929d0e0e4736"]);
    let many: Vec<String> = (0..500).map(|n| format!("line {n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    pods.write("loud", "main", "stdout", &many[..20]);
    pods.write("many", "main", "stdout", &many);
    pods.write(
        "health",
        "main",
        "stdout",
        &[
            "MRN 12345678 wrote from a@example.org",
            "password=hunter2 card 4111 1111 1111 1111",
            "card 4111111111111111",
        ],
    );
    pods.write("last", "main", "stdout", &["last"]);

    rows(&stack, r#"{app="last", namespace_team="pier"}"#, 1).await?;
    ensure!(texts(&rows(&stack, r#"{app="errors"}"#, 1).await?) == ["err"]);
    let own = rows(&stack, r#"{app="own", container="main"}"#, 2).await?;
    ensure!(texts(&own) == ["#1 first\nand more", "#2 second"], "{own:?}");
    let setup = rows(&stack, r#"{app="own", container="setup"}"#, 1).await?;
    ensure!(setup[0]["level"] == "warn", "{setup:?}");
    let metadata: BTreeMap<String, String> = serde_json::from_value(setup[0]["metadata"].clone())?;
    ensure!(metadata["container_kind"] == "init", "{setup:?}");
    ensure!(metadata["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736", "{setup:?}");
    let by_trace = r#"{app="own"} | trace_id="4bf92f3577b34da6a3ce929d0e0e4736""#;
    ensure!(rows(&stack, by_trace, 1).await?.len() == 1);
    ensure!(texts(&rows(&stack, r#"{app="loud"}"#, 5).await?) == many[..5]);
    let health = rows(&stack, r#"{app="health"}"#, 3).await?;
    let health = texts(&health);
    ensure!(health[0] == "MRN [mrn] wrote from [email]", "{health:?}");
    ensure!(health[1].starts_with("password=[password] card [card:"), "{health:?}");
    ensure!(health[1].ends_with(&health[2]["card ".len()..]), "the same card: {health:?}");
    let sample = rows(&stack, r#"{app="many"}"#, 50).await?;
    ensure!((50..200).contains(&sample.len()), "{}", sample.len());
    ensure!(stack.lines(r#"{app="silent"}"#).await?.is_empty());

    let status = status(&stack).await?;
    let problem = &status["annotation_problems"][0];
    ensure!(
        problem["pod"] == "sim/errors" && problem["annotation"] == "taffrail.dev/parser",
        "{status}"
    );
    Ok(())
}

/// What is dropped is told in the stream when the container has ended.
#[tokio::test(flavor = "multi_thread")]
async fn drops_are_told() -> anyhow::Result<()> {
    let stack = Stack::new()?;
    let _collector = stack.start_collector().await?;
    let mut pods = Pods::new(&stack);
    pods.add("loud", &json!({"taffrail.dev/rate-limit": "5/h"}));
    let _agent = agent(&stack, &[]).await?;
    pods.write("loud", "main", "stdout", &["x"; 20]);
    rows(&stack, r#"{app="loud"}"#, 5).await?;
    let folder = stack.path("pods").join(format!("sim_loud_{}", uid("loud"))).join("main");
    fs::write(folder.join("1.log"), "")?;
    let rows = rows(&stack, r#"{app="loud"} |= "taffrail: ""#, 1).await?;
    ensure!(texts(&rows) == ["taffrail: 15 records were dropped (rate limit 5/h)"], "{rows:?}");
    ensure!(rows[0]["metadata"]["taffrail_dropped_lines"] == "15", "{rows:?}");
    Ok(())
}
