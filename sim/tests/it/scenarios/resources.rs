//! O: little memory, little CPU, many pods, one that shouts.

use std::time::{Duration, Instant};

use anyhow::ensure;
use taffrail_sim::logtree::ContainerLog;
use taffrail_sim::sink::Mode;

use super::world::World;

/// Without a folder of its own it reads and sends as ever, and says what it cannot do.
pub(super) async fn o2_state_folder_read_only(mut w: World) -> anyhow::Result<()> {
    w.run_as_nobody()?;
    std::os::unix::fs::chown(w.path("state"), Some(0), Some(0))?;
    let log = w.pod("web")?;
    log.lines(20)?;
    w.start_reading().await?;
    ensure!(w.said().contains("nothing can be kept on this node"), "{}", w.said());
    w.sink.set(Mode::Refuse);
    log.lines(20)?;
    w.pace(3000).await;
    w.sink.set(Mode::Up);
    w.finish().await
}

pub(super) async fn o4_one_shouts_others_whisper(mut w: World) -> anyhow::Result<()> {
    let mut hot = w.pod("hot")?;
    hot.fill("x".repeat(1000));
    let quiet: Vec<ContainerLog> =
        (0..100).map(|n| w.pod(&format!("quiet-{n}"))).collect::<Result<_, _>>()?;
    w.start_reading().await?;
    let mut written = Vec::new();
    for _ in 0..10 {
        hot.lines(2000)?;
        let log = &quiet[written.len() % quiet.len()];
        let text = log.text("stdout");
        log.piece("stdout F", &text)?;
        written.push((Instant::now(), text));
        w.pace(200).await;
    }
    w.delivered().await?;
    let mut late: Vec<Duration> = w.sink.with(|kept| {
        let came = |text: &str| kept.lines.iter().find(|line| line.text == text).map(|l| l.came);
        written.iter().filter_map(|(at, text)| Some(came(text)?.duration_since(*at))).collect()
    });
    late.sort();
    println!("     O4: the quiet ones come after {:?} to {:?}", late[0], late[late.len() - 1]);
    ensure!(late.len() == 10 && late[9] < Duration::from_secs(10), "{late:?}");
    w.finish().await
}

pub(super) async fn o6_churn(mut w: World) -> anyhow::Result<()> {
    w.start_reading().await?;
    let mut resident = Vec::new();
    for wave in 0..6 {
        let logs: Vec<ContainerLog> =
            (0..300).map(|n| w.pod(&format!("w{wave}-{n}"))).collect::<Result<_, _>>()?;
        logs.iter().try_for_each(|log| log.lines(3))?;
        w.delivered().await?;
        logs.iter().try_for_each(ContainerLog::remove_pod)?;
        w.settled().await?;
        resident.push(w.agent()?.memory("VmRSS")? >> 20);
    }
    println!("     O6: {resident:?} MiB resident after waves of 300 pods");
    ensure!(resident[5] <= resident[1] + 8, "{resident:?} MiB");
    w.finish().await
}

/// A twentieth of a core: it may run for 10 ms, then not for 190.
pub(super) async fn o8_little_cpu(mut w: World) -> anyhow::Result<()> {
    let mut log = w.pod("web")?;
    log.fill("x".repeat(100));
    log.lines(10)?;
    w.start_reading().await?;
    log.lines(3000)?;
    for turn in 0..50 {
        w.freeze()?;
        w.pace(190).await;
        if turn % 10 == 5 {
            log.rotate()?;
        }
        log.lines(20)?;
        w.thaw()?;
        w.pace(10).await;
    }
    w.finish().await
}
