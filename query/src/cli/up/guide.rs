//! What `up` tells the person who started it: where everything is, and three commands to try.

use std::fmt::Write as _;
use std::path::Path;

use super::ports::{HTTP, Ports};

/// The text. `with_agent`: an agent reads logs; `with_demo`: those of the demo.
pub(super) fn text(ports: &Ports, data: &Path, with_agent: bool, with_demo: bool) -> String {
    let mut text = String::from("Taffrail is running. Ctrl-C stops it.\n\n");
    let url = ports.url();
    let mut line = |name: &str, what: &str| {
        writeln!(text, "  {name:<12} {what}").expect("writing to a String does not fail");
    };
    line(
        "queries",
        &format!("{url}   (Loki and Prometheus APIs; Grafana takes this URL for both)"),
    );
    line("OTLP", &format!("{url}/v1/logs, {url}/v1/metrics; gRPC {}", ports.otlp_grpc));
    line("autoscaling", &format!("https://{}", ports.autoscale));
    if with_agent {
        line("agent", &format!("http://{}/status", ports.agent));
    }
    line("data", &data.display().to_string());
    line("own logs", &data.join("logs").display().to_string());
    text.push_str("\nTry in another terminal:\n\n");
    let addr = match url == format!("http://{HTTP}") {
        true => String::new(),
        false => format!(" --addr {url}"),
    };
    for command in commands(with_demo) {
        writeln!(text, "  taffrail{addr} {command}").expect("writing to a String does not fail");
    }
    text
}

/// Commands that really give output.
fn commands(with_demo: bool) -> [&'static str; 3] {
    if with_demo {
        return [
            "logs -n shop -l app=checkout --tail 20",
            "query 'sum by (app) (count_over_time({namespace=\"shop\"}[1m]))'",
            "metrics 'sum by (app, code) (http_requests_total)'   # after the first scrape, 15 s",
        ];
    }
    ["logs --follow", "labels namespace", "metrics up   # after the first scrape, 15 s"]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_name_the_server_when_it_is_not_the_default() {
        let mut ports = Ports {
            http: HTTP.parse().unwrap(),
            otlp_grpc: "127.0.0.1:4317".parse().unwrap(),
            autoscale: "127.0.0.1:4143".parse().unwrap(),
            agent: "127.0.0.1:4101".parse().unwrap(),
        };
        let guide = text(&ports, Path::new("data"), true, true);
        assert!(guide.contains("\n  taffrail logs -n shop"), "{guide}");
        assert!(guide.contains("agent        http://127.0.0.1:4101/status"), "{guide}");
        ports.http = "0.0.0.0:5100".parse().unwrap();
        let guide = text(&ports, Path::new("data"), false, false);
        assert!(guide.contains("\n  taffrail --addr http://127.0.0.1:5100 logs"), "{guide}");
        assert!(!guide.contains("/status"), "{guide}");
    }
}
