//! Random writing, rotation, kills and failures of the collector: every line once, in order.

use super::world::{STDOUT, World, append, compress, cri};
use crate::ship::fake::Fault;
use std::collections::HashMap;
use std::fs;
use std::path::Path;

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

/// What becomes of rotated files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rotated {
    /// They stay.
    Stay,
    /// They are compressed, as the kubelet does. Then a request that is still under way when its
    /// agent dies must not be kept later: the content of a compressed file is known by what is
    /// committed when the next agent asks.
    Packed,
    /// They are removed, and the collector is away half of the time.
    Removed,
}

async fn run(seed: u64, rotated: Rotated) {
    let mut random = Random(seed | 1);
    let mut w = World::new().await;
    let packing = rotated == Rotated::Packed;
    let mut down = false;
    if rotated == Rotated::Removed {
        w.with_spool(1 << 20);
    }
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
                    rotate(&path, &mut rotations[pod], packing);
                }
            }
            append(&path.join("0.log"), &cri(&format!("{stream} F"), &text));
            let whole: String = (0..pieces).map(|p| format!("{p}.")).collect();
            written.entry((pod, stream)).or_default().push(format!("{whole}{text}"));
        }
        match random.below(10) {
            0 => rotate(&path, &mut rotations[pod], packing),
            1 => {
                w.kill().await;
                if packing {
                    w.fake.fence().await;
                }
                w.start();
            }
            2 if !down => {
                let seen = w.fake.with(|k| k.requests);
                append(&path.join("0.log"), &cri(STDOUT, "tick"));
                written.entry((pod, "stdout")).or_default().push("tick".into());
                w.fake.until("a request", |k| k.requests > seen).await;
            }
            3 | 4 if rotated == Rotated::Removed => {
                down = !down;
                w.fake.set_down(down);
            }
            _ => {}
        }
        if rotated == Rotated::Removed && random.below(3) == 0 {
            remove(&w, &w.folder.path().join(folder(pod))).await;
        }
    }
    w.fake.set_down(false);
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
    for (stream, sent) in &written {
        let came = found.remove(stream).unwrap_or_default();
        let at = sent.iter().zip(&came).position(|(a, b)| a != b).unwrap_or(sent.len());
        let around = at.saturating_sub(3)..;
        let (sent_here, came_here) = (sent.get(around.clone()), came.get(around));
        assert_eq!(came.len(), sent.len(), "seed {seed} {stream:?} {sent_here:?} {came_here:?}");
        assert_eq!(at, sent.len(), "seed {seed} {stream:?} {sent_here:?} {came_here:?}");
    }
    assert!(found.is_empty(), "{found:?}");
}

fn w_folder(pods: &[&str], pod: usize) -> String {
    format!("pods/ns_pod_uid/{}", pods[pod])
}

/// As the kubelet: the file rotated before is compressed, the live file gets a time.
fn rotate(folder: &Path, count: &mut u32, packing: bool) {
    if folder.join("0.log").exists() {
        let before = folder.join(format!("0.log.20261120-{count:06}"));
        if packing && before.exists() {
            compress(&before);
        }
        *count += 1;
        fs::rename(folder.join("0.log"), folder.join(format!("0.log.20261120-{count:06}")))
            .unwrap();
    }
}

/// Removes what is rotated, once nobody else holds it.
async fn remove(w: &World, folder: &Path) {
    let names = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let old: Vec<_> = names.filter(|p| p.extension().is_some_and(|e| e != "log")).collect();
    w.until_safe(&old).await;
    old.iter().for_each(|path| fs::remove_file(path).unwrap());
}

#[tokio::test]
async fn every_line_once_and_in_order() {
    let seeds = std::env::var_os("SEEDS").and_then(|s| s.to_str()?.parse().ok()).unwrap_or(6);
    for seed in 1..=seeds {
        eprintln!("seed {seed}");
        let all = [Rotated::Removed, Rotated::Stay, Rotated::Packed];
        run(seed, all[(seed % 3) as usize]).await;
    }
}
