//! Loki's live tail: a real websocket client and a real collector.

use std::collections::BTreeSet;

use futures_util::StreamExt;
use serde_json::{Value, json};
use taffrail_kit::clock;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::harness::{JSON, Running};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn tail(running: &Running, params: &str) -> Result<Socket, Error> {
    let url = format!("ws://{}/loki/api/v1/tail?{params}", running.http);
    connect_async(url).await.map(|(socket, _)| socket)
}

async fn push(running: &Running, lines: &[String]) {
    let ts = clock::unix_nanos();
    let values: Vec<Value> =
        lines.iter().zip(ts..).map(|(line, ts)| json!([ts.to_string(), line])).collect();
    let body = json!({ "streams": [{ "stream": { "app": "t" }, "values": values }] });
    let answer = running.post("/loki/api/v1/push", &[JSON], body.to_string()).await;
    assert_eq!(answer.status, 204, "{}", answer.text());
}

/// The next frame of text; pings are answered by the client itself.
async fn frame(socket: &mut Socket) -> Value {
    loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn lines_of(frame: &Value) -> Vec<String> {
    let streams = frame["streams"].as_array().unwrap().iter();
    let values = streams.flat_map(|stream| stream["values"].as_array().unwrap());
    values.map(|value| value[1].as_str().unwrap().to_owned()).collect()
}

/// Code and reason of the close frame that must come next.
async fn closed(socket: &mut Socket) -> (u16, String) {
    loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Close(Some(frame)) => return (frame.code.into(), frame.reason.to_string()),
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_lines_come_first_then_the_new_ones_each_once() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    push(&running, &["1 skipped".into(), "2 old level=warn".into(), "3 old".into()]).await;
    let query = "query=%7Bapp%3D%22t%22%7D%20%21~%20%22hidden%22";
    let mut socket = tail(&running, &format!("{query}&limit=2")).await.unwrap();
    let first = frame(&mut socket).await;
    let mut lines = lines_of(&first);
    lines.sort();
    assert_eq!(lines, ["2 old level=warn", "3 old"], "{first}");
    let warned = json!({ "app": "t", "detected_level": "warn", "service_name": "t" });
    let streams = first["streams"].as_array().unwrap();
    assert!(streams.iter().any(|stream| stream["stream"] == warned), "{first}");
    assert!(first.get("dropped_entries").is_none(), "{first}");
    push(&running, &["4 hidden".into(), "5 new level=warn".into()]).await;
    let next = frame(&mut socket).await;
    assert_eq!(lines_of(&next), ["5 new level=warn"]);
    assert_eq!(next["streams"][0]["stream"], warned, "a live line has its level too");
    socket.close(None).await.unwrap();
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_tailed_is_refused_as_loki_does() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let query = "query=%7Bapp%3D%22t%22%7D";
    for (params, reason) in [
        ("query=%7B", "parse error at line 1, col 2"),
        ("", "parse error : syntax error: unexpected $end"),
        (&*format!("{query}&delay_for=9"), "delay_for can't be greater than 5"),
        (&*format!("{query}&limit=0"), "limit must be a positive value"),
    ] {
        match tail(&running, params).await {
            Err(Error::Http(answer)) => {
                let body = String::from_utf8(answer.body().clone().unwrap_or_default()).unwrap();
                assert_eq!(answer.status(), 400, "{params}");
                assert!(body.starts_with(reason), "{params}: {body}");
            }
            other => panic!("{params}: {other:?}"),
        }
    }
    let numbers = "query=rate(%7Bapp%3D%22t%22%7D%5B1m%5D)";
    let mut socket = tail(&running, numbers).await.unwrap();
    let wanted = (1011, "only log selector is supported".to_owned());
    assert_eq!(closed(&mut socket).await, wanted);
    // A tail that waits for lines ends with the collector.
    let mut socket = tail(&running, query).await.unwrap();
    let (_, close) = tokio::join!(running.stop(), closed(&mut socket));
    assert_eq!(close, (1001, "the collector ends".to_owned()));
}

/// Four seconds of 2,000 lines a second, as fast as they are taken: each line is shown or named.
#[tokio::test(flavor = "multi_thread")]
async fn many_lines_are_all_shown_or_named() {
    const LINES: usize = 8000;
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let query = "query=%7Bapp%3D%22t%22%7D";
    let mut eager = tail(&running, query).await.unwrap();
    let mut lazy = tail(&running, query).await.unwrap();
    // Both are subscribed once they have shown a line.
    push(&running, &["first".into()]).await;
    assert_eq!(lines_of(&frame(&mut eager).await), ["first"]);
    assert_eq!(lines_of(&frame(&mut lazy).await), ["first"]);

    let pusher = async {
        for batch in 0..LINES / 200 {
            let lines: Vec<String> =
                (0..200).map(|at| format!("{} {}", batch * 200 + at, "x".repeat(3000))).collect();
            push(&running, &lines).await;
        }
    };
    let reader = async {
        let (mut seen, mut dropped) = (BTreeSet::new(), 0);
        while seen.len() + dropped < LINES {
            let frame = frame(&mut eager).await;
            dropped += frame["dropped_entries"].as_array().map_or(0, Vec::len);
            seen.extend(lines_of(&frame));
        }
        (seen.len(), dropped)
    };
    let ((), (seen, dropped)) = tokio::join!(pusher, reader);
    assert_eq!((seen, dropped), (LINES, 0), "a client that reads loses nothing");

    // The first lines wait for the client, however slow: they are not new.
    let mut late = tail(&running, &format!("{query}&limit=5000")).await.unwrap();
    let mut first = 0;
    while first < 5000 {
        let frame = frame(&mut late).await;
        assert!(frame.get("dropped_entries").is_none(), "15 MB of first lines");
        first += lines_of(&frame).len();
    }

    // One that did not read is told what it missed.
    let (mut seen, mut missed) = (0, 0);
    while seen + missed < LINES {
        let frame = frame(&mut lazy).await;
        seen += lines_of(&frame).len();
        missed += frame["dropped_entries"].as_array().map_or(0, Vec::len);
        missed += frame["dropped_more"].as_u64().unwrap_or(0) as usize;
    }
    assert_eq!(seen + missed, LINES);
    assert!(missed > 0, "24 MB do not fit into the queue and the socket's buffers");
    running.stop().await;
}
