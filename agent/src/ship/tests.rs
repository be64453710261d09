use super::answer::{escape, pause};
use super::fake::{Fake, Fault};
use super::*;
use crate::batch::{Builder, FileMeta};
use crate::spool;
use crate::tail::join::{Marks, Record, Sink};
use crate::tail::{FileNumber, LogStream};
use prometheus::Registry;
use std::sync::mpsc::{Receiver, sync_channel};
use taffrail_kit::shutdown;
use taffrail_model::Labels;

const FILE: FileNumber = FileNumber(1);

fn builder() -> Builder {
    let mut builder = Builder::default();
    let labels = [Labels::default(), Labels::default(), Labels::default()];
    let meta = FileMeta { source: "n/f".into(), path: "/f".into(), labels, released: 0 };
    builder.declare(FILE, meta);
    builder
}

/// A batch of lines, each ten bytes of the file.
fn batch(builder: &mut Builder, epoch: u64, lines: &[&str]) -> Outgoing {
    let mut end = builder.released(FILE).unwrap();
    for line in lines {
        let text = line.as_bytes();
        builder.record(
            FILE,
            Record { stream: LogStream::Stdout, ts: 1, text, marks: Marks::default() },
        );
        end += 10;
        builder.cut(&[(FILE, end)]);
    }
    let batch = builder.finish(|_, end| end).unwrap();
    let body = zstd::bulk::compress(&batch.encode(), 1).unwrap().into();
    Outgoing { epoch, batch, request: Some(Request { body, zstd: true }) }
}

/// Runs a shipper over batches to its end. Gives what the reader was told.
async fn ship(fake: &Fake, batches: Vec<Outgoing>) -> (Receiver<Event>, Registry) {
    ship_to(fake.client(), batches, None).await
}

async fn ship_to(
    client: Client,
    batches: Vec<Outgoing>,
    spool: Option<spool::Config>,
) -> (Receiver<Event>, Registry) {
    let (sender, receiver) = mpsc::channel(10);
    for batch in batches {
        sender.try_send(Parcel::Batch(batch)).unwrap();
    }
    drop(sender);
    let (events, told) = sync_channel(64);
    let registry = Registry::new();
    let metrics =
        (Metrics::register(&registry).unwrap(), TailMetrics::register(&registry).unwrap());
    let (_trigger, end) = shutdown::channel();
    let spool_metrics = spool::Metrics::register(&registry).unwrap();
    let spool = spool.map(|config| Spool::new(config, spool::View::default(), spool_metrics));
    Shipper::new(client, "n".into(), events, metrics, spool).run(receiver, end).await;
    (told, registry)
}

