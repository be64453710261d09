//! `/status` as a page: one document without scripts or anything from elsewhere, readable on a phone,
//! dark where the reader's system is. Pure.
//!
//! Invariant: text that came from outside (paths, labels, errors) is escaped.

use std::fmt::{self, Write};

use super::report::{File, Report};

/// How often a browser asks again, in seconds.
const REFRESH: u32 = 10;

const STYLE: &str = "
:root{color-scheme:light dark;--soft:light-dark(#667,#99a);--line:light-dark(#dde,#334);\
--bad:light-dark(#b00020,#ff8a80);--card:light-dark(#f5f6fa,#1c1e26);\
--page:light-dark(#fff,#12131a);--ink:light-dark(#15171f,#e8e9f0)}
*{box-sizing:border-box}
body{margin:0 auto;max-width:80rem;padding:1rem;background:var(--page);color:var(--ink);\
font:15px/1.45 system-ui,sans-serif}
h1{font-size:1.3rem;margin:0}h2{font-size:1.05rem;margin:1.6rem 0 .5rem}
p{margin:.3rem 0}.soft{color:var(--soft)}.bad{color:var(--bad);font-weight:600}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(9.5rem,1fr));gap:.5rem;margin:1rem 0}
dl div{background:var(--card);border-radius:.5rem;padding:.5rem .7rem}
dt{color:var(--soft);font-size:.8rem}dd{margin:0;font-size:1.15rem;font-variant-numeric:tabular-nums}
ul{margin:.3rem 0;padding-left:1.2rem}
table{border-collapse:collapse;width:100%;font-size:.87rem}
th,td{text-align:left;padding:.3rem .5rem;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--soft);font-weight:600}.n{text-align:right;font-variant-numeric:tabular-nums;\
white-space:nowrap}
td{overflow-wrap:anywhere}small{color:var(--soft)}
@media(max-width:40rem){thead{display:none}tr{display:block;border-bottom:2px solid var(--line);\
padding:.4rem 0}td{display:flex;justify-content:space-between;gap:1rem;border:0;padding:.1rem 0;\
text-align:right}td::before{content:attr(data-h);color:var(--soft);white-space:nowrap}}
";

/// Text from outside, made harmless.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
            f.write_str(&rest[..at])?;
            f.write_str(match rest.as_bytes()[at] {
                b'&' => "&amp;",
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'"' => "&quot;",
                _ => "&#39;",
            })?;
            rest = &rest[at + 1..];
        }
        f.write_str(rest)
    }
}

/// Bytes as people read them.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0 as f64;
        let mut unit = "B";
        for next in ["KiB", "MiB", "GiB", "TiB"] {
            if value < 1024.0 {
                break;
            }
            (value, unit) = (value / 1024.0, next);
        }
        if unit == "B" { write!(f, "{} B", self.0) } else { write!(f, "{value:.1} {unit}") }
    }
}

/// Seconds as people read them.
struct Age(f64);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            s if s < 10.0 => write!(f, "{s:.1} s"),
            s if s < 120.0 => write!(f, "{s:.0} s"),
            s if s < 7200.0 => write!(f, "{:.0} min", s / 60.0),
            s if s < 172_800.0 => write!(f, "{:.0} h", s / 3600.0),
            s => write!(f, "{:.0} d", s / 86_400.0),
        }
    }
}

/// The whole page.
pub(super) fn render(report: &Report) -> String {
    let mut page = String::with_capacity((8 << 10) + report.files.len() * 512);
    write_page(&mut page, report).expect("writing to a string does not fail");
    page
}

fn write_page(out: &mut String, report: &Report) -> fmt::Result {
    let node = Text(&report.node);
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta http-equiv=\"refresh\" content=\"{REFRESH}\"><title>{node} · taffrail-agent</title>\
         <style>{STYLE}</style></head><body>"
    )?;
    let cluster = if report.cluster.is_empty() { "" } else { " in " };
    write!(
        out,
        "<header><h1>{node}<span class=\"soft\">{cluster}{}</span></h1>\
         <p class=\"soft\">taffrail-agent {}, up {}, to {} · {} · \
         <a href=\"/status.json\">JSON</a> · <a href=\"/metrics\">metrics</a></p></header>",
        Text(&report.cluster),
        report.version,
        Age(report.uptime_seconds as f64),
        Text(&report.collector),
        Text(&report.now),
    )?;
    write_problems(out, report)?;
    write_totals(out, report)?;
    write_files(out, report)?;
    write_targets(out, report)?;
    write_counted(out, report)?;
    out.write_str("</body></html>\n")
}

