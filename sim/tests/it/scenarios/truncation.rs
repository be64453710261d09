//! T: the bytes of a file change under its name, and names change over the same bytes.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;

use anyhow::ensure;
use taffrail_sim::logtree::append;

use super::world::{World, skip};

/// Lines that a program writes first at every start.
fn banner() -> String {
    (0..20).map(|n| format!("starting up, step {n} of 20, with the same words as ever\n")).collect()
}

/// Writes the banner with lines behind it, twice, the second time from the start of the file.
async fn truncated(mut w: World, before: usize, after: usize) -> anyhow::Result<()> {
    w.know_pods(&["web"])?;
    w.untold = Some("starting up");
    let log = w.volume_log("web", "app.log")?;
    append(&log.path, banner().as_bytes())?;
    log.lines(before)?;
    w.start_reading().await?;
    w.until_text(&format!("@@web/app.log:{}@@", before - 1)).await?;
    let file = File::options().write(true).truncate(true).open(&log.path)?;
    drop(file);
    let content = [banner().as_bytes(), &log.some_lines(after)].concat();
    append(&log.path, &content)?;
    w.until_text(&format!("@@web/app.log:{}@@", before + after - 1)).await?;
    let mut banners = w.untold_lines();
    ensure!(banners.len() == 40, "{} lines of two banners", banners.len());
    banners.dedup();
    ensure!(banners.len() == 40, "a line of the banner came twice in a row");
    w.finish().await
}

pub(super) async fn t1_truncated_with_an_equal_head(w: World) -> anyhow::Result<()> {
    truncated(w, 20, 60).await
}

pub(super) async fn t2_truncated_and_shorter(w: World) -> anyhow::Result<()> {
    truncated(w, 60, 20).await
}

pub(super) async fn t3_hole_of_a_writer_without_append(mut w: World) -> anyhow::Result<()> {
    w.know_pods(&["web"])?;
    let log = w.volume_log("web", "app.log")?;
    let mut writer = File::create(&log.path)?;
    writer.write_all(&log.some_lines(5000))?;
    w.start_reading().await?;
    w.delivered().await?;
    writer.set_len(0)?;
    w.pace(1500).await;
    // It goes on where it was: everything before is a hole now.
    writer.write_all(&log.some_lines(50))?;
    w.delivered().await?;
    writer.write_all(&log.some_lines(5))?;
    w.finish().await
}

pub(super) async fn t4_sparse_terabyte(mut w: World) -> anyhow::Result<()> {
    const TERABYTE: u64 = 1 << 40;
    w.know_pods(&["web"])?;
    let log = w.volume_log("web", "app.log")?;
    log.lines(20)?;
    w.start_reading().await?;
    w.delivered().await?;
    let file = File::options().append(true).open(&log.path)?;
    if file.set_len(TERABYTE).is_err() {
        return skip("the file system has no files of a terabyte");
    }
    w.pace(1000).await;
    log.lines(20)?;
    w.delivered().await?;
    let before = w.agent()?.cpu_seconds()?;
    w.pace(1000).await;
    let used = w.agent()?.cpu_seconds()? - before;
    ensure!(used < 0.5, "{used} s of CPU in a second of silence");
    let peak = w.agent()?.memory("VmHWM")?;
    ensure!(peak < 100 << 20, "{} MiB at its peak", peak >> 20);
    w.finish().await
}

pub(super) async fn t5_unlinked_and_made_again(mut w: World) -> anyhow::Result<()> {
    let log = w.pod("web")?;
    log.lines(200)?;
    w.start_reading().await?;
    w.delivered().await?;
    let inode = fs::metadata(log.live())?.ino();
    fs::remove_file(log.live())?;
    log.lines(200)?;
    let again = fs::metadata(log.live())?.ino();
    println!("     T5: inode {inode} and then {again}");
    w.finish().await
}

