//! R: files are renamed, compressed and removed while they are read, or while nobody reads.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt};

use anyhow::ensure;
use taffrail_sim::logtree::{append, compress};
use taffrail_sim::sink::Mode;

use super::world::World;

pub(super) async fn r1_rename_create(mut w: World) -> anyhow::Result<()> {
    let mut log = w.pod("web")?;
    log.lines(1)?;
    w.start_reading().await?;
    for _ in 0..5 {
        log.lines(200)?;
        log.rotate()?;
        log.lines(200)?;
        w.pace(1000).await;
    }
    w.finish().await
}

pub(super) async fn r2_two_rotations_between_looks(mut w: World) -> anyhow::Result<()> {
    let mut log = w.pod("web")?;
    log.lines(1)?;
    w.start_reading().await?;
    for _ in 0..2 {
        log.lines(50)?;
        log.rotate()?;
    }
    log.lines(50)?;
    w.finish().await
}

pub(super) async fn r3_compressed_while_the_sink_is_away(mut w: World) -> anyhow::Result<()> {
    let mut log = w.pod("web")?;
    log.lines(10)?;
    w.start_reading().await?;
    w.sink.set(Mode::Refuse);
    log.fill("x".repeat(150));
    for _ in 0..4 {
        log.lines(5000)?;
        log.rotate_like_kubelet(5)?;
        w.pace(1000).await;
    }
    log.lines(10)?;
    w.sink.set(Mode::Up);
    w.finish().await
}

pub(super) async fn r4_burst_rotated_at_once(mut w: World) -> anyhow::Result<()> {
    let mut log = w.pod("web")?;
    log.lines(1)?;
    w.start_reading().await?;
    log.fill("x".repeat(1000));
    for _ in 0..20 {
        log.lines(1000)?;
    }
    let rotated = log.rotate()?;
    w.pace(1000).await;
    compress(&rotated)?;
    log.lines(5)?;
    w.delivered().await?;
    let peak = w.agent()?.memory("VmHWM")?;
    ensure!(peak < 100 << 20, "{} MiB at its peak", peak >> 20);
    w.finish().await
}

pub(super) async fn r5_rotated_while_down(mut w: World) -> anyhow::Result<()> {
    let mut log = w.pod("web")?;
    log.lines(100)?;
    w.start_reading().await?;
    w.delivered().await?;
    w.stop().await?;
    log.lines(100)?;
    log.rotate()?;
    log.lines(100)?;
    w.finish().await
}

pub(super) async fn r6_two_rotations_while_down(mut w: World) -> anyhow::Result<()> {
    let mut log = w.pod("web")?;
    log.lines(100)?;
    w.start_reading().await?;
    w.delivered().await?;
    w.stop().await?;
    log.lines(100)?;
    let first = log.rotate()?;
    log.lines(100)?;
    log.rotate()?;
    compress(&first)?;
    log.lines(100)?;
    w.finish().await
}

pub(super) async fn r7_pieces_across_a_rotation(mut w: World) -> anyhow::Result<()> {
    let mut log = w.pod("web")?;
    log.lines(1)?;
    w.start_reading().await?;
    let text = log.text("stdout");
    log.piece("stdout P", "first half, ")?;
    w.pace(700).await;
    log.rotate()?;
    w.pace(700).await;
    log.piece("stdout F", &text)?;
    w.delivered().await?;
    ensure!(w.sink.texts().contains(&format!("first half, {text}")), "{:?}", w.sink.texts());
    w.finish().await
}

pub(super) async fn r8_renamed_and_back(mut w: World) -> anyhow::Result<()> {
    let mut log = w.pod("web")?;
    log.lines(50)?;
    w.start_reading().await?;
    let rotated = log.rename()?;
    append(&rotated, &log.some_lines(50))?;
    w.pace(1500).await;
    append(&rotated, &log.some_lines(50))?;
    std::fs::rename(&rotated, log.live())?;
    log.lines(50)?;
    w.finish().await
}

pub(super) async fn r9_writer_stays_with_the_renamed(mut w: World) -> anyhow::Result<()> {
    let mut log = w.pod("web")?;
    log.lines(10)?;
    w.start_reading().await?;
    let mut writer = File::options().append(true).open(log.live())?;
    log.rename()?;
    for _ in 0..25 {
        writer.write_all(&log.some_lines(10))?;
        w.pace(200).await;
    }
    log.lines(50)?;
    w.finish().await
}

