//! D: files and folders come and go, in numbers and with names as they are found in the wild.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::ensure;
use taffrail_sim::logtree::{ContainerLog, PlainLog, volume_folder};
use taffrail_sim::podlog::uid;
use taffrail_sim::sink::Mode;

use super::world::{World, skip};

pub(super) async fn d1_pods_that_live_a_second(mut w: World) -> anyhow::Result<()> {
    w.start_reading().await?;
    for number in 0..5 {
        let log = w.pod(&format!("short-{number}"))?;
        log.lines(5)?;
        w.pace(1000).await;
        log.remove_pod()?;
    }
    w.finish().await
}

pub(super) async fn d2_pod_deleted_while_the_sink_is_away(mut w: World) -> anyhow::Result<()> {
    let mut log = w.pod("web")?;
    log.lines(10)?;
    w.start_reading().await?;
    w.sink.set(Mode::Status(503));
    log.fill("x".repeat(200));
    for _ in 0..15 {
        log.lines(1000)?;
    }
    w.pace(1500).await;
    log.remove_pod()?;
    w.pace(3000).await;
    w.sink.set(Mode::Up);
    w.finish().await
}

/// Likewise, and the agent is killed before the collector is back.
pub(super) async fn d2_pod_deleted_then_the_agent_killed(mut w: World) -> anyhow::Result<()> {
    let mut log = w.pod("web")?;
    log.lines(10)?;
    w.start_reading().await?;
    w.sink.set(Mode::Status(503));
    log.fill("x".repeat(200));
    log.lines(3000)?;
    let size = fs::metadata(log.live())?.len();
    w.until_file(&log.live(), |file| {
        file["committed"].as_u64().zip(file["lag"].as_u64()).is_some_and(|(c, l)| c + l == size)
    })
    .await?;
    log.remove_pod()?;
    w.pace(1500).await;
    w.until_safe(|path| path.contains("sim_web_")).await?;
    w.kill()?;
    w.start()?;
    w.pace(1000).await;
    w.sink.set(Mode::Up);
    w.finish().await
}

pub(super) async fn d3_two_thousand_files(mut w: World) -> anyhow::Result<()> {
    let logs: Vec<ContainerLog> =
        (0..2000).map(|n| w.pod(&format!("pod-{n}"))).collect::<Result<_, _>>()?;
    logs.iter().try_for_each(|log| log.lines(2))?;
    w.start()?;
    w.delivered().await?;
    let start = Instant::now();
    logs.iter().try_for_each(|log| log.lines(2))?;
    w.delivered().await?;
    let resident = w.agent()?.memory("VmRSS")? >> 20;
    println!("     D3: 2 more lines of each after {:?}, {resident} MiB resident", start.elapsed());
    ensure!(resident < 60, "{resident} MiB");
    w.finish().await
}

pub(super) async fn d4_five_hundred_pods_at_once(mut w: World) -> anyhow::Result<()> {
    w.start_reading().await?;
    let start = Instant::now();
    for number in 0..500 {
        w.pod(&format!("pod-{number}"))?.lines(20)?;
    }
    w.until("a line of one", |sink| sink.with(|kept| kept.lines.len() > 1)).await?;
    let first = start.elapsed();
    w.delivered().await?;
    println!("     D4: first line after {first:?}, the last after {:?}", start.elapsed());
    ensure!(first < Duration::from_secs(10), "the first line took {first:?}");
    w.finish().await
}

pub(super) async fn d5_crash_loop(mut w: World) -> anyhow::Result<()> {
    let mut log = w.pod("web")?;
    log.lines(5)?;
    w.start_reading().await?;
    for number in 0..20 {
        w.pace(200).await;
        log.restart();
        log.lines(5)?;
        // The kubelet keeps the log of the start before.
        if number >= 5 {
            fs::remove_file(log.folder.join(format!("{}.log", number - 5)))?;
        }
    }
    w.delivered().await?;
    let paths = w.sink.with(|kept| {
        let mut paths: Vec<String> = kept.lines.iter().map(|line| line.path.clone()).collect();
        paths.retain(|path| path.contains("sim_web_"));
        paths.dedup();
        paths
    });
    ensure!(paths.len() == 21 && paths[20].ends_with("/20.log"), "{paths:?}");
    w.finish().await
}