fn told(events: &Receiver<Event>) -> Vec<String> {
    events
        .try_iter()
        .map(|e| match e {
            Event::Positions { known, firm, .. } => {
                format!("{}positions {}", if firm { "" } else { "blind " }, known.len())
            }
            Event::Mode(mode) => format!("away {}", mode.take()),
            Event::Acknowledged(ends) => format!("ack {:?}", ends.iter().map(|e| e.1).max()),
            Event::Conflict(p) => format!("conflict {}", p[0].committed),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn counted(registry: &Registry, name: &str, label: &str) -> u64 {
    let families = registry.gather();
    let family = families.iter().find(|f| f.name() == name);
    let metric = family.and_then(|f| {
        f.get_metric().iter().find(|m| m.get_label().iter().any(|l| l.value() == label))
    });
    metric.map_or(0, |m| m.get_counter().get_value() as u64)
}

#[tokio::test]
async fn in_order_through_failures() {
    let fake = Fake::start().await;
    fake.faults(|n| match n {
        1 => Fault::Unavailable,
        3 => Fault::AnswerLost,
        _ => Fault::None,
    });
    let mut b = builder();
    let batches =
        vec![batch(&mut b, 0, &["a", "b"]), batch(&mut b, 0, &["c"]), batch(&mut b, 0, &["d"])];
    let (events, registry) = ship(&fake, batches).await;
    assert_eq!(fake.with(|k| k.texts().join(" ")), "a b c d");
    assert_eq!(told(&events), ["positions 0", "ack Some(20)", "ack Some(30)", "ack Some(40)"]);
    assert_eq!(counted(&registry, "taffrail_ship_retries_total", "server"), 2);
    assert_eq!(counted(&registry, "taffrail_ship_batches_total", "accepted"), 3);
}

#[tokio::test]
async fn only_the_guilty_line_is_left_out() {
    let fake = Fake::start().await;
    fake.poison("bad");
    let mut b = builder();
    let (events, registry) =
        ship(&fake, vec![batch(&mut b, 0, &["1", "2", "bad", "4", "5"]), batch(&mut b, 0, &["6"])])
            .await;
    assert_eq!(fake.with(|k| k.texts().join(" ")), "1 2 4 5 6");
    assert_eq!(told(&events), ["positions 0", "ack Some(50)", "ack Some(60)"]);
    assert_eq!(counted(&registry, "taffrail_ship_dropped_lines_total", "refused"), 1);
    assert_eq!(fake.with(|k| k.positions["n/f"]), (60, 60));
}

#[tokio::test]
async fn what_is_too_large_is_halved() {
    let fake = Fake::start().await;
    fake.lines_max(2);
    let lines: Vec<String> = (0..9).map(|n| n.to_string()).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let (_, registry) = ship(&fake, vec![batch(&mut builder(), 0, &lines)]).await;
    assert_eq!(fake.with(|k| k.texts().concat()), "012345678");
    assert_eq!(counted(&registry, "taffrail_ship_dropped_lines_total", "too_large"), 0);
}

#[tokio::test]
async fn a_conflict_voids_what_is_queued() {
    let fake = Fake::start().await;
    fake.with(|k| k.positions.insert("n/f".into(), (10, 7)));
    let mut b = builder();
    let queued = vec![batch(&mut b, 0, &["a", "b"]), batch(&mut b, 0, &["c"])];
    b.rewind(|_| Some(10));
    let again = batch(&mut b, 1, &["b", "c"]);
    let (events, registry) = ship(&fake, queued.into_iter().chain([again]).collect()).await;
    assert_eq!(told(&events), ["positions 1", "ack None", "conflict 10", "ack Some(30)"]);
    assert_eq!(fake.with(|k| k.texts().join(" ")), "b c");
    assert_eq!(counted(&registry, "taffrail_ship_batches_total", "void"), 1);
}

#[tokio::test]
async fn a_busy_collector_is_given_its_time() {
    let fake = Fake::start().await;
    fake.faults(|n| if n == 1 { Fault::Busy } else { Fault::None });
    let start = std::time::Instant::now();
    let (_, registry) = ship(&fake, vec![batch(&mut builder(), 0, &["a"])]).await;
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert_eq!(counted(&registry, "taffrail_ship_retries_total", "busy"), 1);
}

#[tokio::test]
async fn what_a_hanging_collector_does_not_take_is_spooled_and_sent_later() {
    let dir = tempfile::tempdir().unwrap();
    let config = spool::Config {
        dir: dir.path().into(),
        bytes_max: 1 << 20,
        after: Duration::from_millis(50),
    };
    // It accepts, and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Client::new(&format!("http://{}", silent.local_addr().unwrap())).unwrap();
    let mut b = builder();
    let batches = vec![batch(&mut b, 0, &["a", "b"]), batch(&mut b, 0, &["c"])];
    let (events, registry) = ship_to(client, batches, Some(config.clone())).await;
    let expected = ["away true", "blind positions 0", "ack Some(20)", "ack Some(30)"];
    assert_eq!(told(&events), expected);
    assert_eq!(counted(&registry, "taffrail_ship_batches_total", "spooled"), 2);

    // The collector has a line of it already, under another cut. What is new comes behind it.
    let fake = Fake::start().await;
    fake.with(|k| k.positions.insert("n/f".into(), (10, 10)));
    fake.faults(|n| if n == 2 { Fault::AnswerLost } else { Fault::None });
    let (sender, receiver) = mpsc::channel(10);
    let (events, told_later) = sync_channel(64);
    let registry = Registry::new();
    let metrics =
        (Metrics::register(&registry).unwrap(), TailMetrics::register(&registry).unwrap());
    let spool =
        Spool::new(config, spool::View::default(), spool::Metrics::register(&registry).unwrap());
    let (_trigger, end) = shutdown::channel();
    let shipper = Shipper::new(fake.client(), "n".into(), events, metrics, Some(spool));
    let shipping = tokio::spawn(shipper.run(receiver, end));
    fake.until("what was spooled", |k| k.lines.len() == 2).await;
    let mut heard = Vec::new();
    while heard.last().map(String::as_str) != Some("away false") {
        heard.extend(told(&told_later));
        tokio::task::yield_now().await;
    }
    sender.send(Parcel::Batch(batch(&mut b, 0, &["d"]))).await.unwrap();
    drop(sender);
    shipping.await.unwrap();
    assert_eq!(fake.with(|k| k.texts().join(" ")), "b c d");
    heard.extend(told(&told_later));
    assert_eq!(heard, ["away true", "positions 1", "away false", "ack Some(40)"]);
}

#[test]
fn pauses_grow_and_are_bounded() {
    for (attempt, most) in [(0, 100), (1, 200), (5, 3200), (20, 5000), (u32::MAX, 5000)] {
        let pause = pause(attempt).as_millis();
        assert!(pause >= most / 2 && pause <= most, "{attempt}: {pause}");
    }
}

#[test]
fn names_of_nodes_are_escaped() {
    let text: String = "a b/ü%".bytes().map(escape).collect();
    assert_eq!(text, "a%20b%2F%C3%BC%25");
}