fn write_problems(out: &mut String, report: &Report) -> fmt::Result {
    let config = &report.config;
    let pods = report.pods.problem.iter();
    let lines = (config.problems.iter().map(|p| ("settings, the old ones stay", p.clone())))
        .chain(pods.map(|p| ("pods", p.clone())))
        .chain(report.spool.problem.iter().map(|p| ("spool", p.clone())))
        .chain(report.volume_problems.iter().map(|(w, p)| ("volume", format!("{w}: {p}"))))
        .chain(report.target_problems.iter().map(|(w, p)| ("target", format!("{w}: {p}"))));
    let mut lines = lines.peekable();
    if lines.peek().is_some() {
        out.write_str("<h2 class=\"bad\">Problems</h2><ul>")?;
        for (what, problem) in lines {
            write!(out, "<li><b>{what}</b>: {}</li>", Text(&problem))?;
        }
        out.write_str("</ul>")?;
    }
    if !config.restart_needed.is_empty() {
        let keys = config.restart_needed.join(", ");
        write!(out, "<p>Need a restart to be taken up: <b>{}</b></p>", Text(&keys))?;
    }
    Ok(())
}

fn write_totals(out: &mut String, report: &Report) -> fmt::Result {
    let totals = &report.totals;
    let count = |name: &str| totals.counted.get(name).map_or(0, |value| *value as u64);
    let sum = |name: &str| -> u64 {
        let of = totals.counted.iter().filter(|(key, _)| key.starts_with(name));
        of.map(|(_, value)| *value as u64).sum()
    };
    let lost = sum("taffrail_tail_lost_bytes_total");
    let dropped = sum("taffrail_ship_dropped_lines_total");
    let pods = &report.pods;
    let watch = if pods.synced && pods.problem.is_none() { "in sync" } else { "not in sync" };
    out.write_str("<dl>")?;
    let mut card = |name: &str, value: &dyn fmt::Display, bad: bool| {
        let class = if bad { " class=\"bad\"" } else { "" };
        write!(out, "<div><dt>{name}</dt><dd{class}>{value}</dd></div>")
    };
    card("behind", &Size(totals.lag), false)?;
    card("oldest waits", &Age(totals.lag_seconds), totals.lag_seconds > 60.0)?;
    card("files, open", &format_args!("{}, {}", totals.files, totals.open), false)?;
    card("files with errors", &totals.with_errors, totals.with_errors > 0)?;
    card("lines read", &count("taffrail_tail_lines_total"), false)?;
    card("lines in the store", &count("taffrail_ship_lines_total"), false)?;
    card("lines left out", &dropped, dropped > 0)?;
    card("bytes lost", &Size(lost), lost > 0)?;
    let collector = if report.spool.away { "away" } else { "answers" };
    card("collector", &collector, report.spool.away)?;
    card("spooled", &Size(report.spool.bytes), false)?;
    card(
        "pods",
        &format_args!("{} <small>{}, {watch}</small>", pods.count, pods.origin),
        !pods.synced,
    )?;
    out.write_str("</dl>")
}

fn write_files(out: &mut String, report: &Report) -> fmt::Result {
    write!(out, "<h2>Files</h2>")?;
    if report.files_left_out > 0 {
        let (shown, all) = (report.files.len(), report.files.len() + report.files_left_out);
        write!(
            out,
            "<p class=\"soft\">The worst {shown} of {all}; <a href=\"?limit={all}\">all</a></p>"
        )?;
    }
    out.write_str(
        "<table><thead><tr><th>pod<th>file<th class=\"n\">position<th class=\"n\">size\
         <th class=\"n\">behind<th class=\"n\">for<th>error</tr></thead><tbody>",
    )?;
    for file in &report.files {
        write_file(out, file)?;
    }
    out.write_str("</tbody></table>")
}

fn write_file(out: &mut String, file: &File) -> fmt::Result {
    let empty = String::new();
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    out.write_str("<tr><td data-h=\"pod\"><span>")?;
    if let (Some(namespace), Some(pod)) = (&file.namespace, &file.pod) {
        write!(
            out,
            "{}/{} <small>{}</small>",
            Text(namespace),
            Text(pod),
            Text(&text(&file.part))
        )?;
    }
    let closed = if file.open || file.source.is_empty() { "" } else { ", closed" };
    write!(
        out,
        "</span><td data-h=\"file\"><span>{}<br><small>{}{closed}</small></span>\
         <td class=\"n\" data-h=\"position\">{}<td class=\"n\" data-h=\"size\">{}\
         <td class=\"n\" data-h=\"behind\">{}<td class=\"n\" data-h=\"for\">",
        Text(&file.path),
        Text(&file.source),
        file.position,
        file.size,
        Size(file.lag),
    )?;
    match file.lag_seconds {
        _ if file.lag == 0 => out.write_str("–")?,
        Some(seconds) => write!(out, "{}", Age(seconds))?,
        None => out.write_str("not known")?,
    }
    let error = file.error.as_ref().unwrap_or(&empty);
    writeln!(out, "<td class=\"bad\" data-h=\"error\">{}</tr>", Text(error))
}

