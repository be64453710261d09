//! S: the collector is away, slow, in doubt, or says no.

use std::time::{Duration, Instant};

use anyhow::ensure;
use taffrail_kit::clock;
use taffrail_sim::http1::Port;
use taffrail_sim::sink::{Authority, Mode, Picky, Sink};

use super::world::{World, skip};
use crate::clients::tool;

pub(super) async fn s1_unavailable(mut w: World) -> anyhow::Result<()> {
    let log = w.pod("web")?;
    log.lines(100)?;
    w.start_reading().await?;
    w.sink.set(Mode::Status(503));
    for _ in 0..9 {
        log.lines(100)?;
        w.pace(1000).await;
    }
    w.sink.set(Mode::Up);
    let start = Instant::now();
    w.delivered().await?;
    ensure!(start.elapsed() < Duration::from_secs(15), "after {:?}", start.elapsed());
    w.finish().await
}

pub(super) async fn s2_accepts_and_hangs(mut w: World) -> anyhow::Result<()> {
    let log = w.pod("web")?;
    log.lines(20)?;
    w.start_reading().await?;
    w.sink.next([Mode::Hang]);
    log.lines(20)?;
    w.finish().await
}

pub(super) async fn s4_one_line_is_refused(mut w: World) -> anyhow::Result<()> {
    w.untold = Some("poison");
    w.sink.refuse(Picky { poison: Some("poison".into()), ..Picky::default() });
    let log = w.pod("web")?;
    log.lines(100)?;
    log.piece("stdout F", "poison in the middle")?;
    log.lines(100)?;
    w.start()?;
    w.delivered().await?;
    w.settled().await?;
    let dropped = w.counter("taffrail_ship_dropped_lines_total", "refused").await;
    ensure!(dropped == Some(1.0), "{dropped:?} lines counted as dropped");
    w.finish().await
}

pub(super) async fn s5_too_large(mut w: World) -> anyhow::Result<()> {
    w.sink.refuse(Picky { lines_max: Some(7), ..Picky::default() });
    let log = w.pod("web")?;
    log.lines(100)?;
    w.start()?;
    w.delivered().await?;
    let dropped = w.counter("taffrail_ship_dropped_lines_total", "").await;
    ensure!(dropped == Some(0.0), "{dropped:?} lines counted as dropped");
    w.finish().await
}

pub(super) async fn s6_busy_for_three_seconds(mut w: World) -> anyhow::Result<()> {
    let log = w.pod("web")?;
    log.lines(20)?;
    w.start_reading().await?;
    w.delivered().await?;
    w.sink.next([Mode::Busy(3)]);
    log.lines(20)?;
    w.delivered().await?;
    let waited = w.sink.with(|kept| {
        let busy = kept.requests.iter().rposition(|(_, mode)| *mode == Mode::Busy(3));
        let (at, next) = (busy?, kept.requests.get(busy? + 1)?);
        Some(next.0 - kept.requests[at].0)
    });
    let fits = |w: &Duration| (2_900..8_000).contains(&w.as_millis());
    ensure!(waited.as_ref().is_some_and(fits), "waited {waited:?}");
    w.finish().await
}

/// Lines in bursts, while these modes come before each time that it works.
async fn through(mut w: World, modes: &[Mode]) -> anyhow::Result<()> {
    let log = w.pod("web")?;
    log.lines(20)?;
    w.start_reading().await?;
    for _ in 0..4 {
        w.sink.next(modes.iter().copied());
        let before = w.sink.with(|kept| kept.requests.len());
        log.lines(50)?;
        let enough = before + modes.len();
        w.until("each mode once", |sink| sink.with(|k| k.requests.len() > enough)).await?;
    }
    w.finish().await
}

pub(super) async fn s7_reset_after_store(w: World) -> anyhow::Result<()> {
    through(w, &[Mode::ResetAfterStore]).await
}

/// The agent has a clock of its own, which a file steps.
pub(super) async fn s11_clock_steps(mut w: World) -> anyhow::Result<()> {
    let Some(library) = tool("libfaketime/clock.so", "") else {
        return skip("needs libfaketime, which `make test-tools` fetches");
    };
    let offset = w.path("offset");
    let set = |by: &str| std::fs::write(&offset, by);
    set("+0")?;
    let script = format!(
        r#"export LD_PRELOAD={} FAKETIME_TIMESTAMP_FILE={} FAKETIME_NO_CACHE=1
        export FAKETIME_DONT_FAKE_MONOTONIC=1 NO_FAKE_STAT=1; exec "$0" "$@""#,
        library.display(),
        offset.display()
    );
    w.wrap(&["env"], &script);
    let mut log = w.pod("web")?;
    log.lines(20)?;
    w.start_reading().await?;
    for step in [3600_i64, -7200, 0] {
        // A line that is open, and one of the other output that waits for its end, meanwhile.
        let text = log.text("stdout");
        let (begin, end) = text.split_at(text.len() / 2);
        log.piece("stdout P", begin)?;
        log.piece("stderr F", &log.text("stderr"))?;
        w.pace(400).await;
        set(&format!("{step:+}"))?;
        w.pace(1200).await;
        log.piece("stdout F", end)?;
        // A line without a head gets the agent's time.
        let bare = log.text("stdout");
        log.raw(format!("{bare}\n").as_bytes())?;
        w.until_text(&bare).await?;
        let time = w.sink.with(|kept| kept.lines.iter().find(|l| l.text == bare).map(|l| l.time));
        let ahead = time.map(|time| (time.cast_signed() - clock::unix_nanos()) / 1_000_000_000);
        ensure!(ahead.is_some_and(|s| (s - step).abs() < 60), "{step}: {ahead:?}");
        log.lines(200)?;
        log.rotate()?;
        log.lines(200)?;
        w.delivered().await?;
    }
    w.finish().await
}

