//! Java services with log4j's layout. A stack trace is many lines, each written by a call of its
//! own, exactly as a container's runtime sees them.

use super::{Line, Voice};

const EVENTS: [(&str, &str); 6] = [
    ("c.e.payments.ChargeService", "Charge authorised"),
    ("c.e.payments.api.ChargeController", "POST /charges"),
    ("o.a.k.c.consumer.ConsumerCoordinator", "Committed offset"),
    ("c.e.payments.ledger.LedgerWriter", "Entry booked"),
    ("c.z.hikari.pool.HikariPool", "Pool stats"),
    ("c.e.payments.risk.RiskClient", "Score received"),
];
const SQL: [&str; 11] = [
    "java.sql.SQLTransientConnectionException: HikariPool-1 - Connection is not available, request timed out after 30001ms.",
    "\tat com.zaxxer.hikari.pool.HikariPool.createTimeoutException(HikariPool.java:696)",
    "\tat com.zaxxer.hikari.pool.HikariPool.getConnection(HikariPool.java:197)",
    "\tat com.zaxxer.hikari.HikariDataSource.getConnection(HikariDataSource.java:100)",
    "\tat org.springframework.jdbc.datasource.DataSourceUtils.fetchConnection(DataSourceUtils.java:160)",
    "\tat org.springframework.jdbc.core.JdbcTemplate.execute(JdbcTemplate.java:388)",
    "\tat com.example.payments.ledger.LedgerWriter.book(LedgerWriter.java:74)",
    "\tat com.example.payments.ChargeService.charge(ChargeService.java:131)",
    "Caused by: org.postgresql.util.PSQLException: FATAL: remaining connection slots are reserved",
    "\tat org.postgresql.core.v3.QueryExecutorImpl.receiveErrorResponse(QueryExecutorImpl.java:2676)",
    "\t... 42 more",
];
const NULL: [&str; 8] = [
    "java.lang.NullPointerException: Cannot invoke \"com.example.payments.Card.expiry()\" because \"card\" is null",
    "\tat com.example.payments.risk.RiskClient.describe(RiskClient.java:58)",
    "\tat com.example.payments.risk.RiskClient.score(RiskClient.java:41)",
    "\tat com.example.payments.ChargeService.charge(ChargeService.java:112)",
    "\tat com.example.payments.api.ChargeController.create(ChargeController.java:39)",
    "\tat java.base/jdk.internal.reflect.DirectMethodHandleAccessor.invoke(DirectMethodHandleAccessor.java:103)",
    "\tat org.springframework.web.servlet.FrameworkServlet.service(FrameworkServlet.java:885)",
    "\tat java.base/java.lang.Thread.run(Thread.java:1583)",
];
const TRACES: [&[&str]; 2] = [&SQL, &NULL];

/// The lines of a stack trace that are still to come.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    which: usize,
    next: usize,
}

pub(super) fn write(line: &mut Line<'_>, voice: &mut Voice) {
    if let Some(trace) = &mut voice.trace {
        let lines = TRACES[trace.which];
        line.text(lines[trace.next]);
        trace.next += 1;
        if trace.next == lines.len() {
            voice.trace = None;
        }
        return;
    }
    // One failure brings ten lines with it.
    let failed = line.random.chance(voice.errors_per_mille.div_ceil(3));
    let level = match failed {
        true => "ERROR",
        false => line.random.pick_skewed(&["INFO ", "INFO ", "INFO ", "DEBUG", "WARN "]),
    };
    let (logger, message) = EVENTS[line.random.skewed(6) as usize];
    let thread = line.random.skewed(24);
    line.time_spaced(",").text(" ").text(level).text(" [http-nio-8080-exec-").number(1 + thread);
    line.text("] ").text(logger).text(" - ").text(if failed { "Request failed" } else { message });
    let (cents, offset, millis) =
        (line.random.long_tailed(5400), line.random.below(9_000_000), line.random.long_tailed(45));
    line.text(" charge=ch_").hex(14).text(" merchant=").number(7000 + thread * 13).text(" amount=");
    line.hundredths(cents).text(" offset=").number(offset).text(" traceId=").hex(16).text(" took=");
    line.number(millis).text("ms");
    if failed {
        let which = line.random.below(2) as usize;
        voice.trace = Some(Trace { which, next: 0 });
    }
}