fn write_targets(out: &mut String, report: &Report) -> fmt::Result {
    if report.targets.is_empty() {
        return Ok(());
    }
    out.write_str(
        "<h2>Targets</h2><table><thead><tr><th>URL<th>up<th class=\"n\">samples\
         <th class=\"n\">took<th>error</tr></thead><tbody>",
    )?;
    let state = |up| match up {
        Some(true) => "yes",
        Some(false) => "no",
        None => "not yet",
    };
    for target in &report.targets {
        writeln!(
            out,
            "<tr><td data-h=\"URL\">{}<td data-h=\"up\">{}<td class=\"n\" data-h=\"samples\">{}\
             <td class=\"n\" data-h=\"took\">{:.3} s<td class=\"bad\" data-h=\"error\">{}</tr>",
            Text(&target.url),
            state(target.up),
            target.samples,
            target.duration,
            Text(target.error.as_deref().unwrap_or_default()),
        )?;
    }
    out.write_str("</tbody></table>")
}

/// The counters of the log path, spool included when there is one.
fn write_counted(out: &mut String, report: &Report) -> fmt::Result {
    out.write_str("<details><summary>Counters</summary><table><tbody>")?;
    for (name, value) in &report.totals.counted {
        write!(out, "<tr><td data-h=\"\">{}<td class=\"n\" data-h=\"\">{value}</tr>", Text(name))?;
    }
    out.write_str("</tbody></table></details>")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::reload::ConfigStatus;
    use crate::status::report::{PodsStatus, SpoolStatus, Totals};

    fn report(files: Vec<File>) -> Report {
        Report {
            version: "1",
            node: "<n>".into(),
            cluster: "lab".into(),
            collector: "http://c".into(),
            now: "2026-11-20T00:00:00Z".into(),
            uptime_seconds: 125,
            config: ConfigStatus {
                problems: vec!["f:1:1: unknown key \"<b>\"".into()],
                restart_needed: vec!["node"],
                ..ConfigStatus::default()
            },
            pods: PodsStatus { origin: "file", synced: true, count: 3, problem: None },
            totals: Totals::default(),
            spool: SpoolStatus::default(),
            files,
            files_left_out: 7,
            volume_problems: BTreeMap::new(),
            annotation_problems: Vec::new(),
            targets: Vec::new(),
            target_problems: BTreeMap::new(),
        }
    }

    /// Every element that needs an end has one, in order; the others are those whose end may be left
    /// out.
    fn check_nesting(page: &str) {
        let mut open = Vec::new();
        for piece in page.split('<').skip(1) {
            let (tag, _) = piece.split_once('>').expect("a tag ends");
            let name = tag.trim_start_matches('/').split([' ', '\n']).next().unwrap_or_default();
            match name {
                "!DOCTYPE" | "meta" | "br" | "td" | "th" => {}
                _ if tag.starts_with('/') => assert_eq!(open.pop(), Some(name), "{piece}"),
                _ => open.push(name),
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }

    #[test]
    fn text_from_outside_is_harmless() {
        let file = File {
            path: "/var/<script>alert(1)</script>".into(),
            namespace: Some("a&b".into()),
            pod: Some("'p'".into()),
            lag: 2048,
            lag_seconds: Some(75.0),
            error: Some("\"no\"".into()),
            ..File::default()
        };
        let page = render(&report(vec![file]));
        check_nesting(&page);
        assert!(!page.contains("<script") && !page.contains("<n>") && !page.contains("<b>\""));
        for part in ["&lt;script&gt;", "a&amp;b/&#39;p&#39;", "2.0 KiB", "75 s", "&quot;no&quot;"] {
            assert!(page.contains(part), "{part} in {page}");
        }
        for part in ["The worst 1 of 8", "&lt;n&gt; · taffrail-agent", "restart", "up 2 min"] {
            assert!(page.contains(part), "{part} in {page}");
        }
    }

    #[test]
    fn sizes_and_ages() {
        let sizes = [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")];
        for (bytes, text) in sizes {
            assert_eq!(Size(bytes).to_string(), text);
        }
        let ages =
            [(0.0, "0.0 s"), (61.0, "61 s"), (300.0, "5 min"), (7300.0, "2 h"), (4e5, "5 d")];
        for (seconds, text) in ages {
            assert_eq!(Age(seconds).to_string(), text);
        }
    }

    #[test]
    fn many_files_are_a_page_of_bounded_size() {
        let file = File { path: "/var/log/pods/n_p_u/c/0.log".into(), ..File::default() };
        let page = render(&report(vec![file; 5000]));
        assert!(page.len() < 3 << 20, "{}", page.len());
        check_nesting(&page);
    }
}