pub(super) async fn t6_inode_reused_while_down(mut w: World) -> anyhow::Result<()> {
    let log = w.pod("web")?;
    log.lines(100)?;
    w.start_reading().await?;
    w.delivered().await?;
    w.stop().await?;
    let inode = fs::metadata(log.live())?.ino();
    let new = w.pod("api")?;
    let mut spare = Vec::new();
    fs::remove_file(log.live())?;
    // Files beside it until one has its inode: others on this machine may be faster.
    let mut reused = false;
    for number in 0..2000 {
        let path = log.folder.join(format!("spare-{number}"));
        if File::create(&path)?.metadata()?.ino() == inode {
            fs::rename(&path, new.live())?;
            reused = true;
            break;
        }
        spare.push(path);
    }
    spare.iter().try_for_each(fs::remove_file)?;
    log.remove_pod()?;
    new.lines(200)?;
    w.finish().await?;
    if reused { Ok(()) } else { skip("passed, but the file system did not give the inode again") }
}

pub(super) async fn t7_equal_heads(mut w: World) -> anyhow::Result<()> {
    w.know_pods(&["web", "api"])?;
    w.untold = Some("banner");
    let head: String =
        (0..80).map(|n| format!("banner of both replicas, line {n}, equal\n")).collect();
    ensure!(head.len() > 3000, "{} bytes", head.len());
    let logs = [w.volume_log("web", "app.log")?, w.volume_log("api", "app.log")?];
    for log in &logs {
        append(&log.path, head.as_bytes())?;
    }
    w.start_reading().await?;
    for log in &logs {
        log.lines(200)?;
    }
    w.until_text("@@web/app.log:199@@").await?;
    w.until_text("@@api/app.log:199@@").await?;
    let banners = w.untold_lines();
    ensure!(banners.len() == 160, "{} lines of two heads of 80", banners.len());
    w.finish().await
}

pub(super) async fn t8_five_bytes_then_the_rest(mut w: World) -> anyhow::Result<()> {
    w.know_pods(&["web"])?;
    let log = w.volume_log("web", "app.log")?;
    append(&log.path, b"five ")?;
    w.start_reading().await?;
    w.pace(3000).await;
    log.lines(1)?;
    w.delivered().await?;
    ensure!(w.sink.texts().iter().any(|t| t.starts_with("five worked ")), "{:?}", w.sink.texts());
    w.finish().await
}

pub(super) async fn t9_small_file_that_never_grows(mut w: World) -> anyhow::Result<()> {
    let log = w.pod("web")?;
    log.lines(5)?;
    ensure!(fs::metadata(log.live())?.len() < 1024);
    w.finish().await
}

pub(super) async fn t10_two_names_for_one_file(mut w: World) -> anyhow::Result<()> {
    w.know_pods(&["web"])?;
    let log = w.volume_log("web", "app.log")?;
    log.lines(20)?;
    fs::hard_link(&log.path, log.path.with_file_name("second.log"))?;
    std::os::unix::fs::symlink("app.log", log.path.with_file_name("third.log"))?;
    w.start_reading().await?;
    log.lines(20)?;
    w.finish().await
}

/// By rule a name that is none of the kubelet's is no log of a container.
pub(super) async fn t11_copy_beside(mut w: World) -> anyhow::Result<()> {
    let log = w.pod("web")?;
    log.lines(20)?;
    w.start_reading().await?;
    w.delivered().await?;
    fs::copy(log.live(), log.folder.join("0.log.bak"))?;
    w.pace(1500).await;
    log.lines(20)?;
    w.finish().await
}

pub(super) async fn t12_two_logs_swap_names(mut w: World) -> anyhow::Result<()> {
    let (one, two) = (w.pod("one")?, w.pod("two")?);
    one.lines(20)?;
    two.lines(30)?;
    w.start_reading().await?;
    w.delivered().await?;
    let aside = w.path("aside");
    let (mut first, mut second) = (
        File::options().append(true).open(one.live())?,
        File::options().append(true).open(two.live())?,
    );
    fs::rename(one.live(), &aside)?;
    fs::rename(two.live(), one.live())?;
    fs::rename(&aside, two.live())?;
    w.pace(1500).await;
    // Each writer stays with its file.
    first.write_all(&one.some_lines(20))?;
    second.write_all(&two.some_lines(20))?;
    ensure!(first.metadata()?.ino() == fs::metadata(two.live())?.ino(), "they are swapped");
    w.finish().await
}
