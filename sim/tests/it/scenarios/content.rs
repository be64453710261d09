//! F: what stands in the lines, and what a runtime makes of long ones.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use taffrail_sim::logtree::append;
use taffrail_sim::sink::Line;

use super::world::World;

/// The line with this text in it.
fn line(w: &World, text: &str) -> anyhow::Result<Line> {
    w.sink
        .with(|kept| kept.lines.iter().find(|line| line.text.contains(text)).cloned())
        .context(format!("{text:?} among {:?}", w.sink.texts().iter().take(20).collect::<Vec<_>>()))
}

pub(super) async fn f1_pieces_of_two_streams(mut w: World) -> anyhow::Result<()> {
    let log = w.pod("web")?;
    let (out, err) = (log.text("stdout"), log.text("stderr"));
    log.piece("stdout P", "begin, ")?;
    log.piece("stderr F", &err)?;
    log.piece("stdout F", &out)?;
    w.start()?;
    w.delivered().await?;
    ensure!(line(&w, &out)?.text == format!("begin, {out}"));
    let other = line(&w, &err)?;
    ensure!(other.text == err && other.labels["stream"] == "stderr", "{other:?}");
    w.finish().await
}

pub(super) async fn f2_last_words_without_an_end(mut w: World) -> anyhow::Result<()> {
    let log = w.pod("web")?;
    log.lines(2)?;
    w.start_reading().await?;
    let text = log.text("stdout");
    log.piece("stdout P", &text)?;
    let took = w.until_text(&text).await?;
    ensure!(took < Duration::from_secs(15), "after {took:?}");
    let last = line(&w, &text)?;
    ensure!(last.metadata.contains_key("taffrail_partial"), "{last:?}");
    println!("     F2: after {took:?}");
    w.finish().await
}

pub(super) async fn f3_pieces_six_seconds_apart(mut w: World) -> anyhow::Result<()> {
    let log = w.pod("web")?;
    log.lines(2)?;
    w.start_reading().await?;
    let text = log.text("stdout");
    log.piece("stdout P", "begin, ")?;
    w.pace(6000).await;
    log.piece("stdout F", &text)?;
    w.delivered().await?;
    ensure!(line(&w, &text)?.text == format!("begin, {text}"));
    w.finish().await
}

pub(super) async fn f4_a_mebibyte_in_pieces(mut w: World) -> anyhow::Result<()> {
    const PIECE: usize = 16 << 10;
    let log = w.pod("web")?;
    let mut whole = Vec::new();
    for (pieces, rest) in [(63, 1000), (70, 10)] {
        let text = log.text("stdout");
        log.piece("stdout P", &format!("{text}{}", "x".repeat(PIECE - text.len())))?;
        for _ in 1..pieces {
            log.piece("stdout P", &"x".repeat(PIECE))?;
        }
        log.piece("stdout F", &"x".repeat(rest))?;
        log.lines(1)?;
        whole.push((text, pieces * PIECE + rest));
    }
    w.start()?;
    w.delivered().await?;
    let (fits, cut) = (line(&w, &whole[0].0)?, line(&w, &whole[1].0)?);
    ensure!(fits.text.len() == whole[0].1 && fits.metadata.is_empty(), "{:?}", fits.metadata);
    let told = cut.metadata.get("taffrail_cut").cloned();
    ensure!(cut.text.len() == 1 << 20 && told == Some(whole[1].1.to_string()), "{told:?}");
    w.finish().await
}

pub(super) async fn f5_thirty_megabytes_without_an_end(mut w: World) -> anyhow::Result<()> {
    w.know_pods(&["web"])?;
    w.untold = Some("xxxx");
    let log = w.volume_log("web", "app.log")?;
    log.lines(2)?;
    w.start_reading().await?;
    w.delivered().await?;
    let before = w.agent()?.memory("VmRSS")?;
    for _ in 0..30 {
        append(&log.path, &vec![b'x'; 1 << 20])?;
    }
    append(&log.path, b"\n")?;
    log.lines(2)?;
    w.delivered().await?;
    let grown = w.agent()?.memory("VmHWM")?.saturating_sub(before) >> 20;
    ensure!(grown < 24, "{grown} MiB more at the peak");
    let long = line(&w, "xxxx")?;
    ensure!(long.metadata["taffrail_cut"] == (30 << 20).to_string(), "{:?}", long.metadata);
    w.finish().await
}

pub(super) async fn f6_bytes_that_are_no_text(mut w: World) -> anyhow::Result<()> {
    let log = w.pod("web")?;
    let odd: [&[u8]; 5] = [b"a\0b", b"caf\xE9", b"\xFF\xFE", b"\xED\xA0\x80", b"\xC3"];
    for bytes in odd {
        let text = log.text("stdout");
        log.raw(
            &[b"2026-11-20T10:00:00Z stdout F ", bytes, b" then ", text.as_bytes(), b"\n"].concat(),
        )?;
    }
    w.start()?;
    w.delivered().await?;
    let texts = w.sink.texts();
    ensure!(texts[0].starts_with("a\0b then"), "{:?}", texts[0]);
    for text in &texts[1..] {
        ensure!(text.contains('\u{FFFD}') && text.contains(" then "), "{text:?}");
    }
    w.finish().await
}

