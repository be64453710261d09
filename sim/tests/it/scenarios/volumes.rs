//! V: logs that programs write to their pods' volumes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::ensure;
use taffrail_sim::logtree::{PlainLog, append, volume_folder};
use taffrail_sim::podlog::uid;
use taffrail_sim::process::wait_for;

use super::fuse::Fuse;
use super::world::{World, skip};

/// A file system of its own at a folder; taken away in the end, whatever happens.
struct Mount(PathBuf);

impl Mount {
    fn new(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let mount = ["-t", "tmpfs", "-o", "size=16m", "tmpfs"];
        let done = Command::new("mount").args(mount).arg(folder).output();
        if done.is_ok_and(|done| done.status.success()) {
            Ok(Self(folder.to_owned()))
        } else {
            skip("no file system can be mounted here")
        }
    }

    /// As the kubelet does it: without force.
    fn unmount(&self) -> bool {
        Command::new("umount").arg(&self.0).output().is_ok_and(|done| done.status.success())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // It may be unmounted already.
        let _done = Command::new("umount").arg("--lazy").arg(&self.0).output().is_ok();
    }
}

pub(super) async fn v1_mounted_after_the_agent_started(mut w: World) -> anyhow::Result<()> {
    w.know_pods(&["web"])?;
    let folder = volume_folder(&w.path("kubelet"), &uid("web"));
    fs::create_dir_all(&folder)?;
    w.start_reading().await?;
    let _mount = Mount::new(&folder)?;
    let log = w.volume_log("web", "deep/app.log")?;
    fs::create_dir_all(folder.join("deep"))?;
    log.lines(20)?;
    w.delivered().await?;
    log.lines(20)?;
    w.finish().await
}

pub(super) async fn v2_unmounted_after_its_pod(mut w: World) -> anyhow::Result<()> {
    w.know_pods(&["web"])?;
    let folder = volume_folder(&w.path("kubelet"), &uid("web"));
    let mount = Mount::new(&folder)?;
    let log = w.volume_log("web", "app.log")?;
    log.lines(20)?;
    w.start_reading().await?;
    log.lines(200)?;
    w.know_pods(&[])?;
    let start = Instant::now();
    wait_for("the volume can be unmounted", async || mount.unmount().then_some(())).await?;
    println!("     V2: unmounted after {:?}", start.elapsed());
    // The list of pods is looked at every two seconds.
    ensure!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    w.delivered().await?;
    w.finish().await
}

/// How long a line of another file may take, and the end of the agent: with a whole suite beside it.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) async fn v3_a_volume_that_hangs(mut w: World) -> anyhow::Result<()> {
    w.know_pods(&["web"])?;
    let (folder, point) = (w.path("server"), volume_folder(&w.path("kubelet"), &uid("web")));
    let fuse = Fuse::new(&folder, &point)?;
    let log = PlainLog::new(folder.join("app.log"), "web/app.log", &w.ledger);
    log.lines(20)?;
    w.start_reading().await?;
    log.lines(20)?;
    w.delivered().await?;
    w.settled().await?;

    fuse.hang(true);
    log.lines(20)?;
    let mut slowest = Duration::ZERO;
    for _ in 0..10 {
        let start = Instant::now();
        w.probe().await?;
        slowest = slowest.max(start.elapsed());
    }
    let said = w.until_problem("app.log").await?;
    ensure!(said.contains("has not answered since"), "{said}");
    w.probe().await?;
    let start = Instant::now();
    w.stop().await?;
    let ended = start.elapsed();
    println!("     V3: other lines within {slowest:?}, ended after {ended:?}: {said}");
    ensure!(slowest < PATIENCE && ended < PATIENCE, "{slowest:?} {ended:?}");

    // The next agent meets it as it is.
    w.start_reading().await?;
    w.until_problem(&point.to_string_lossy()).await?;
    log.lines(20)?;
    PlainLog::new(folder.join("new.log"), "web/new.log", &w.ledger).lines(20)?;
    fuse.hang(false);
    w.delivered().await?;
    w.finish().await
}

pub(super) async fn v7_volume_removed_with_its_pod(mut w: World) -> anyhow::Result<()> {
    w.know_pods(&["web"])?;
    let log = w.volume_log("web", "app.log")?;
    log.lines(20)?;
    w.start_reading().await?;
    w.delivered().await?;
    log.lines(20)?;
    w.know_pods(&[])?;
    fs::remove_dir_all(volume_folder(&w.path("kubelet"), &uid("web")))?;
    w.finish().await
}

pub(super) async fn v8_links_out_of_the_volume(mut w: World) -> anyhow::Result<()> {
    w.know_pods(&["web"])?;
    let log = w.volume_log("web", "app.log")?;
    log.lines(5)?;
    let secrets = w.path("secrets");
    fs::create_dir_all(&secrets)?;
    append(&secrets.join("token.log"), b"a secret\n")?;
    let folder = log.path.with_file_name("");
    symlink(secrets.join("token.log"), folder.join("token.log"))?;
    symlink(&secrets, folder.join("secrets"))?;
    symlink("../../../../../../secrets/token.log", folder.join("relative.log"))?;
    w.start_reading().await?;
    log.lines(5)?;
    w.finish().await?;
    ensure!(!w.sink.texts().iter().any(|text| text.contains("secret")), "a secret came out");
    Ok(())
}