/// A file that is held open stays readable, whatever became of its names meanwhile.
pub(super) async fn r10_rotated_away_while_frozen(mut w: World) -> anyhow::Result<()> {
    let mut log = w.pod("web")?;
    log.lines(20)?;
    w.start_reading().await?;
    w.freeze()?;
    log.lines(50)?;
    let rotated = log.rotate()?;
    log.lines(50)?;
    std::fs::remove_file(compress(&rotated)?)?;
    w.pace(3000).await;
    w.thaw()?;
    w.finish().await
}

/// The kubelet keeps two files, so what was rotated while the collector was away is gone when it is
/// back; the agent is killed in between.
pub(super) async fn r15_rotated_away_while_the_sink_is_away(mut w: World) -> anyhow::Result<()> {
    let mut log = w.pod("web")?;
    log.lines(10)?;
    w.start_reading().await?;
    w.sink.set(Mode::Refuse);
    log.fill("x".repeat(150));
    for turn in 0..6 {
        log.lines(3000)?;
        log.rotate_like_kubelet(2)?;
        let rotated = log.rotated()?;
        w.until_file(&rotated[rotated.len() - 1], |file| file["lag"] == 0).await?;
        if turn == 3 {
            w.kill()?;
            w.start()?;
        }
    }
    log.lines(10)?;
    w.sink.set(Mode::Up);
    w.finish().await
}

pub(super) async fn r11_temporary_file_of_compression(mut w: World) -> anyhow::Result<()> {
    let mut log = w.pod("web")?;
    log.lines(100)?;
    w.start_reading().await?;
    let rotated = log.rotate()?;
    log.lines(10)?;
    // The kubelet writes the packed file under this name first.
    let temporary = rotated.with_added_extension("tmp");
    append(&temporary, b"half of a gzip")?;
    w.pace(1200).await;
    std::fs::remove_file(&temporary)?;
    compress(&rotated)?;
    log.lines(10)?;
    w.probe().await?;
    let raw = w.counter("taffrail_tail_marked_lines_total", "raw").await;
    ensure!(raw == Some(0.0), "{raw:?} lines of something else");
    w.finish().await
}

pub(super) async fn r12_twenty_rotations_two_files(mut w: World) -> anyhow::Result<()> {
    let mut log = w.pod("web")?;
    log.lines(1)?;
    w.start_reading().await?;
    for _ in 0..20 {
        log.lines(20)?;
        w.pace(500).await;
        log.rotate_like_kubelet(1)?;
    }
    w.delivered().await?;
    let root = w.pods_root();
    let held = w.agent()?.descriptors(|name| name.starts_with(&root))?;
    // A file that was left is held for a while, in case its writer is slow.
    ensure!(held <= 24, "{held} descriptors for two files");
    w.finish().await
}

/// The agent runs as another user here, since no mode keeps root from reading.
pub(super) async fn r13_unreadable_after_logrotate(mut w: World) -> anyhow::Result<()> {
    w.run_as_nobody()?;
    w.know_pods(&["web"])?;
    let log = w.volume_log("web", "app.log")?;
    log.lines(20)?;
    w.start_reading().await?;
    w.delivered().await?;
    std::fs::rename(&log.path, log.path.with_extension("log-20261120"))?;
    let mode = |mode| std::fs::set_permissions(&log.path, PermissionsExt::from_mode(mode));
    // Made with the mode from the first moment, as logrotate's `create 0600 root` does.
    drop(File::options().write(true).create_new(true).mode(0o600).open(&log.path)?);
    log.lines(20)?;
    w.until_problem("app.log").await?;
    log.lines(20)?;
    mode(0o644)?;
    log.lines(5)?;
    w.finish().await
}

pub(super) async fn r14_sink_unavailable_and_rotated(mut w: World) -> anyhow::Result<()> {
    let mut log = w.pod("web")?;
    log.lines(10)?;
    w.start_reading().await?;
    w.sink.set(Mode::Status(503));
    log.fill("x".repeat(150));
    for _ in 0..8 {
        log.lines(5000)?;
    }
    log.rotate()?;
    w.pace(3000).await;
    log.lines(10)?;
    w.sink.set(Mode::Up);
    w.finish().await
}