pub(super) async fn s12_errors_after_store(w: World) -> anyhow::Result<()> {
    through(w, &[Mode::ErrorAfterStore, Mode::Status(500), Mode::Status(502)]).await
}

pub(super) async fn s13_garbage(w: World) -> anyhow::Result<()> {
    through(w, &[Mode::Garbage, Mode::Garbage]).await
}

pub(super) async fn s14_half_answers(w: World) -> anyhow::Result<()> {
    through(w, &[Mode::HalfAnswer, Mode::HalfAnswer]).await
}

pub(super) async fn s15_refuses_and_comes_back(mut w: World) -> anyhow::Result<()> {
    let log = w.pod("web")?;
    log.lines(20)?;
    w.start_reading().await?;
    for _ in 0..3 {
        w.sink.set(Mode::Refuse);
        log.lines(50)?;
        w.pace(1200).await;
        w.sink.set(Mode::Up);
        log.lines(50)?;
        w.pace(400).await;
    }
    w.finish().await
}

pub(super) async fn s16_certificate_of_a_stranger(mut w: World) -> anyhow::Result<()> {
    let authority = Authority::new("localhost")?;
    authority.write(&w.path("ca.pem"))?;
    w.sink = Sink::start_with(Port::take([127, 0, 0, 1])?, Some(authority))?;
    w.flag("--collector", format!("https://localhost:{}", w.sink.port()));
    // What the agent trusts is what the system trusts, which this variable names.
    let trust = format!("SSL_CERT_FILE={}", w.path("ca.pem").display());
    w.wrapper = vec!["env".to_owned(), trust];
    let log = w.pod("web")?;
    log.lines(20)?;
    w.sink.strange(true);
    w.start()?;
    let said = w.until_said("certificate").await;
    ensure!(w.sink.with(|kept| kept.lines.is_empty()), "a stranger got lines");
    said?;
    w.sink.strange(false);
    w.delivered().await?;
    w.finish().await
}

pub(super) async fn s8_slower_than_the_writers(mut w: World) -> anyhow::Result<()> {
    let mut hot = w.pod("hot")?;
    hot.fill("x".repeat(1000));
    let small: Vec<_> = (0..5).map(|n| w.pod(&format!("small-{n}"))).collect::<Result<_, _>>()?;
    w.start_reading().await?;
    w.sink.set(Mode::Slow(Duration::from_millis(300)));
    for _ in 0..10 {
        hot.lines(1500)?;
        small.iter().try_for_each(|log| log.lines(5))?;
        w.pace(200).await;
    }
    let lag = w.counter("taffrail_tail_lag_bytes", "").await.unwrap_or(0.0);
    ensure!(lag > 1e6, "a lag of {lag} bytes is told");
    w.delivered().await?;
    let peak = w.agent()?.memory("VmHWM")?;
    ensure!(peak < 100 << 20, "{} MiB at its peak", peak >> 20);
    let last = |pod: &str| {
        w.sink.with(|kept| {
            kept.lines.iter().rposition(|line| line.labels.get("pod").is_some_and(|p| p == pod))
        })
    };
    ensure!(last("small-0") < last("hot"), "the small pods come after the hot one");
    w.finish().await
}

/// The name of the collector resolves from a file that only this agent sees.
pub(super) async fn s9_name_without_address_then_another(mut w: World) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return skip("needs root, to give the agent names of its own");
    }
    let (hosts, resolver) = (w.path("hosts"), w.path("resolv.conf"));
    std::fs::write(&hosts, "127.0.0.1 localhost\n")?;
    std::fs::write(&resolver, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")?;
    let script = format!(
        r#"mount --bind {} /etc/hosts; mount --bind {} /etc/resolv.conf; exec "$0" "$@""#,
        hosts.display(),
        resolver.display()
    );
    w.wrap(&["unshare", "--mount"], &script);
    let name = |ip: &str| std::fs::write(&hosts, format!("127.0.0.1 localhost\n{ip} sink.test\n"));
    w.flag("--collector", format!("http://sink.test:{}", w.sink.port()));
    let log = w.pod("web")?;
    log.lines(20)?;
    w.start()?;
    w.pace(2000).await;
    ensure!(w.sink.with(|kept| kept.asked == 0), "it cannot know the address");
    name("127.0.0.1")?;
    w.delivered().await?;
    // The collector moves: nobody is at the old address any more.
    let moved = match Port::take_as([127, 0, 0, 2], w.sink.port()) {
        Ok(port) => w.sink.moved_to(port)?,
        Err(error) => return skip(&format!("no second loopback address: {error}")),
    };
    w.sink.set(Mode::Refuse);
    w.sink = moved;
    name("127.0.0.2")?;
    log.lines(20)?;
    w.finish().await
}
