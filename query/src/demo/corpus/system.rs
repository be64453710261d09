//! What the machinery below the applications says: syslog, klog (Kubernetes' own components) and
//! PostgreSQL.

use super::{Line, Voice};

const UNITS: [&str; 6] = ["systemd", "sshd", "kernel:", "containerd", "chronyd", "dhclient"];

/// `<month> <day> <time> <host> <process>[pid]: text`
pub(super) fn write_syslog(line: &mut Line<'_>, voice: &Voice) {
    let (pid, port, number) =
        (line.random.skewed(32_000), line.random.below(30_000), line.random.below(90_000));
    line.time_syslog().text(" ").text(&voice.host).text(" ").pick(&UNITS).text("[");
    line.number(400 + pid).text("]: ");
    if line.random.chance(voice.errors_per_mille) {
        line.text("error: kex_exchange_identification: Connection closed by remote host ").client();
        line.text(" port ").number(20_000 + port);
        return;
    }
    match line.random.skewed(4) {
        0 => {
            line.text("Accepted publickey for deploy from ").client().text(" port ");
            line.number(20_000 + port).text(" ssh2: ED25519 SHA256:").hex(16).hex(6);
        }
        1 => {
            line.text("Started session ").number(number).text(" of user deploy, scope session-");
            line.number(number).text(".scope, ").number(port % 97).text(" tasks, memory ");
            line.number(port % 900).text(".").number(port % 10).text("M");
        }
        2 => {
            line.text("eth0: IN= OUT=eth0 SRC=").pod_address().text(" DST=").client();
            line.text(" LEN=").number(40 + port % 1460).text(" TTL=64 ID=").number(number);
            line.text(" PROTO=TCP SPT=443 DPT=").number(20_000 + port);
        }
        _ => {
            line.text("Selected source ").client().text(" (offset 0.000").padded(number % 1000, 3);
            line.text("s, jitter 0.000").padded(port % 1000, 3).text("s, stratum 2)");
        }
    }
}

/// `I1120 14:51:32.123456       1 file.go:12] "message" key="value"`
pub(super) fn write_klog(line: &mut Line<'_>, voice: &Voice) {
    let failed = line.random.chance(voice.errors_per_mille);
    let severity = if failed { "E" } else { line.random.pick_skewed(&["I", "I", "I", "W"]) };
    let (at, retries, millis) =
        (line.random.skewed(60), line.random.below(12), line.random.long_tailed(80));
    line.text(severity).time_klog().text("       1 ");
    line.pick(&[
        "controller.go:",
        "reflector.go:",
        "event.go:",
        "proxier.go:",
        "leaderelection.go:",
    ]);
    line.number(80 + at * 11).text("] ");
    if failed {
        line.text(
            "\"Failed to update lease, will retry\" err=\"Operation cannot be fulfilled on leases ",
        );
        line.text("\\\"node-").number(at).text("\\\": the object has been modified\" retries=");
        line.number(retries).text(" uid=\"").uuid().text("\"");
        return;
    }
    line.text("\"").pick(&["Synced endpoints", "Watch closed", "Pod updated", "Reconciled object"]);
    line.text("\" object=\"")
        .pick(&["shop/checkout", "shop/storefront", "data/postgres"])
        .text("-");
    line.hex(10)
        .text("-")
        .hex(5)
        .text("\" resourceVersion=\"")
        .number(48_000_000 + u64::from(millis));
    line.padded(retries * 83, 3)
        .text("\" uid=\"")
        .uuid()
        .text("\" duration=\"")
        .number(millis)
        .text("ms\"");
}

/// PostgreSQL with `log_line_prefix = '%m [%p] %q%u@%d '`.
pub(super) fn write_postgres(line: &mut Line<'_>, voice: &Voice) {
    let (pid, key, micros) =
        (line.random.skewed(180), line.random.below(4_000_000), line.random.long_tailed(2900));
    line.time_spaced(".").text(" UTC [").number(70 + pid).text("] ");
    line.pick(&["app@shop ", "app@payments ", "report@shop "]);
    if line.random.chance(voice.errors_per_mille) {
        line.text("ERROR:  duplicate key value violates unique constraint \"orders_pkey\" ");
        line.text("DETAIL:  Key (id)=(").uuid().text(") already exists.");
        return;
    }
    line.text("LOG:  duration: ")
        .number(micros / 1000)
        .text(".")
        .padded(micros % 1000, 3)
        .text(" ms  ");
    match line.random.skewed(4) {
        0 => {
            line.text(
                "execute <unnamed>: SELECT id, status, total FROM orders WHERE customer_id = ",
            );
            line.number(key).text(" ORDER BY created_at DESC LIMIT 20");
        }
        1 => {
            line.text("execute s17: UPDATE carts SET items = items + 1, version = ")
                .number(key % 90);
            line.text(" WHERE id = '").uuid().text("'");
        }
        2 => {
            line.text("statement: INSERT INTO payments (id, order_id, cents) VALUES ('").uuid();
            line.text("', ").number(key).text(", ").number(micros).text(")");
        }
        _ => {
            line.text("checkpoint complete: wrote ").number(key % 9000).text(" buffers (");
            line.hundredths(pid * 7).text("%); sync files=").number(pid).text(", lsn=0/").hex(8);
        }
    }
}
