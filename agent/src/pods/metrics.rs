//! What is counted of the pods: read from the snapshot when somebody asks.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGauge, Registry};

use super::Pods;

/// Shows the pods of the moment as gauges.
struct Gauges {
    pods: Pods,
    known: IntGauge,
    synced: IntGauge,
}

/// Shows how many pods are known, and whether the source is heard, in `registry`.
///
/// # Errors
/// When the names are taken.
pub fn register(pods: Pods, registry: &Registry) -> prometheus::Result<()> {
    let known = "Pods that are known, those deleted lately included.";
    let synced = "1 once the pods were listed and as long as their source answers, else 0.";
    registry.register(Box::new(Gauges {
        pods,
        known: IntGauge::new("taffrail_pods_known", known)?,
        synced: IntGauge::new("taffrail_pods_synced", synced)?,
    }))
}

impl Collector for Gauges {
    fn desc(&self) -> Vec<&Desc> {
        [self.known.desc(), self.synced.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let pods = self.pods.now();
        self.known.set(i64::try_from(pods.count()).unwrap_or(i64::MAX));
        self.synced.set(i64::from(pods.synced && pods.problem.is_none()));
        [self.known.collect(), self.synced.collect()].concat()
    }
}
