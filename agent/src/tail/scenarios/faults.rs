//! Random writing, rotation, kills and failures of the collector: every line once, in order.

use super::world::{STDOUT, World, append, cri};
use crate::ship::fake::Fault;
use std::collections::HashMap;
use std::fs;

/// A small generator, so that a seed repeats a run's decisions.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

async fn run(seed: u64) {
    let mut random = Random(seed | 1);
    let mut w = World::new().await;
    w.config.batch_bytes = 600;
    let mut faulty = Random(seed.wrapping_mul(77) | 1);
    w.fake.faults(move |_| match faulty.below(12) {
        0 => Fault::Unavailable,
        1 => Fault::AnswerLost,
        _ => Fault::None,
    });
    w.start();
    let pods = ["a", "b", "c"];
    let mut written: HashMap<(usize, &str), Vec<String>> = HashMap::new();
    let mut rotations = [0_u32; 3];
    let folder = |pod: usize| w_folder(&pods, pod);
    for step in 0..60 {
        let pod = random.below(3) as usize;
        let path = w.folder.path().join(folder(pod));
        fs::create_dir_all(&path).unwrap();
        for line in 0..random.below(8) {
            let stream = if random.below(3) == 0 { "stderr" } else { "stdout" };
            let text = format!("{pod}-{step}-{line}");
            let pieces = random.below(3);
            for piece in 0..pieces {
                append(&path.join("0.log"), &cri(&format!("{stream} P"), &format!("{piece}.")));
                if random.below(6) == 0 {
                    rotate(&path, &mut rotations[pod]);
                }
            }
            append(&path.join("0.log"), &cri(&format!("{stream} F"), &text));
            let whole: String = (0..pieces).map(|p| format!("{p}.")).collect();
            written.entry((pod, stream)).or_default().push(format!("{whole}{text}"));
        }
        match random.below(10) {
            0 => rotate(&path, &mut rotations[pod]),
            1 => {
                w.kill().await;
                w.start();
            }
            2 => {
                let seen = w.fake.with(|k| k.requests);
                append(&path.join("0.log"), &cri(STDOUT, "tick"));
                written.entry((pod, "stdout")).or_default().push("tick".into());
                w.fake.until("a request", |k| k.requests > seen).await;
            }
            _ => {}
        }
    }
    let total: usize = written.values().map(Vec::len).sum();
    w.fake.until("all lines", |k| k.lines.len() >= total).await;
    w.settled().await;
    w.stop().await;
    let mut found: HashMap<(usize, &str), Vec<String>> = HashMap::new();
    w.fake.with(|k| {
        for line in &k.lines {
            let label = |name: &str| &line.labels.iter().find(|l| l.0 == name).unwrap().1;
            let pod = pods.iter().position(|p| label("name").starts_with(p)).unwrap();
            let stream = if label("stream") == "Stderr" { "stderr" } else { "stdout" };
            found.entry((pod, stream)).or_default().push(line.text.clone());
        }
    });
    assert_eq!(found, written, "seed {seed}");
}

fn w_folder(pods: &[&str], pod: usize) -> String {
    format!("pods/ns_pod_uid/{}", pods[pod])
}

/// As the kubelet: the live file gets a time, the one before it is left plain.
fn rotate(folder: &std::path::Path, count: &mut u32) {
    if folder.join("0.log").exists() {
        *count += 1;
        fs::rename(folder.join("0.log"), folder.join(format!("0.log.20261120-{count:06}")))
            .unwrap();
    }
}

#[tokio::test]
async fn every_line_once_and_in_order() {
    for seed in 1..=6 {
        run(seed).await;
    }
}