pub(super) async fn f7_lines_without_a_head(mut w: World) -> anyhow::Result<()> {
    let log = w.pod("web")?;
    let mut odd = Vec::new();
    for head in
        ["2026-11-20T10:00:00Z stdout 2026-11-20T10:00:00Z stdout F ", "no head at all ", "\t"]
    {
        log.lines(1)?;
        let text = log.text("stdout");
        log.raw(format!("{head}{text}\n").as_bytes())?;
        odd.push(text);
    }
    log.lines(1)?;
    w.start()?;
    w.delivered().await?;
    for text in &odd {
        ensure!(line(&w, text)?.metadata.contains_key("taffrail_raw"), "{text}");
    }
    let raw = w.counter("taffrail_tail_marked_lines_total", "raw").await;
    ensure!(raw == Some(3.0), "{raw:?} counted");
    w.finish().await
}

pub(super) async fn f8_tags_offsets_fractions(mut w: World) -> anyhow::Result<()> {
    let log = w.pod("web")?;
    let heads = [
        ("2026-11-20T10:00:00Z stdout F:x ", 1_795_168_800_000_000_000_u64),
        ("2026-11-20T18:00:00.5+08:00 stdout F ", 1_795_168_800_500_000_000),
        ("2026-11-20T10:00:01.123456789Z stdout F ", 1_795_168_801_123_456_789),
        ("2026-11-20T10:00:02.1Z stderr F ", 1_795_168_802_100_000_000),
    ];
    let mut texts = Vec::new();
    for (head, time) in heads {
        let text = log.text(if head.contains("stderr") { "stderr" } else { "stdout" });
        log.raw(format!("{head}tab\there {text}\n").as_bytes())?;
        texts.push((text, time));
    }
    let text = log.text("stdout");
    log.raw(b"2026-11-20T10:00:03Z stdout P:y begin, \n")?;
    log.raw(format!("2026-11-20T10:00:04Z stdout F {text}\n").as_bytes())?;
    w.start()?;
    w.delivered().await?;
    for (text, time) in texts {
        let found = line(&w, &text)?;
        ensure!(found.text == format!("tab\there {text}"), "{found:?}");
        ensure!(found.time == time, "{found:?}, expected {time}");
    }
    ensure!(line(&w, &text)?.text == format!("begin, {text}"));
    w.finish().await
}

pub(super) async fn f9_docker_json(mut w: World) -> anyhow::Result<()> {
    let log = w.pod("web")?;
    let json = |text: &str| serde_json::json!({"log": text, "stream": "stdout", "time": "2026-11-20T10:00:00.5Z"});
    let (split, escaped) = (log.text("stdout"), log.text("stdout"));
    for text in ["first piece, ", &format!("{split}\n"), &format!("\u{1F41F} \0 \"{escaped}\"\n")] {
        log.raw(format!("{}\n", json(text)).as_bytes())?;
    }
    w.start()?;
    w.delivered().await?;
    ensure!(line(&w, &split)?.text == format!("first piece, {split}"));
    ensure!(line(&w, &escaped)?.text == format!("\u{1F41F} \0 \"{escaped}\""));
    w.finish().await
}

pub(super) async fn f10_odd_but_legal(mut w: World) -> anyhow::Result<()> {
    let log = w.pod("web")?;
    let fields: String = (0..10_000).map(|n| format!(r#""f{n}":{n},"#)).collect();
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    let odd: [(String, &str); 6] = [
        (format!(r#"{{{fields}"msg":""#), r#""}"#),
        (format!(r#"{{"deep":{deep},"msg":""#), r#""}"#),
        (r#"{"a":1,"a":2,"msg":""#.to_owned(), r#""}"#),
        ("\u{1b}[31mred\u{1b}[0m ".to_owned(), ""),
        ("carriage ".to_owned(), "\r"),
        (String::new(), " "),
    ];
    for (before, after) in odd {
        let text = log.text("stdout");
        log.piece("stdout F", &format!("{before}{text}{after}"))?;
        log.lines(1)?;
    }
    w.finish().await
}

pub(super) async fn f13_times_are_those_of_the_runtime(mut w: World) -> anyhow::Result<()> {
    let log = w.pod("web")?;
    let late = ["2026-11-20T10:00:05Z", "2026-11-20T08:00:00Z", "2026-11-20T10:00:01Z"];
    let mut texts = Vec::new();
    for time in late {
        let text = log.text("stdout");
        log.raw(format!("{time} stdout F {text}\n").as_bytes())?;
        texts.push(text);
    }
    let start = Instant::now();
    w.start()?;
    w.delivered().await?;
    ensure!(start.elapsed() < Duration::from_secs(30), "old times are no reason to wait");
    let seconds: Vec<u64> = texts
        .iter()
        .map(|text| Ok(line(&w, text)?.time / 1_000_000_000))
        .collect::<anyhow::Result<_>>()?;
    ensure!(seconds == [1_795_168_805, 1_795_161_600, 1_795_168_801], "{seconds:?}");
    w.finish().await
}
