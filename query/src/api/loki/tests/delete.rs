//! Deletion requests over HTTP, against recorded answers of Loki where there are some.

use std::io::Write as _;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use taffrail_model::Nanos;

use super::{owned, send, uri};
use crate::deletion::{Deletion, DeletionError, Erasure, Lines, LogDeletion, Stage};

const PATH: &str = "/loki/api/v1/delete";

/// Takes every request and does nothing.
#[derive(Default)]
struct Requests(Mutex<Vec<Deletion>>);

impl LogDeletion for Requests {
    fn request(&self, query: &str, start: Nanos, end: Nanos) -> Result<String, DeletionError> {
        Lines::of_query(query)?;
        let mut all = self.0.lock().unwrap();
        if all.len() == 3 {
            return Err(DeletionError::TooMany("three are enough".into()));
        }
        let (id, query) = (format!("{}", all.len()), query.to_owned());
        let created = 1_795_188_723_483_999_999;
        let stage = Stage::Received;
        all.push(Deletion { id: id.clone(), query, start, end, created, stage, erasure: None });
        Ok(id)
    }

    fn list(&self) -> Vec<Deletion> {
        self.0.lock().unwrap().clone()
    }

    fn cancel(&self, id: &str) -> Result<(), DeletionError> {
        let mut all = self.0.lock().unwrap();
        let known = all.iter_mut().find(|d| d.id == id).ok_or(DeletionError::Unknown)?;
        if known.stage != Stage::Received {
            return Err(DeletionError::TooLate("too late".into()));
        }
        known.stage = Stage::Cancelled;
        Ok(())
    }
}

fn router(store: &Arc<Requests>) -> axum::Router {
    crate::api::deletion_router(store.clone())
}

async fn ask(store: &Arc<Requests>, method: &str, params: &[(&str, &str)]) -> (StatusCode, String) {
    let request = Request::builder().method(method).uri(uri(PATH, &owned(params)));
    send(&router(store), request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn requests_are_taken_listed_and_cancelled() {
    let store = Arc::new(Requests::default());
    assert_eq!(ask(&store, "GET", &[]).await, (StatusCode::OK, "[]\n".into()));
    let query = r#"{app="gz"}"#;
    let params = [("query", query), ("start", "1595187400"), ("end", "1595187460.5")];
    assert_eq!(ask(&store, "POST", &params).await, (StatusCode::NO_CONTENT, String::new()));
    // The end is now; a form does as well.
    let form = "query=%7Bapp%3D%22a%22%7D&start=1";
    let request = Request::put(PATH).header("content-type", "application/x-www-form-urlencoded");
    let (status, body) = send(&router(&store), request.body(Body::from(form)).unwrap()).await;
    assert_eq!((status, body.as_str()), (StatusCode::NO_CONTENT, ""));
    assert!(store.list()[1].end > 1_595_187_460_000_000_000);
    assert_eq!(ask(&store, "DELETE", &[("request_id", "1")]).await.0, StatusCode::NO_CONTENT);
    store.0.lock().unwrap()[0].stage = Stage::Processed;
    store.0.lock().unwrap()[0].erasure = Some(Erasure {
        began: 5_000_000_000,
        lines: 7,
        bytes: 70,
        ended: Some(6_000_000_000),
        problem: None,
    });
    let (status, body) = ask(&store, "GET", &[]).await;
    let list: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, StatusCode::OK);
    let first = json!({
        "request_id": "0", "start_time": 1_595_187_400, "end_time": 1_595_187_460.5, "query": query,
        "status": "processed", "created_at": 1_795_188_723.483, "user_id": "",
        "erasing_since": 5, "lines": 7, "bytes": 70, "completed_at": 6,
    });
    assert_eq!((&list[0], &list[1]["status"]), (&first, &json!("cancelled")));
}

#[tokio::test]
async fn what_is_wrong_is_refused() {
    let store = Arc::new(Requests::default());
    let query = ("query", r#"{app="a"}"#);
    type Params<'p> = &'p [(&'p str, &'p str)];
    let cases: [(&str, Params<'_>, u16, &str); 10] = [
        ("POST", &[("start", "1")], 400, "query not set"),
        ("POST", &[query], 400, "start time not set"),
        ("POST", &[query, ("start", "x")], 400, "could not parse 'start'"),
        ("POST", &[query, ("start", "2"), ("end", "1")], 400, "start time can't be greater"),
        ("POST", &[query, ("start", "1"), ("end", "9000000000")], 400, "deletes in the future"),
        ("POST", &[("query", "{"), ("start", "1")], 400, "invalid query expression"),
        (
            "POST",
            &[("query", r#"{a="b"} | json"#), ("start", "1")],
            400,
            "invalid query expression",
        ),
        ("DELETE", &[], 400, "request_id not set"),
        ("DELETE", &[("request_id", "nope")], 404, "could not find delete request"),
        ("PATCH", &[], 405, ""),
    ];
    for (method, params, status, why) in cases {
        let (found, body) = ask(&store, method, params).await;
        assert_eq!(found.as_u16(), status, "{method} {params:?}: {body}");
        assert!(body.starts_with(why), "{method} {params:?}: {body}");
    }
    for _ in 0..3 {
        assert_eq!(ask(&store, "POST", &[query, ("start", "1")]).await.0.as_u16(), 204);
    }
    assert_eq!(ask(&store, "POST", &[query, ("start", "1")]).await.0.as_u16(), 429);
    store.0.lock().unwrap()[0].stage = Stage::Erasing;
    assert_eq!(ask(&store, "DELETE", &[("request_id", "0")]).await.0.as_u16(), 400);
}

#[tokio::test]
async fn recorded_exchanges() {
    let dir = crate::logql::conformance::data_dir("FIXTURES_DIR", "fixtures");
    let path = dir.join("loki-http-golden.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        let _ = writeln!(std::io::stderr(), "SKIPPED: {} not found", path.display());
        return;
    };
    let data: Value = serde_json::from_str(&text).expect("valid JSON");
    let store = Arc::new(Requests::default());
    let mut compared = 0;
    for exchange in data["exchanges"].as_array().expect("exchanges") {
        if exchange["path"] != PATH {
            continue;
        }
        let params = exchange["params"].as_object().into_iter().flatten();
        let params: Vec<_> = params.map(|(n, v)| (n.as_str(), v.as_str().unwrap_or(""))).collect();
        let (status, body) = ask(&store, exchange["method"].as_str().unwrap(), &params).await;
        assert_eq!(Some(u64::from(status.as_u16())), exchange["status"].as_u64(), "{exchange}");
        match &exchange["body"] {
            // Ours says more of what is wrong.
            Value::String(text) => assert!(body.starts_with(text.trim_end()), "{body}"),
            recorded => {
                let mut found: Value = serde_json::from_str(&body).unwrap();
                for request in found.as_array_mut().unwrap() {
                    request["request_id"] = "9c039569".into();
                }
                assert_eq!(&found, recorded);
            }
        }
        compared += 1;
    }
    assert!(compared >= 7, "{compared} exchanges were compared");
}
