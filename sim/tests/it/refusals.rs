//! What the binaries say when they cannot start: one clear text, exit code 1, nothing touched.

use std::net::TcpListener;

use anyhow::ensure;
use taffrail_sim::process::Process;

use crate::stack::Stack;

/// Starts a collector that must not come up; what it says.
async fn refused(stack: &Stack, arguments: &[String]) -> anyhow::Result<String> {
    let mut process = Process::start("taffrail-collector", arguments, &stack.path("logs"))?;
    let status = process.ended().await?;
    let said = process.log();
    ensure!(status.code() == Some(1), "{status}: {said}");
    ensure!(!said.contains("panicked"), "{said}");
    Ok(said)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use() -> anyhow::Result<()> {
    let stack = Stack::new()?;
    let _holder = TcpListener::bind(stack.http)?;
    let said = refused(&stack, &stack.collector_args()).await?;
    ensure!(said.contains(&stack.http.to_string()) && said.contains("in use"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_in_use_or_of_another_version() -> anyhow::Result<()> {
    let stack = Stack::new()?;
    let mut collector = stack.start_collector().await?;
    let mut other = Stack::new()?.collector_args();
    other[1] = stack.path("collector").display().to_string();
    let said = refused(&stack, &other).await?;
    ensure!(said.contains("another") && said.contains("collector"), "{said}");
    collector.stop().await?;

    // A store that a later Taffrail wrote.
    let manifest = stack.path("collector/logs/manifest.json");
    let text = std::fs::read_to_string(&manifest)?;
    let (json, _checksum) = text.split_once('\n').unwrap_or((&text, ""));
    let mut value: serde_json::Value = serde_json::from_str(json)?;
    value["format"] = 999.into();
    let json = value.to_string();
    let later = format!("{json}\ncrc32 {:08x}\n", crc32fast::hash(json.as_bytes()));
    std::fs::write(&manifest, &later)?;
    let said = refused(&stack, &stack.collector_args()).await?;
    ensure!(said.contains("format 999") && said.contains("version"), "{said}");
    assert_eq!(std::fs::read_to_string(&manifest)?, later, "it was touched");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_with_unknown_keys_says_all_problems_with_their_places() -> anyhow::Result<()> {
    let stack = Stack::new()?;
    let config = stack.path("config.yaml");
    std::fs::write(
        &config,
        "htpp: 127.0.0.1:1\nlog:\n  filter: info\n  colour: red\nhttp: nowhere\n",
    )?;
    for (program, mut arguments) in
        [("taffrail-collector", stack.collector_args()), ("taffrail-agent", stack.agent_args())]
    {
        // Without --http the file's own value counts.
        let at = arguments.iter().position(|a| a == "--http").expect("it is there");
        arguments.drain(at..at + 2);
        arguments.extend(["--config".to_owned(), config.display().to_string()]);
        let mut process = Process::start(program, &arguments, &stack.path("logs"))?;
        let status = process.ended().await?;
        let said = process.log();
        assert_eq!(status.code(), Some(1), "{program}: {said}");
        for part in [
            "config.yaml:1:1: unknown key \"htpp\"",
            "config.yaml:4:3: unknown key \"log.colour\"",
            "config.yaml:5:7: \"nowhere\" is not an address",
        ] {
            assert!(said.contains(part), "{program}: {part} in {said}");
        }
    }
    Ok(())
}
