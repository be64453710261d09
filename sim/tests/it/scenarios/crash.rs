//! C: the agent is killed, stopped, started; its folder is not what it was.

use std::time::{Duration, Instant};

use anyhow::ensure;
use taffrail_sim::process::wait_for;
use taffrail_sim::rng::Rng;
use taffrail_sim::sink::Mode;

use super::world::World;

pub(super) async fn c1_killed_after_delivery(mut w: World) -> anyhow::Result<()> {
    let log = w.pod("web")?;
    log.lines(2000)?;
    w.start_reading().await?;
    w.delivered().await?;
    w.pace(200).await;
    w.kill()?;
    log.lines(500)?;
    w.finish().await
}

pub(super) async fn c2_killed_with_full_buffers(mut w: World) -> anyhow::Result<()> {
    let log = w.pod("web")?;
    log.lines(100)?;
    w.start_reading().await?;
    w.delivered().await?;
    w.sink.set(Mode::Status(503));
    log.lines(5000)?;
    let tried = w.sink.with(|kept| kept.requests.len());
    w.until("attempts", |sink| sink.with(|kept| kept.requests.len() > tried + 2)).await?;
    w.kill()?;
    w.sink.set(Mode::Up);
    log.lines(100)?;
    w.finish().await
}

/// Four nodes, each with agents that are killed one after the other.
pub(super) async fn c3_two_hundred_kills(w: World) -> anyhow::Result<()> {
    let nodes = [w, World::new()?, World::new()?, World::new()?];
    let [a, b, c, d] = nodes.map(|node| killed(node, 50));
    let (a, b, c, d) = tokio::try_join!(a, b, c, d)?;
    let alive = a + b + c + d;
    println!("     C3: {alive} of 200 agents delivered something before they were killed");
    ensure!(alive > 50, "only {alive} of 200 lived long enough to deliver");
    Ok(())
}

/// How many of the agents delivered something before they were killed.
async fn killed(mut w: World, kills: u32) -> anyhow::Result<u32> {
    let mut rng = Rng::new(u64::from(w.sink.port()));
    let mut logs = [w.pod("web")?, w.pod("api")?, w.pod("db")?];
    let mut alive = 0;
    for _ in 0..kills {
        let before = w.sink.with(|kept| kept.lines.len());
        w.start()?;
        // Every other one lives long enough for a batch.
        let steps = if rng.below(2) == 0 { rng.below(4) } else { 8 + rng.below(10) };
        for _ in 0..steps {
            let log = &mut logs[usize::try_from(rng.below(3))?];
            log.lines(usize::try_from(rng.below(40))?)?;
            match rng.below(20) {
                0 => {
                    log.piece("stdout P", "in two pieces: ")?;
                    w.pace(rng.below(60)).await;
                    let text = log.text("stdout");
                    log.piece("stdout F", &text)?;
                }
                1 => {
                    log.rotate()?;
                }
                2 => w.sink.next([Mode::ResetAfterStore]),
                _ => {}
            }
            w.pace(10 + rng.below(90)).await;
        }
        w.kill()?;
        alive += u32::from(w.sink.with(|kept| kept.lines.len()) > before);
    }
    w.finish().await?;
    Ok(alive)
}

pub(super) async fn c7_state_folder_deleted(mut w: World) -> anyhow::Result<()> {
    let log = w.pod("web")?;
    log.lines(20)?;
    w.start_reading().await?;
    std::fs::remove_dir_all(w.path("state"))?;
    log.lines(20)?;
    w.sink.set(Mode::Status(503));
    log.lines(20)?;
    w.pace(1000).await;
    w.sink.set(Mode::Up);
    w.finish().await
}

/// A damaged spool costs what is damaged, never the start.
pub(super) async fn c6_damaged_spool(mut w: World) -> anyhow::Result<()> {
    let mut log = w.pod("web")?;
    log.lines(10)?;
    w.start_reading().await?;
    w.sink.set(Mode::Refuse);
    log.fill("x".repeat(200));
    for _ in 0..3 {
        log.lines(2000)?;
        let rotated = log.rotate()?;
        w.until_file(&rotated, |file| file["lag"] == 0).await?;
    }
    w.until_safe(|path| !path.ends_with(".log")).await?;
    w.kill()?;
    for (number, path) in files(&w.path("state/spool"))?.into_iter().enumerate() {
        let mut bytes = std::fs::read(&path)?;
        match number % 2 {
            0 => bytes.truncate(bytes.len() - bytes.len().min(7)),
            _ => bytes.iter_mut().skip(100).step_by(50).for_each(|byte| *byte = !*byte),
        }
        std::fs::write(&path, bytes)?;
    }
    w.sink.set(Mode::Up);
    // The log's own files are all there: what the spool lost is read again.
    w.finish().await
}

fn files(folder: &std::path::Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if std::fs::metadata(&path)?.len() > 0 {
            found.push(path);
        }
    }
    Ok(found)
}

/// As in an update in which the new agent starts before the old one has ended.
pub(super) async fn c8_two_agents_one_folder(mut w: World) -> anyhow::Result<()> {
    let log = w.pod("web")?;
    log.lines(20)?;
    w.start_reading().await?;
    let mut first = w.take_agent()?;
    let said = w.said().len();
    w.http_elsewhere()?;
    w.start()?;
    log.lines(20)?;
    wait_for("a word of the second", async || {
        w.said()[said..].contains("in use by process").then_some(())
    })
    .await?;
    log.lines(20)?;
    ensure!(first.stop().await?.success(), "{}", first.log());
    let start = Instant::now();
    w.probe().await?;
    println!("     C8: the second delivers {:?} after the end of the first", start.elapsed());
    ensure!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    w.finish().await
}

pub(super) async fn c9_ends_in_time_with_a_backlog(mut w: World) -> anyhow::Result<()> {
    let mut log = w.pod("web")?;
    log.fill("x".repeat(1000));
    for _ in 0..20 {
        log.lines(1000)?;
    }
    w.sink.set(Mode::Slow(Duration::from_millis(200)));
    w.start()?;
    w.until("the first lines", |sink| !sink.with(|kept| kept.lines.is_empty())).await?;
    let start = Instant::now();
    w.stop().await?;
    let took = start.elapsed();
    ensure!(took < Duration::from_secs(20), "the end took {took:?}");
    w.sink.set(Mode::Up);
    w.finish().await
}

pub(super) async fn c10_stop_write_start(mut w: World) -> anyhow::Result<()> {
    let log = w.pod("web")?;
    log.lines(50)?;
    w.start_reading().await?;
    w.delivered().await?;
    w.stop().await?;
    log.lines(55)?;
    w.finish().await
}