pub(super) async fn d6_files_from_before(mut w: World) -> anyhow::Result<()> {
    let log = w.pod("web")?;
    log.lines(100)?;
    w.start_reading().await?;
    log.lines(10)?;
    w.finish().await
}

pub(super) async fn d7_no_inotify_watches(mut w: World) -> anyhow::Result<()> {
    let namespace = ["unshare", "--user", "--map-root-user"];
    let can = Command::new(namespace[0]).args(&namespace[1..]).arg("true").output();
    if !can.is_ok_and(|out| out.status.success()) {
        return skip("no user namespaces here");
    }
    w.wrap(&namespace, r#"echo 0 > /proc/sys/user/max_inotify_instances; exec "$0" "$@""#);
    let logs: Vec<ContainerLog> =
        (0..50).map(|n| w.pod(&format!("pod-{n}"))).collect::<Result<_, _>>()?;
    logs.iter().try_for_each(|log| log.lines(2))?;
    w.start_reading().await?;
    ensure!(w.said().contains("no inotify"), "it does not say so: {}", w.said());
    logs.iter().try_for_each(|log| log.lines(2))?;
    w.pod("new")?.lines(5)?;
    w.finish().await
}

pub(super) async fn d8_event_queue_overflows(mut w: World) -> anyhow::Result<()> {
    let queue = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")?;
    let queue: u32 = queue.trim().parse()?;
    if queue > 50_000 {
        return skip("the queue of inotify is longer than 50,000 events");
    }
    let log = w.pod("web")?;
    log.lines(5)?;
    w.start_reading().await?;
    w.freeze()?;
    let root = w.pods_root();
    for number in 0..queue {
        fs::create_dir(root.join(format!("no-pod-{number}")))?;
    }
    let new = w.pod("new")?;
    new.lines(5)?;
    log.lines(5)?;
    w.thaw()?;
    w.delivered().await?;
    w.finish().await
}

pub(super) async fn d9_few_descriptors(mut w: World) -> anyhow::Result<()> {
    w.wrap(&[], r#"ulimit -n 64; exec "$0" "$@""#);
    let logs: Vec<ContainerLog> =
        (0..300).map(|n| w.pod(&format!("pod-{n}"))).collect::<Result<_, _>>()?;
    logs.iter().try_for_each(|log| log.lines(2))?;
    w.start()?;
    w.delivered().await?;
    logs.iter().try_for_each(|log| log.lines(2))?;
    w.delivered().await?;
    let held = w.agent()?.descriptors(|_| true)?;
    ensure!(held <= 64, "{held} descriptors");
    w.finish().await
}

pub(super) async fn d10_root_is_a_link_to_nowhere(mut w: World) -> anyhow::Result<()> {
    let (link, target) = (w.path("link"), w.path("not-mounted"));
    symlink(&target, &link)?;
    w.flag("--pod-logs", link.display());
    w.start()?;
    let start = Instant::now();
    let problem = w.until_problem("/link").await?;
    ensure!(start.elapsed() < Duration::from_secs(10), "said so after {:?}", start.elapsed());
    ensure!(w.said().contains("/link") && !problem.is_empty(), "{}", w.said());
    fs::rename(w.pods_root(), &target)?;
    symlink(&target, w.pods_root())?;
    w.pod("web")?.lines(20)?;
    w.probe().await?;
    w.finish().await
}

pub(super) async fn d11_folders_fifos_sockets_devices(mut w: World) -> anyhow::Result<()> {
    w.know_pods(&["web"])?;
    let log = w.pod("web")?;
    log.lines(5)?;
    let plain = w.volume_log("web", "app.log")?;
    plain.lines(5)?;
    let volume = plain.path.with_file_name("");
    let mut sockets = Vec::new();
    for (folder, name) in [(&log.folder, ""), (&volume, "x")] {
        let odd = |number: u32| folder.join(format!("{name}{number}.log"));
        fs::create_dir(odd(1))?;
        ensure!(Command::new("mkfifo").arg(odd(2)).status()?.success(), "mkfifo");
        // The address of a socket is a short path; its name may be any.
        let short = w.path("socket");
        sockets.push(UnixListener::bind(&short)?);
        fs::rename(&short, odd(3))?;
        symlink("nowhere", odd(4))?;
        // A device that never ends; without root there is none.
        let _device = Command::new("mknod").arg(odd(5)).args(["c", "1", "5"]).output()?;
    }
    w.start_reading().await?;
    log.lines(5)?;
    plain.lines(5)?;
    w.finish().await
}

pub(super) async fn d12_many_files_in_one_folder(mut w: World) -> anyhow::Result<()> {
    w.know_pods(&["web"])?;
    let folder = volume_folder(&w.path("kubelet"), &uid("web"));
    fs::create_dir_all(&folder)?;
    for number in 0..5000 {
        File::create(folder.join(format!("old-{number}.log")))?;
    }
    let logs: Vec<PlainLog> = (0..10)
        .map(|n| w.volume_log("web", &format!("active-{n}.log")))
        .collect::<Result<_, _>>()?;
    let start = Instant::now();
    w.start_reading().await?;
    println!("     D12: reads after {:?}", start.elapsed());
    logs.iter().try_for_each(|log| log.lines(5))?;
    w.delivered().await?;
    println!("     D12: all after {:?}", start.elapsed());
    w.pace(3000).await;
    let before = w.agent()?.cpu_seconds()?;
    w.pace(3000).await;
    let used = (w.agent()?.cpu_seconds()? - before) / 3.0;
    let resident = w.agent()?.memory("VmRSS")? >> 20;
    println!("     D12: {:.1}% of a core when idle, {resident} MiB resident", used * 100.0);
    logs.iter().try_for_each(|log| log.lines(5))?;
    w.finish().await
}

pub(super) async fn d13_unreadable_for_a_while(mut w: World) -> anyhow::Result<()> {
    w.run_as_nobody()?;
    let log = w.pod("web")?;
    log.lines(20)?;
    let mode = |mode| fs::set_permissions(log.live(), PermissionsExt::from_mode(mode));
    w.start_reading().await?;
    w.delivered().await?;
    w.stop().await?;
    mode(0o000)?;
    log.lines(20)?;
    w.start()?;
    w.until_problem("0.log").await?;
    log.lines(20)?;
    mode(0o644)?;
    w.finish().await
}

pub(super) async fn d14_odd_names(mut w: World) -> anyhow::Result<()> {
    w.know_pods(&["web"])?;
    let long = format!("{}.log", "x".repeat(251));
    let names: [&[u8]; 7] = [
        b"with space.log",
        b"new\nline.log",
        b"\xFF.log",
        b"\xFE.log",
        "\u{1F41F}.log".as_bytes(),
        b"-rf *.log",
        long.as_bytes(),
    ];
    let base = w.volume_log("web", "app.log")?;
    let logs: Vec<PlainLog> = names
        .iter()
        .enumerate()
        .map(|(number, name)| {
            let path = base.path.with_file_name(OsStr::from_bytes(name));
            PlainLog::new(path, &format!("odd-{number}"), &w.ledger)
        })
        .collect();
    logs.iter().try_for_each(|log| log.lines(5))?;
    w.start_reading().await?;
    logs.iter().try_for_each(|log| log.lines(5))?;
    w.finish().await
}

pub(super) async fn d15_idle_for_a_day(mut w: World) -> anyhow::Result<()> {
    let log = w.pod("web")?;
    log.lines(5)?;
    let day = Duration::from_secs(86_400);
    let before = fs::metadata(log.live())?.modified()? - day;
    File::options().append(true).open(log.live())?.set_modified(before)?;
    w.start_reading().await?;
    w.delivered().await?;
    w.pace(3000).await;
    let text = log.text("stdout");
    log.piece("stdout F", &text)?;
    let took = w.until_text(&text).await?;
    println!("     D15: delivered after {took:?}");
    ensure!(took < Duration::from_secs(5), "{took:?}");
    w.finish().await
}
